"""Area under the curve of relevant documents found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined, divide
from ..measure import Measure
from .work_saved import screened


@register("NormArea")
@dataclass(frozen=True, repr=False)
class NormArea(Measure):
    """Area under the curve of relevant documents found over documents read, over the ideal's (CLEF-TAR's norm_area).

    A relevant document at rank r adds N - r + ½; the ideal is R · N - R² / 2, N being the judged documents, or those
    retrieved where they are more. `rel` is the lowest label that counts as relevant.
    """

    aliases = ("norm_area",)
    takes_cutoff = "none"
    rel: int = 1

    def values(self, joined: Joined) -> np.ndarray:
        size, relevant = screened(joined), joined.num_relevant(self.rel)
        query, rank = joined.relevant(self.rel)
        return divide(joined.total(query, size[query] - rank + 0.5), relevant * size - relevant**2 / 2)
