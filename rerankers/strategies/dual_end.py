"""Both ends at once: the best and the worst of all that are not ranked yet."""

from __future__ import annotations

from dataclasses import dataclass

from ...registry import register
from ..judges import Answer
from . import Ask, Sorted, Sorting, Strategy


@register("dual-end")
@dataclass
class DualEnd(Strategy):
    """DualEnd over the whole pool (arXiv 2606.01782): each call names the best and the worst of the unranked documents.

    With `k` it ends when the best `k` (and the worst `k`) stand; those between keep their given order. Where an answer
    names no best the first shown is taken, where it names no worst (or the best again) the last.

    n // 2 calls, or `k` if that is fewer, each after the other; all unranked documents are shown, so the judge must be
    able to name n of them.
    """

    k: int | None = None

    verb = "ends"

    def __post_init__(self) -> None:
        if self.k is not None:
            self._check_numbers(k=1)

    def planned(self, n: int) -> tuple[int, int]:
        calls = n // 2 if self.k is None else min(n // 2, self.k)
        return calls, calls

    def sort(self, n: int) -> Sorting:
        head: list[int] = []
        tail: list[int] = []
        pool = list(range(n))
        for _ in range(self.planned(n)[0]):
            (answer,) = yield [tuple(pool)]
            best, worst = _ends(tuple(pool), answer)
            head.append(best)
            tail.append(worst)
            pool = [position for position in pool if position not in (best, worst)]
        return Sorted(head + pool + tail[::-1])


def _ends(ask: Ask, answer: Answer) -> tuple[int, int]:
    best = ask[answer.order[0]] if answer.order else ask[0]
    worst = ask[answer.order[-1]] if len(answer.order) > 1 else ask[-1]
    if worst == best:
        worst = ask[-1] if ask[-1] != best else ask[-2]
    return best, worst
