"""Setwise heap sort: one call finds the best of a parent and its children."""

from __future__ import annotations

from dataclasses import dataclass

from ...registry import register
from . import Asking, Sorted, Sorting, Strategy, picked
from .heaps import heap_top, with_rest


@register("setwise-heapsort")
@dataclass
class SetwiseHeapsort(Strategy):
    """Setwise (Zhuang et al., SIGIR 2024, arXiv 2310.09497): the best `k` by a heap, the others in their given order.

    A call shows a parent and its `children` (so one document more), parent first; where the answer names none, the
    parent stays. The comparisons are those of ielab/llm-rankers' setwise.py. How many there are depends on the answers.
    """

    children: int = 3
    k: int = 10

    verb = "choose"

    def __post_init__(self) -> None:
        self._check_numbers(children=1, k=1)

    def planned(self, n: int) -> None:
        return None

    def shown_at_once(self, n: int) -> int:
        return self.children + 1

    def sort(self, n: int) -> Sorting:
        top = yield from heap_top(n, self.k, self.children, self._best)
        return Sorted(with_rest(top, n))

    def _best(self, documents: list[int]) -> Asking[int]:
        ask = tuple(documents)
        (answer,) = yield [ask]
        return documents.index(picked(ask, answer))
