"""Recall after a share of the collection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined, divide
from ..measure import Measure
from .work_saved import screened


@register("RecallPercent")
@dataclass(frozen=True, repr=False)
class RecallPercent(Measure):
    """Recall after reading k % of the documents, a share that is rounded down to whole documents (CLEF-TAR's NCG@k).

    The share is of the judged documents, or of those retrieved where they are more. Where their number is a multiple of
    ten CLEF-TAR's own script gives the value of the step before. `rel` is the lowest label that counts as relevant.
    """

    aliases = ("NCG",)
    takes_cutoff = "required"
    percent = True
    rel: int = 1

    def values(self, joined: Joined) -> np.ndarray:
        read = screened(joined) * (self.cutoff or 100) // 100
        query, rank = joined.relevant(self.rel)
        return divide(joined.count(query[rank <= read[query]]), joined.num_relevant(self.rel))
