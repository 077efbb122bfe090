"""R-precision: precision at the number of relevant documents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined, divide
from ..measure import Measure


@register("Rprec")
@dataclass(frozen=True, repr=False)
class RPrecision(Measure):
    """R-precision: precision at R, the number of the query's relevant documents (trec_eval's Rprec).

    `rel` is the lowest label that counts as relevant; `judged_only` drops documents without judgement first.
    """

    takes_cutoff = "none"
    rel: int = 1
    judged_only: bool = False

    def values(self, joined: Joined) -> np.ndarray:
        view = joined.condensed if self.judged_only else joined
        query, rank = view.relevant(self.rel)
        relevant = view.num_relevant(self.rel)
        return divide(view.count(query[rank <= relevant[query]]), relevant)
