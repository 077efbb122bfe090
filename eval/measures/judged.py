"""Judged: share of the best k that has a judgement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined, divide
from ..measure import Measure


@register("Judged")
@dataclass(frozen=True, repr=False)
class Judged(Measure):
    """Judged: the share of the best min(k, retrieved) documents that has a judgement; 0 for an empty list.

    A negative label means that the document was pooled but not judged, so it counts as unjudged. Low values beside a
    high nDCG mean that the judgements do not know this kind of system.
    """

    takes_cutoff = "required"
    merit = "none"

    def values(self, joined: Joined) -> np.ndarray:
        query, _ = joined.relevant(0, self.cutoff)
        return divide(joined.count(query), np.minimum(joined.retrieved, self.cutoff or 0))
