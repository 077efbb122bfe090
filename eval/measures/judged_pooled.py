"""JudgedPooled: share of all queries' best k together that has a judgement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined, divide
from ..measure import Measure


@register("JudgedPooled")
@dataclass(frozen=True, repr=False)
class JudgedPooled(Measure):
    """The share of all queries' best k documents together that has a judgement (pyserini's judged.k). Any label counts.

    One share for the whole run: a query's value is its number of judged documents over the mean length of the lists, so
    that their mean is that share and a long list weighs more than a short one.
    """

    takes_cutoff = "required"
    merit = "none"

    def values(self, joined: Joined) -> np.ndarray:
        cutoff = self.cutoff or 1
        judged = joined.count(joined.query[joined.rank <= cutoff]).astype(np.float64)
        listed = np.minimum(joined.retrieved, cutoff)
        return divide(judged, np.full(len(judged), listed.mean()))
