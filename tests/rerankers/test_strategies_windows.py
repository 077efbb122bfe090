"""Sliding windows: which documents stand in which window, for every window, stride and number of documents."""

from __future__ import annotations

from itertools import pairwise

import pytest
from cribble.rerankers.strategies.rounds import in_rounds
from cribble.rerankers.strategies.sliding import Sliding
from cribble.tests.rerankers.oracles import best_first, noisy, perfect, play, shuffled
from hypothesis import given, settings
from hypothesis import strategies as st

SIZES = (0, 1, 2, 5, 10, 19, 20, 21, 25, 100)
PAIRS = [(window, stride) for window in range(2, 21) for stride in range(1, window + 1)]


@pytest.mark.parametrize("n", SIZES)
def test_every_document_is_in_a_window(n):
    for window, stride in PAIRS:
        windows = Sliding(window, stride).windows(n)
        covered = {rank for start, stop in windows for rank in range(start, stop)}
        assert covered == (set(range(n)) if n > 1 else set()), (window, stride)
        assert len(windows) == (1 + -(-max(0, n - window) // stride) if n > 1 else 0)
        assert all(2 <= stop - start <= window for start, stop in windows)
        # Every window but the topmost is full, and each begins a stride above the last.
        assert all(stop - start == min(window, n) for start, stop in windows[:-1])
        assert all(a[0] - b[0] <= stride for a, b in pairwise(windows))


@pytest.mark.parametrize("n", SIZES)
def test_a_perfect_judge_brings_the_best_up(n):
    """One pass carries window - stride documents to the top; one window that holds all sorts all."""
    worth = shuffled(n, 1)
    best = best_first(worth)
    for window, stride in PAIRS:
        result, _ = play(Sliding(window, stride), n, perfect(worth))
        assert sorted(result.order) == list(range(n))
        carried = n if n <= window else window - stride
        assert result.order[:carried] == best[:carried], (window, stride)


@pytest.mark.parametrize("n", SIZES)
def test_planned_for_every_window_and_stride(n):
    judge = noisy(n, 1)
    for window, stride in PAIRS:
        for passes in (1, 2) if n < 100 else (1,):
            strategy = Sliding(window, stride, passes)
            _, rounds = play(strategy, n, judge)
            assert strategy.planned(n) == (sum(map(len, rounds)), len(rounds))


#: Windows of 20 and strides of 10 as the official loops make them.
HAND = [
    ("", 5, [(0, 5)]),
    ("", 10, [(0, 10)]),
    ("", 19, [(0, 19)]),
    ("", 20, [(0, 20)]),
    ("", 21, [(1, 21), (0, 11)]),
    ("", 25, [(5, 25), (0, 15)]),
    ("", 100, [(start, start + 20) for start in range(80, -1, -10)]),
    ("rankgpt", 1, []),
    ("rankgpt", 5, []),
    ("rankgpt", 19, []),
    ("rankgpt", 20, [(0, 20)]),
    ("rankgpt", 21, [(1, 21)]),
    ("rankgpt", 25, [(5, 25)]),
    ("rankgpt", 30, [(10, 30), (0, 20)]),
    ("rankgpt", 100, [(start, start + 20) for start in range(80, -1, -10)]),
    ("ielab", 25, [(5, 25)]),
    ("ielab", 100, [(start, start + 20) for start in range(80, -1, -10)]),
    ("rank_llm", 1, []),
    ("rank_llm", 5, [(0, 5)]),
    ("rank_llm", 9, [(0, 9)]),
    ("rank_llm", 10, []),
    ("rank_llm", 11, [(0, 11)]),
    ("rank_llm", 20, [(0, 20)]),
    ("rank_llm", 21, [(1, 21), (0, 11)]),
    ("rank_llm", 25, [(5, 25), (0, 15)]),
    ("rank_llm", 100, [(start, start + 20) for start in range(80, -1, -10)]),
]


@pytest.mark.parametrize(("compat", "n", "windows"), HAND)
def test_official_loops(compat, n, windows):
    assert Sliding(20, 10, compat=compat).windows(n) == windows


def test_official_loops_in_closed_form():
    """For every pair and size: RankGPT's loop leaves out the first (n - window) mod stride, and all where n < window;
    rank_llm's loop for hosted models covers all but n = window - stride."""
    for window, stride in PAIRS:
        for n in range(2, 60):
            for compat in ("rankgpt", "ielab", "rank_llm"):
                windows = Sliding(window, stride, compat=compat).windows(n)
                covered = {rank for start, stop in windows for rank in range(start, stop)}
                if compat == "rank_llm":
                    # A topmost window of one document, which only stride = window leaves, is not asked.
                    alone = {0} if stride == window and n % window == 1 else set()
                    assert covered == (set() if n == window - stride else set(range(n)) - alone), (window, stride, n)
                else:
                    first = (n - window) % stride if n >= window else n
                    assert covered == set(range(first, n)), (window, stride, n)


def test_passes_run_in_step():
    """Two passes of nine windows take eleven rounds, and give what pass after pass gives."""
    judge = noisy(100, 4)
    once = Sliding()
    in_step, rounds = play(Sliding(passes=2), 100, judge)
    assert [len(asks) for asks in rounds] == [1, 1, 2, 2, 2, 2, 2, 2, 2, 1, 1]
    order = play(once, 100, judge)[0].order
    for start, stop in once.windows(100):
        ask = tuple(order[start:stop])
        order[start:stop] = [ask[i] for i in judge("order", ask).order]
    assert in_step.order == order


def test_windows_that_share_nothing_are_asked_together():
    _, rounds = play(Sliding(5, 5), 20, noisy(20, 1))
    assert [len(asks) for asks in rounds] == [4]


@given(
    windows=st.lists(st.tuples(st.integers(0, 12), st.integers(1, 6)), max_size=25),
    worth=st.permutations(range(18)),
)
@settings(max_examples=200, deadline=None)
def test_rounds_give_what_one_after_another_gives(windows, worth):
    """The oracle is the sequence itself, with a rule that depends on what stands in a window and where."""
    windows = [(start, start + length) for start, length in windows]

    def turn(order: list[int], start: int, stop: int) -> None:
        part = order[start:stop]
        order[start:stop] = sorted(part, key=lambda p: (worth[p] * (start + 7)) % 19)

    plain = list(range(18))
    for start, stop in windows:
        turn(plain, start, stop)
    together = list(range(18))
    rounds = in_rounds(windows)
    for part in rounds:
        ranks = [rank for start, stop in part for rank in range(start, stop)]
        assert len(set(ranks)) == len(ranks)
        for start, stop in part:
            turn(together, start, stop)
    assert together == plain
    assert sorted(window for part in rounds for window in part) == sorted(windows)
