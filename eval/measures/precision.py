from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..engine import Joined
from ..measure import Measure, register_measure


@register_measure("P", "precision")
@dataclass(frozen=True, repr=False)
class Precision(Measure):
    """Precision: relevant documents among the best k, over k, also for a shorter list (trec_eval's P).

    `rel` is the lowest label that counts as relevant; `judged_only` drops documents without judgement first.
    """

    takes_cutoff = "required"
    rel: int = 1
    judged_only: bool = False

    def values(self, joined: Joined) -> np.ndarray:
        view = joined.judged_only if self.judged_only else joined
        query, _ = view.relevant(self.rel, self.cutoff)
        return view.count(query) / float(self.cutoff or 1)
