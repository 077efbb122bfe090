"""What sorts share to ask as much as possible at the same time, with the result of asking one after another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..judges import Answer
from . import Ask, Asking, T

#: A window over ranks: `(start, stop)`, half open.
Window = tuple[int, int]


def together(parts: Sequence[Asking[T]]) -> Asking[list[T]]:
    """Run parts of a sort that touch no document of one another in lock-step; returns their results."""
    results: dict[int, T] = {}
    asks: dict[int, list[Ask]] = {}

    def step(i: int, answers: list[Answer] | None) -> None:
        try:
            asks[i] = next(parts[i]) if answers is None else parts[i].send(answers)
        except StopIteration as end:
            asks.pop(i, None)
            results[i] = end.value

    for i in range(len(parts)):
        step(i, None)
    while asks:
        answers = yield [ask for own in asks.values() for ask in own]
        start = 0
        for i, own in list(asks.items()):
            step(i, answers[start : start + len(own)])
            start += len(own)
    return [results[i] for i in range(len(parts))]


def in_rounds(windows: Iterable[Window]) -> list[list[Window]]:
    """The rounds in which windows can be asked: each as soon as all earlier ones that share a rank with it are done.

    Windows of one round are disjoint, so the result is that of the given sequence. Two bubble passes run two windows
    apart in this way, and K passes over n ranks take n + K - 2 rounds.
    """
    rounds: list[list[Window]] = []
    done: dict[int, int] = {}  # rank -> rounds until its last window is done
    for window in windows:
        ranks = range(*window)
        start = max((done.get(rank, 0) for rank in ranks), default=0)
        if start == len(rounds):
            rounds.append([])
        rounds[start].append(window)
        done.update(dict.fromkeys(ranks, start + 1))
    return rounds


def bubble_windows(n: int, passes: int, children: int) -> list[Window]:
    """Windows of `children` + 1 ranks from the bottom to the top, adjacent ones sharing a rank, for each pass; pass i
    settles rank i and stops there, so its topmost window may be smaller."""
    windows: list[Window] = []
    for settled in range(min(passes, n - 1)):
        for last in range(n - 1, settled, -children):
            windows.append((max(last - children, settled), last + 1))
    return windows
