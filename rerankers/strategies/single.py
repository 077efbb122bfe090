"""One call over all candidates."""

from __future__ import annotations

from dataclasses import dataclass

from ...registry import register
from . import Sorted, Sorting, Strategy, arranged
from .heaps import with_rest


@register("single")
@dataclass
class Single(Strategy):
    """Full ranking (Liu et al., ACL 2025, arXiv 2412.14574): all candidates in one list, one call.

    With `top` only so many from the answer's head are taken; the others keep their given order beneath. A judge with an
    option of that name then need not write more.
    """

    top: int | None = None

    verb = "order"

    def __post_init__(self) -> None:
        if self.top is not None:
            self._check_numbers(top=1)

    def planned(self, n: int) -> tuple[int, int]:
        return int(n > 1), int(n > 1)

    def shown_at_once(self, n: int) -> int:
        return n

    def sort(self, n: int) -> Sorting:
        if n < 2:
            return Sorted(list(range(n)))
        ask = tuple(range(n))
        (answer,) = yield [ask]
        return Sorted(with_rest(arranged(ask, answer)[: self.top], n))
