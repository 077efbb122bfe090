"""Heap sort by pairwise comparisons: the best few in order for n log n calls."""

from __future__ import annotations

from dataclasses import dataclass

from ...registry import register
from . import Asking, Sorted, Sorting, Strategy
from .heaps import heap_top, with_rest
from .pairs import AGGREGATES, both_orders, verdict


@register("heapsort")
@dataclass
class Heapsort(Strategy):
    """PRP-Sorting (Qin et al. 2023, arXiv 2306.17563): the best `k` by a binary heap, the others in their given order.

    A document beats another when both orders of the pair name it (`aggregate` wins), or when its probability is higher
    over both (`aggregate` probability, for judges that give it). On a tie the one with the better given rank wins, so
    that a model that always says A changes nothing. `compat` ielab lets the parent win a tie, as
    ielab/llm-rankers' pairwise.py does: all ties then turn the order of the documents after the first around.

    Two calls for a comparison, asked together; how many comparisons depends on the answers.
    """

    k: int = 10
    aggregate: str = "wins"
    compat: str = ""

    verb = "prefer"

    def __post_init__(self) -> None:
        self._check_numbers(k=1)
        self._check_word("aggregate", AGGREGATES)
        self._check_word("compat", ("", "ielab"))

    def planned(self, n: int) -> None:
        return None

    def sort(self, n: int) -> Sorting:
        top = yield from heap_top(n, self.k, 2, self._best)
        return Sorted(with_rest(top, n))

    def _best(self, documents: list[int]) -> Asking[int]:
        best = 0
        for i in range(1, len(documents)):
            challenger, champion = documents[i], documents[best]
            there, back = yield both_orders(challenger, champion)
            result = verdict(there, back, self.aggregate)
            if result > 0 or (result == 0 and challenger < champion and self.compat != "ielab"):
                best = i
        return best
