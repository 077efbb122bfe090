"""Machine: share of the labels that a machine gave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined, divide
from ..measure import Measure


@register("Machine")
@dataclass(frozen=True, repr=False)
class Machine(Measure):
    """The share of a score's labels that a machine gave (`cribble judge`): of those of the best k documents and those of
    all relevant ones (label >= `rel`), found or not, which ideal lists and recall rest on. 0 where there are none.
    What stands beside every score on such judgements.
    """

    merit = "none"
    rel: int = 1

    def values(self, joined: Joined) -> np.ndarray:
        keep = (joined.label >= 0) & (joined.rank <= (self.cutoff or joined.rank.max(initial=0)))
        used = joined.pool_label >= self.rel
        used[joined.judgement[keep]] = True
        marked = used & joined.qrels.machine
        return divide(joined.count(joined.pool_query[marked]).astype(np.float64), joined.count(joined.pool_query[used]))
