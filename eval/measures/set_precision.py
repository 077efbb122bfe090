"""Precision of the whole list as a set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined, divide
from ..measure import Measure
from .set_f import set_counts


@register("SetP")
@dataclass(frozen=True, repr=False)
class SetPrecision(Measure):
    """Precision of the whole list as a set: relevant documents returned, over those returned (trec_eval's set_P).

    0 for an empty list, also where nothing is relevant; `eval.set_measures` has the other convention and the pooled ones.

    With a cutoff the set is the best k. `rel` is the lowest label that counts as relevant.
    """

    aliases = ("set_P",)
    rel: int = 1

    def values(self, joined: Joined) -> np.ndarray:
        found, returned, _ = set_counts(joined, self.rel, self.cutoff)
        return divide(found, returned)
