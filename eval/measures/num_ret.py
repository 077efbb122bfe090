"""Number of documents retrieved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined
from ..measure import Measure


@register("NumRet")
@dataclass(frozen=True, repr=False)
class NumRetrieved(Measure):
    """Documents retrieved; summed over queries (trec_eval's num_ret)."""

    aliases = ("num_ret",)
    takes_cutoff = "none"
    aggregate = "sum"

    def values(self, joined: Joined) -> np.ndarray:
        return joined.retrieved.astype(np.float64)
