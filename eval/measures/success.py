"""Success: whether a relevant document is found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined
from ..measure import Measure


@register("Success")
@dataclass(frozen=True, repr=False)
class Success(Measure):
    """Success: 1 if a relevant document is among the best k, else 0 (trec_eval's success).

    `rel` is the lowest label that counts as relevant; `judged_only` drops documents without judgement first.
    """

    takes_cutoff = "required"
    rel: int = 1
    judged_only: bool = False

    def values(self, joined: Joined) -> np.ndarray:
        view = joined.condensed if self.judged_only else joined
        query, _ = view.relevant(self.rel, self.cutoff)
        return (view.count(query) > 0).astype(np.float64)
