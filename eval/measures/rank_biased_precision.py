"""Rank-biased precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import UsageError
from ...registry import register
from ..engine import Joined
from ..measure import Measure


@register("RBP")
@dataclass(frozen=True, repr=False)
class RankBiasedPrecision(Measure):
    """Rank-biased precision: (1 - p) Σ p^(rank - 1) over the relevant documents (Moffat & Zobel 2008), by a user who goes
    on to the next document with probability `p`. Labels count as relevant or not, from `rel` on.

    What documents without judgement could add is `RBPResidual`. `judged_only` drops them first.
    """

    p: float = 0.8
    rel: int = 1
    judged_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_persistence("RBP", self.p)

    def values(self, joined: Joined) -> np.ndarray:
        view = joined.condensed if self.judged_only else joined
        query, rank = view.relevant(self.rel, self.cutoff)
        return view.total(query, (1 - self.p) * self.p ** (rank - 1.0))


def check_persistence(measure: str, p: float) -> None:
    if isinstance(p, bool) or not isinstance(p, int | float) or not 0 < p < 1:
        raise UsageError(f"{measure}(p={p!r}): expected a probability between 0 and 1, e.g. {measure}(p=0.8)")
