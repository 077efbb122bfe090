"""Expected reciprocal rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import InputError, UsageError
from ...registry import register
from ..engine import Joined, place
from ..measure import Measure


@register("ERR")
@dataclass(frozen=True, repr=False)
class ExpectedReciprocalRank(Measure):
    """Expected reciprocal rank: Σ 1 / rank · P(the user stops there), who is satisfied by a document of label g with
    probability (2^g - 1) / 2^`top` (Chapelle et al. 2009). `top` is the scale's highest label, 4 as in gdeval.

    `judged_only` drops documents without judgement first. Raises `InputError` for a label above `top`.
    """

    top: int = 4
    judged_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.top, bool) or not isinstance(self.top, int) or not 1 <= self.top <= 62:
            raise UsageError(f"ERR(top={self.top!r}): expected the scale's highest label, a whole number >= 1")

    def values(self, joined: Joined) -> np.ndarray:
        if len(joined.pool_label) and joined.pool_label.max() > self.top:
            raise InputError(
                f"ERR(top={self.top}): the judgements go up to {joined.pool_label.max()}: name the scale's highest label as top"
            )
        view = joined.condensed if self.judged_only else joined
        query, rank = view.relevant(1, self.cutoff)
        label = view.label[(view.label >= 1) & (view.rank <= (self.cutoff or view.rank.max(initial=0)))]
        stop = (np.exp2(label) - 1) / 2.0**self.top
        return view.total(query, stop * _still_reading(query, 1 - stop) / rank)


def _still_reading(query: np.ndarray, go_on: np.ndarray) -> np.ndarray:
    """Product of `go_on` (n,) over the rows of the same query above each."""
    reading = np.ones(len(query))
    column = place(query)
    for at in range(2, int(column.max(initial=0)) + 1):
        rows = np.flatnonzero(column == at)
        reading[rows] = reading[rows - 1] * go_on[rows - 1]
    return reading
