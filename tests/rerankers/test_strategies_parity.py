"""ielab/llm-rankers' own loops beside ours: what they made of the same judges, and how often they asked.

Recorded from commit b36517b: PairwiseLlmRanker and SetwiseLlmRanker (heapsort, bubblesort) and OpenAiListwiseLlmRanker,
each with its `compare` answered by the oracles below. Calls are requests: two for a comparison of a pair; upstream's
calls over a single document or none (setwise bubblesort) are not counted.
"""

from __future__ import annotations

import pytest
from cribble.registry import make
from cribble.rerankers.strategies import ROOM
from cribble.tests.rerankers.oracles import Oracle, always_first, best_first, circular, noisy, perfect, play, shuffled

# fmt: off
RECORDED = [
    ("heapsort", {"k": 3}, 10, "perfect 1", 48, [7, 2, 1, 0, 3, 4, 5, 6, 8, 9]),
    ("bubble", {"k": 3}, 10, "perfect 1", 44, [7, 2, 1, 0, 3, 4, 5, 6, 8, 9]),
    ("heapsort", {"k": 5}, 12, "noisy 2", 76, [4, 9, 7, 1, 8, 0, 2, 3, 5, 6, 10, 11]),
    ("bubble", {"k": 5}, 12, "noisy 2", 78, [4, 9, 1, 7, 2, 0, 3, 5, 6, 8, 10, 11]),
    ("heapsort", {"k": 10}, 20, "noisy 3", 168, [9, 19, 17, 4, 3, 16, 1, 0, 2, 14, 5, 6, 7, 8, 10, 11, 12, 13, 15, 18]),
    ("bubble", {"k": 10}, 20, "noisy 3", 282, [3, 9, 19, 1, 0, 2, 16, 4, 14, 17, 5, 6, 7, 8, 10, 11, 12, 13, 15, 18]),
    ("heapsort", {"k": 4}, 9, "first", 28, [0, 8, 7, 6, 1, 2, 3, 4, 5]),
    ("bubble", {"k": 4}, 9, "first", 16, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
    ("heapsort", {"k": 11}, 11, "circular", 80, [10, 0, 9, 8, 2, 1, 3, 4, 5, 6, 7]),
    ("bubble", {"k": 11}, 11, "circular", 20, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ("setwise-heapsort", {"k": 3, "children": 2}, 10, "perfect 1", 13, [7, 2, 1, 0, 3, 4, 5, 6, 8, 9]),
    ("setwise-bubble", {"k": 3, "children": 2}, 10, "perfect 1", 13, [7, 2, 1, 0, 3, 4, 5, 6, 8, 9]),
    ("setwise-heapsort", {"k": 5, "children": 3}, 12, "noisy 2", 12, [4, 9, 7, 1, 8, 0, 2, 3, 5, 6, 10, 11]),
    ("setwise-bubble", {"k": 5, "children": 3}, 12, "noisy 2", 14, [9, 4, 7, 1, 2, 0, 3, 5, 6, 8, 10, 11]),
    ("setwise-heapsort", {"k": 10, "children": 3}, 20, "noisy 3", 28,
     [4, 19, 9, 3, 16, 1, 10, 17, 14, 0, 2, 5, 6, 7, 8, 11, 12, 13, 15, 18]),
    ("setwise-bubble", {"k": 10, "children": 3}, 20, "noisy 3", 51,
     [4, 19, 9, 17, 3, 1, 16, 14, 10, 7, 0, 2, 5, 6, 8, 11, 12, 13, 15, 18]),
    ("setwise-heapsort", {"k": 4, "children": 2}, 9, "first", 7, [0, 8, 7, 6, 1, 2, 3, 4, 5]),
    ("setwise-bubble", {"k": 4, "children": 2}, 9, "first", 5, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
    ("setwise-heapsort", {"k": 13, "children": 4}, 13, "perfect 4", 20, [6, 9, 10, 0, 11, 5, 2, 1, 12, 8, 7, 3, 4]),
    ("setwise-bubble", {"k": 13, "children": 4}, 13, "perfect 4", 24, [6, 9, 10, 0, 11, 5, 2, 1, 12, 8, 7, 3, 4]),
    ("setwise-heapsort", {"k": 11, "children": 1}, 11, "circular", 29, [0, 10, 9, 8, 7, 1, 2, 3, 4, 5, 6]),
    ("setwise-bubble", {"k": 11, "children": 1}, 11, "circular", 10, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ("setwise-bubble", {"k": 9, "children": 2}, 9, "perfect 0", 14, [2, 0, 3, 4, 5, 7, 6, 1, 8]),
    ("sliding", {"window": 4, "stride": 2, "passes": 5}, 12, "perfect 1", 25, [9, 5, 7, 4, 6, 2, 3, 1, 10, 11, 0, 8]),
    ("sliding", {"window": 20, "stride": 10}, 25, "noisy 2", 1,
     [0, 1, 2, 3, 4, 19, 18, 20, 12, 8, 14, 21, 11, 24, 15, 17, 7, 16, 6, 10, 13, 23, 9, 22, 5]),
    ("sliding", {"window": 20, "stride": 10}, 10, "noisy 3", 0, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ("sliding", {"window": 5, "stride": 4, "passes": 2}, 21, "noisy 1", 10,
     [3, 0, 16, 13, 1, 6, 5, 7, 2, 9, 10, 11, 4, 12, 15, 8, 19, 18, 14, 20, 17]),
]
# fmt: on


def oracle(name: str, n: int) -> Oracle:
    kind, _, seed = name.partition(" ")
    if kind == "perfect":
        return perfect(shuffled(n, int(seed)))
    return noisy(n, int(seed)) if kind == "noisy" else circular(n) if kind == "circular" else always_first


@pytest.mark.parametrize(("name", "options", "n", "judge", "calls", "order"), RECORDED)
def test_as_upstream(name, options, n, judge, calls, order):
    compat = {} if name == "setwise-heapsort" else {"compat": "ielab"}
    result, rounds = play(make(ROOM, name, options | compat), n, oracle(judge, n))
    assert result.order == order
    assert sum(map(len, rounds)) == calls


@pytest.mark.parametrize(("name", "options", "n", "judge", "calls", "order"), RECORDED)
def test_what_the_defaults_do_better(name, options, n, judge, calls, order):
    """A judge that is right, or always says A, shows each difference; PRP's bubble differs in calls only."""
    result, rounds = play(make(ROOM, name, options), n, oracle(judge, n))
    if name == "bubble":
        assert result.order[: options["k"]] == order[: options["k"]]
        assert sum(map(len, rounds)) >= calls
    elif judge.startswith("perfect") and name != "sliding":
        assert result.order[: options["k"]] == best_first(shuffled(n, int(judge[-1])))[: options["k"]]
    elif name == "heapsort" and judge == "first":
        assert result.order == list(range(n))
