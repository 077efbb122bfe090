"""Bubble sort by pairwise comparisons: each pass carries the best that it meets up."""

from __future__ import annotations

from dataclasses import dataclass

from ...registry import register
from ..judges import Answer
from . import Asking, Sorted, Sorting, Strategy
from .heaps import with_rest
from .pairs import AGGREGATES, both_orders, verdict
from .rounds import bubble_windows, in_rounds


@register("bubble")
@dataclass
class Bubble(Strategy):
    """PRP-Sliding-K (Qin et al. 2023, arXiv 2306.17563): `k` passes over adjacent pairs from the bottom to the top.

    The lower document of a pair moves up when both orders of the pair name it (`aggregate` wins), or when its
    probability is higher over both (`aggregate` probability, for judges that give it). Pass i settles rank i and stops
    there; k >= n - 1 sorts all. Beneath the best `k` the list stays as the passes leave it. `compat` ielab does as
    ielab/llm-rankers' pairwise.py: pairs at the bottom that the last pass left alone are not asked again, one pass
    follows the other, and beneath the best `k` the given order is restored.

    2 · Σ_{i < min(k, n - 1)} (n - 1 - i) calls. A pass runs two pairs behind the one before, with the result that they
    would have one after another, so the depth is n + k - 2 (k < n). With `compat` ielab both depend on the answers.
    """

    k: int = 10
    aggregate: str = "wins"
    compat: str = ""

    verb = "prefer"

    def __post_init__(self) -> None:
        self._check_numbers(k=1)
        self._check_word("aggregate", AGGREGATES)
        self._check_word("compat", ("", "ielab"))

    def planned(self, n: int) -> tuple[int, int] | None:
        if self.compat == "ielab":
            return None
        windows = bubble_windows(n, self.k, 1)
        return 2 * len(windows), len(in_rounds(windows))

    def sort(self, n: int) -> Sorting:
        order = list(range(n))
        if self.compat == "ielab":
            yield from self._skipping(order)
            return Sorted(with_rest(order[: self.k], n))
        for windows in in_rounds(bubble_windows(n, self.k, 1)):
            pairs = [both_orders(order[upper + 1], order[upper]) for upper, _ in windows]
            answers = yield [ask for pair in pairs for ask in pair]
            for i, (upper, _) in enumerate(windows):
                self._settle(order, upper, answers[2 * i : 2 * i + 2])
        return Sorted(order)

    def _settle(self, order: list[int], upper: int, answers: list[Answer]) -> bool:
        """Exchange the documents at `upper` and beneath it if the lower one wins; says whether it did."""
        wins = verdict(answers[0], answers[1], self.aggregate) > 0
        if wins:
            order[upper], order[upper + 1] = order[upper + 1], order[upper]
        return wins

    def _skipping(self, order: list[int]) -> Asking[None]:
        """The passes, each from one beneath the lowest exchange of the last."""
        bottom = len(order) - 2
        resume = bottom
        for settled in range(min(self.k, len(order))):
            changed = False
            for upper in range(resume, settled - 1, -1):
                answers = yield both_orders(order[upper + 1], order[upper])
                if self._settle(order, upper, answers) and not changed:
                    changed = True
                    resume = min(upper + 1, bottom)
                if not changed:
                    resume = upper - 1
