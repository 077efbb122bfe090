"""Recall that a short list can reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined, divide
from ..measure import Measure


@register("CappedR")
@dataclass(frozen=True, repr=False)
class CappedRecall(Measure):
    """Capped recall: relevant documents among the best k, over min(k, R), so that the best list has 1 (BEIR's R_cap, for
    TREC-COVID). 0 for a query without relevant documents.

    `rel` is the lowest label that counts as relevant; `judged_only` drops documents without judgement first.
    """

    aliases = ("R_cap", "recall_cap")
    takes_cutoff = "required"
    rel: int = 1
    judged_only: bool = False

    def values(self, joined: Joined) -> np.ndarray:
        view = joined.condensed if self.judged_only else joined
        query, _ = view.relevant(self.rel, self.cutoff)
        return divide(view.count(query), np.minimum(view.num_relevant(self.rel), self.cutoff or 1))
