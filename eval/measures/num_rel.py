"""Number of relevant documents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined
from ..measure import Measure


@register("NumRel")
@dataclass(frozen=True, repr=False)
class NumRelevant(Measure):
    """Relevant documents that the judgements know; summed over queries (trec_eval's num_rel)."""

    aliases = ("num_rel",)
    takes_cutoff = "none"
    aggregate = "sum"
    rel: int = 1

    def values(self, joined: Joined) -> np.ndarray:
        return joined.num_relevant(self.rel).astype(np.float64)
