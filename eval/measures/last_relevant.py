"""Rank of the last relevant document."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined
from ..measure import Measure


@register("LastRel")
@dataclass(frozen=True, repr=False)
class LastRelevant(Measure):
    """Rank of the last relevant document that is found, 0 for none (CLEF-TAR's last_rel). Lower is better, so it is shown
    beside WSS@100 and not tested. `rel` is the lowest label that counts as relevant.
    """

    aliases = ("last_rel",)
    takes_cutoff = "none"
    merit = "lower"
    rel: int = 1

    def values(self, joined: Joined) -> np.ndarray:
        query, rank = joined.relevant(self.rel)
        last = np.zeros(len(joined.query_ids))
        last[query] = rank  # rows are sorted by rank, and the last assignment stays
        return last
