"""Pointwise: every document by itself, sorted by its score."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ...registry import register
from . import Sorted, Sorting, Strategy


@register("pointwise")
@dataclass
class Pointwise(Strategy):
    """Sorts by the judge's scores; ties keep their given order.

    n calls, depth 1. Documents whose score the judge could not read stand beneath all others, in their given order and
    with the lowest score.
    """

    verb = "score"
    score_kind = "logit"

    def planned(self, n: int) -> tuple[int, int]:
        return n, min(n, 1)

    def sort(self, n: int) -> Sorting:
        answers = yield [(position,) for position in range(n)]
        scores = [answer.scores[0] if answer.scores else math.nan for answer in answers]
        lowest = min((score for score in scores if not math.isnan(score)), default=0.0)
        order = sorted(range(n), key=lambda p: (math.isnan(scores[p]), -scores[p]))
        return Sorted(order, [lowest if math.isnan(scores[p]) else scores[p] for p in order])
