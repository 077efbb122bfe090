"""Recall: share of the relevant documents that is found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined, divide
from ..measure import Measure


@register("R")
@dataclass(frozen=True, repr=False)
class Recall(Measure):
    """Recall: the share of the relevant documents that is among the best k (trec_eval's recall).

    0 for a query without relevant documents. `rel` is the lowest label that counts as relevant; `judged_only` drops
    documents without judgement first.
    """

    aliases = ("recall",)
    takes_cutoff = "required"
    rel: int = 1
    judged_only: bool = False

    def values(self, joined: Joined) -> np.ndarray:
        view = joined.condensed if self.judged_only else joined
        query, _ = view.relevant(self.rel, self.cutoff)
        return divide(view.count(query), view.num_relevant(self.rel))
