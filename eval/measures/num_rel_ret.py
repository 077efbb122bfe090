"""Number of relevant documents retrieved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined
from ..measure import Measure


@register("NumRelRet")
@dataclass(frozen=True, repr=False)
class NumRelevantRetrieved(Measure):
    """Relevant documents retrieved; summed over queries (trec_eval's num_rel_ret)."""

    aliases = ("num_rel_ret",)
    takes_cutoff = "none"
    aggregate = "sum"
    rel: int = 1

    def values(self, joined: Joined) -> np.ndarray:
        return joined.count(joined.relevant(self.rel)[0]).astype(np.float64)
