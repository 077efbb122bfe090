"""F measure of the returned set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import UsageError
from ...registry import register
from ..engine import Joined, divide
from ..measure import Measure


@register("SetF")
@dataclass(frozen=True, repr=False)
class SetF(Measure):
    """F measure of the whole list as a set: (1 + β²) P R / (β² P + R), with β² = `beta` squared (trec_eval's set_F).

    0 where the list is empty or nothing is relevant. With a cutoff the set is the best k. `rel` is the lowest label that
    counts as relevant.
    """

    aliases = ("set_F",)
    beta: float = 1.0
    rel: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.beta, bool) or not isinstance(self.beta, int | float) or not self.beta > 0:
            raise UsageError(f"SetF(beta={self.beta!r}): expected a number above 0, e.g. SetF(beta=2)")

    def values(self, joined: Joined) -> np.ndarray:
        found, returned, relevant = set_counts(joined, self.rel, self.cutoff)
        square = float(self.beta) ** 2
        return divide((1 + square) * found, square * relevant + returned)


def set_counts(joined: Joined, rel: int, cutoff: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Relevant documents returned, documents returned and relevant documents of each query: three (q,) int64."""
    query, _ = joined.relevant(rel, cutoff)
    returned = joined.retrieved if cutoff is None else np.minimum(joined.retrieved, cutoff)
    return joined.count(query), returned, joined.num_relevant(rel)
