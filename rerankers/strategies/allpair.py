"""All pairs: every document against every other, and the wins counted."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

from ...errors import UsageError
from ...registry import register
from ..judges import Answer
from . import Ask, Sorted, Sorting, Strategy
from .pairs import AGGREGATES, first_wins, verdict


@register("allpair")
@dataclass
class AllPair(Strategy):
    """PRP-Allpair (Qin et al. 2023, arXiv 2306.17563): a document's score is its wins and half of its ties.

    `aggregate` is wins (a win needs both orders of a pair), or probability: the sum over pairs of the probability of
    being the better one, for judges that give it (SYM-SUM of duoT5; Pradeep et al. 2021, arXiv 2101.05667). `orders` is
    2, or 1 to ask each pair only in its given order, as rank_llm does with duoT5: half the calls, and a bias of the
    model towards one place counts in full. Ties in the score go by given rank.

    n(n - 1) calls, half of that with one order; depth 1.
    """

    aggregate: str = "wins"
    orders: int = 2

    verb = "prefer"
    score_kind = "votes"

    def __post_init__(self) -> None:
        self._check_word("aggregate", AGGREGATES)
        if self.orders not in (1, 2):
            raise UsageError(f"allpair: orders is {self.orders!r}, expected 2, or 1 to ask each pair only once")

    def planned(self, n: int) -> tuple[int, int]:
        return n * (n - 1) * self.orders // 2, int(n > 1)

    def sort(self, n: int) -> Sorting:
        asks: list[Ask] = [(a, b) for a in range(n) for b in range(n) if a < b or (a > b and self.orders == 2)]
        answers = yield asks
        given = dict(zip(asks, answers, strict=True))
        scores = [0.0] * n
        for a, b in combinations(range(n), 2):
            share = self._share(given[a, b], given.get((b, a)))
            scores[a] += share
            scores[b] += self._points - share
        order = sorted(range(n), key=lambda p: -scores[p])
        return Sorted(order, [scores[p] for p in order])

    @property
    def _points(self) -> int:
        """What the two documents of a pair get together."""
        return self.orders if self.aggregate == "probability" else 1

    def _share(self, there: Answer, back: Answer | None) -> float:
        """The points that the first of a pair gets; `back` answered the pair turned around."""
        if self.aggregate == "probability":
            return first_wins(there) + (1 - first_wins(back) if back else 0)
        if back is not None:
            return (1 + verdict(there, back, self.aggregate)) / 2
        return float(there.order[0] == 0) if there.order else 0.5
