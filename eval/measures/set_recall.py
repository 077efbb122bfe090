"""Recall of the whole list as a set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined, divide
from ..measure import Measure
from .set_f import set_counts


@register("SetR")
@dataclass(frozen=True, repr=False)
class SetRecall(Measure):
    """Recall of the whole list as a set: relevant documents returned, over all relevant ones (trec_eval's set_recall). 0
    for a query without relevant documents.

    With a cutoff the set is the best k. `rel` is the lowest label that counts as relevant.
    """

    aliases = ("set_recall",)
    rel: int = 1

    def values(self, joined: Joined) -> np.ndarray:
        found, _, relevant = set_counts(joined, self.rel, self.cutoff)
        return divide(found, relevant)
