"""What rank-biased precision does not know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined
from ..measure import Measure
from .rank_biased_precision import check_persistence


@register("RBPResidual")
@dataclass(frozen=True, repr=False)
class RBPResidual(Measure):
    """Residual of rank-biased precision: what RBP would gain at most if every document without a judgement, and every one
    beneath the list's end, were relevant (Moffat & Zobel 2008). Shown, not tested: it says how far to believe RBP.
    """

    merit = "none"
    p: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_persistence("RBPResidual", self.p)

    def values(self, joined: Joined) -> np.ndarray:
        query, rank = joined.relevant(0, self.cutoff)
        return 1 - joined.total(query, (1 - self.p) * self.p ** (rank - 1.0))
