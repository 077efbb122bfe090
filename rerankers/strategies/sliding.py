"""Sliding windows from the bottom of the list to its top."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import UsageError
from ...registry import register
from . import Sorted, Sorting, Strategy, arranged
from .rounds import Window, in_rounds


@register("sliding")
@dataclass
class Sliding(Strategy):
    """Listwise reranking by sliding windows (Sun et al., EMNLP 2023, arXiv 2304.09542).

    Windows of `window` documents go up by `stride` and carry the best `window` - `stride` along, `passes` times. The
    topmost window is cut at the top of the list, so every document is in a window whatever n is (and it has two
    documents at least). `compat` takes the arithmetic of an official loop with its faults. rankgpt and ielab (one and
    the same loop) stop before a window would reach over the top: with n < window nothing is ranked, and the first
    (n - window) mod stride documents are in no window. rank_llm is its loop for hosted models: with
    n = window - stride nothing is ranked (its batched loop is the default here).

    1 + ⌈(n - window) / stride⌉ calls a pass (n > window), one where a window holds all; the depth is fewer than the
    calls where windows share no document and with several passes.
    """

    window: int = 20
    stride: int = 10
    passes: int = 1
    compat: str = ""

    verb = "order"

    def __post_init__(self) -> None:
        self._check_numbers(window=2, stride=1, passes=1)
        self._check_word("compat", _LOOPS)
        if self.stride > self.window:
            raise UsageError(
                f"sliding: stride is {self.stride}, larger than window={self.window}, so that documents would be left "
                f"out: choose at most {self.window} (usual is half the window)"
            )

    def windows(self, n: int) -> list[Window]:
        """The windows `(start, stop)` of one pass over n documents, in the order of asking."""
        windows = _LOOPS[self.compat](n, self.window, self.stride)
        return [(start, stop) for start, stop in windows if stop - start > 1]

    def planned(self, n: int) -> tuple[int, int]:
        windows = self.windows(n) * self.passes
        return len(windows), len(in_rounds(windows))

    def shown_at_once(self, n: int) -> int:
        return self.window

    def sort(self, n: int) -> Sorting:
        order = list(range(n))
        for windows in in_rounds(self.windows(n) * self.passes):
            asks = [tuple(order[start:stop]) for start, stop in windows]
            answers = yield asks
            for (start, stop), ask, answer in zip(windows, asks, answers, strict=True):
                order[start:stop] = arranged(ask, answer)
        return Sorted(order)


def _clamped(n: int, window: int, stride: int) -> list[Window]:
    windows = [(max(0, n - window), n)]
    while windows[-1][0] > 0:
        stop = windows[-1][1] - stride
        windows.append((max(0, stop - window), max(stop, 2)))
    return windows


def _rankgpt(n: int, window: int, stride: int) -> list[Window]:
    return [(start, start + window) for start in range(n - window, -1, -stride)]


def _rank_llm(n: int, window: int, stride: int) -> list[Window]:
    windows: list[Window] = []
    start, stop = n - window, n
    while stop > 0 and start + stride != 0:
        start = max(start, 0)
        windows.append((start, stop))
        start, stop = start - stride, stop - stride
    return windows


_LOOPS = {"": _clamped, "rankgpt": _rankgpt, "ielab": _rankgpt, "rank_llm": _rank_llm}
