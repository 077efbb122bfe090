"""Average precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined, divide, place
from ..measure import Measure


@register("AP")
@dataclass(frozen=True, repr=False)
class AveragePrecision(Measure):
    """Average precision: the mean over all relevant documents of the precision at their ranks, 0 for those not found.

    With a cutoff the divisor stays the number of relevant documents (trec_eval's map and map_cut). `rel` is the lowest
    label that counts as relevant; `judged_only` drops documents without judgement first.
    """

    aliases = ("MAP", "map_cut")
    rel: int = 1
    judged_only: bool = False

    def values(self, joined: Joined) -> np.ndarray:
        view = joined.condensed if self.judged_only else joined
        query, rank = view.relevant(self.rel, self.cutoff)
        return divide(view.total(query, place(query) / rank), view.num_relevant(self.rel))
