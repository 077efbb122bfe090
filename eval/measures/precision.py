"""Precision: share of the best k that is relevant."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined
from ..measure import Measure


@register("P")
@dataclass(frozen=True, repr=False)
class Precision(Measure):
    """Precision: relevant documents among the best k, over k, also for a shorter list (trec_eval's P).

    `rel` is the lowest label that counts as relevant; `judged_only` drops documents without judgement first.
    """

    aliases = ("precision",)
    takes_cutoff = "required"
    rel: int = 1
    judged_only: bool = False

    def values(self, joined: Joined) -> np.ndarray:
        view = joined.condensed if self.judged_only else joined
        query, _ = view.relevant(self.rel, self.cutoff)
        return view.count(query) / float(self.cutoff or 1)
