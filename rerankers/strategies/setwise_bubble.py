"""Setwise bubble sort: windows from the bottom to the top, each puts its best first."""

from __future__ import annotations

from dataclasses import dataclass

from ...registry import register
from . import Asking, Sorted, Sorting, Strategy, picked
from .heaps import with_rest
from .rounds import bubble_windows, in_rounds


@register("setwise-bubble")
@dataclass
class SetwiseBubble(Strategy):
    """Setwise bubble sort (Zhuang et al., SIGIR 2024, arXiv 2310.09497): the best `k`, the others in their given order.

    A window shows `children` + 1 documents and changes its best with its first; the next one ends where it begins. Pass
    i settles rank i. Where an answer names none, the first stays. `compat` ielab begins a pass where
    ielab/llm-rankers' setwise.py does: windows at the bottom that the last pass left alone are skipped, and after a
    change in a topmost window that was cut short the windows are no longer aligned, so documents can be missed.

    Σ_{i < min(k, n - 1)} ⌈(n - 1 - i) / children⌉ calls. A pass runs two windows behind the one before, with the result
    that they would have one after another. With `compat` ielab calls and depth depend on the answers.
    """

    children: int = 3
    k: int = 10
    compat: str = ""

    verb = "choose"

    def __post_init__(self) -> None:
        self._check_numbers(children=1, k=1)
        self._check_word("compat", ("", "ielab"))

    def planned(self, n: int) -> tuple[int, int] | None:
        if self.compat == "ielab":
            return None
        windows = bubble_windows(n, self.k, self.children)
        return len(windows), len(in_rounds(windows))

    def shown_at_once(self, n: int) -> int:
        return self.children + 1

    def sort(self, n: int) -> Sorting:
        order = list(range(n))
        if self.compat == "ielab":
            yield from self._skipping(order)
        else:
            for windows in in_rounds(bubble_windows(n, self.k, self.children)):
                asks = [tuple(order[start:stop]) for start, stop in windows]
                answers = yield asks
                for (start, _), ask, answer in zip(windows, asks, answers, strict=True):
                    _exchange(order, start, order.index(picked(ask, answer)))
        return Sorted(with_rest(order[: self.k], n))

    def _skipping(self, order: list[int]) -> Asking[None]:
        """The passes with ielab's rule for where the next one begins; windows of one document are not asked."""
        lowest = len(order) - (self.children + 1)
        resume = lowest
        for settled in range(min(self.k, len(order))):
            start, stop, changed = resume, resume + self.children + 1, False
            while True:
                start = max(start, settled)
                ask = tuple(order[start:stop])
                best = 0
                if len(ask) > 1:
                    (answer,) = yield [ask]
                    best = ask.index(picked(ask, answer))
                if best and not changed:
                    changed = True
                    if resume != lowest and best == len(ask) - 1:
                        resume += best
                _exchange(order, start, start + best)
                if start == settled:
                    break
                if not changed:
                    resume -= self.children
                start, stop = start - self.children, stop - self.children


def _exchange(order: list[int], i: int, j: int) -> None:
    order[i], order[j] = order[j], order[i]
