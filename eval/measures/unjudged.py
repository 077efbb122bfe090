"""Unjudged: share of the best k that has no judgement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined
from ..measure import Measure


@register("Unjudged")
@dataclass(frozen=True, repr=False)
class Unjudged(Measure):
    """Unjudged documents among the best k, over k also for a shorter list, whose missing places count as judged
    (trec_eval 10's unj_k). A negative label counts as unjudged.

    The denominator differs from Judged's, which is min(k, retrieved): over full lists the two add up to 1.
    """

    aliases = ("unj",)
    takes_cutoff = "required"
    merit = "none"

    def values(self, joined: Joined) -> np.ndarray:
        cutoff = self.cutoff or 1
        query, _ = joined.relevant(0, cutoff)
        return (np.minimum(joined.retrieved, cutoff) - joined.count(query)) / float(cutoff)
