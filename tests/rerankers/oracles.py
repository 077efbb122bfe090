"""Judges that run no model, and a driver that plays a strategy against one."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from cribble.registry import make
from cribble.rerankers.judges import Answer
from cribble.rerankers.strategies import ROOM, Ask, Sorted, Strategy

#: (verb, positions shown) -> what the judge says.
Oracle = Callable[[str, Ask], Answer]


def play(strategy: Strategy, n: int, judge: Oracle) -> tuple[Sorted, list[list[Ask]]]:
    """What the strategy makes of n documents, and its rounds: the requests that it asked together."""
    sorting = strategy.sort(n)
    rounds: list[list[Ask]] = []
    try:
        asks = next(sorting)
        while True:
            if asks:
                rounds.append(list(asks))
            asks = sorting.send([judge(strategy.verb, ask) for ask in asks])
    except StopIteration as end:
        return end.value, rounds


def named(name: str, **options: Any) -> Strategy:
    made: Strategy = make(ROOM, name, options)
    return made


def answer(verb: str, order: Sequence[int], scores: Sequence[float] = ()) -> Answer:
    """An answer of the form that the verb asks for, from places in the request, best first."""
    if verb == "score":
        return Answer(scores=tuple(scores))
    if verb == "choose":
        return Answer((order[0],))
    if verb == "ends":
        return Answer((order[0], order[-1]))
    return Answer(tuple(order), tuple(scores))


def by_worth(worth: Callable[[int, Ask], float]) -> Oracle:
    """Judges by a number per document (and request); ties go to the one shown first."""

    def judge(verb: str, ask: Ask) -> Answer:
        values = [worth(position, ask) for position in ask]
        order = sorted(range(len(ask)), key=lambda i: -values[i])
        if verb == "prefer":
            lead = values[0] - values[1]
            p = 0.5 + 0.5 * lead / (1 + abs(lead))
            return answer(verb, order, (p, 1 - p))
        return answer(verb, order, values)

    return judge


def shuffled(n: int, seed: int) -> list[int]:
    """A worth for each of n documents, all different."""
    worth = list(range(n))
    random.Random(f"worth/{seed}").shuffle(worth)
    return worth


def judges(n: int) -> Iterator[Oracle]:
    """One of each kind that answers."""
    yield from (perfect(shuffled(n, 1)), noisy(n, 2), always_first, circular(n))


def perfect(worth: Sequence[int]) -> Oracle:
    return by_worth(lambda position, ask: worth[position])


def noisy(n: int, seed: int) -> Oracle:
    """Deterministic and inconsistent: noise of up to 0.3 n on the worths, another for each document and request."""
    worth = shuffled(n, seed)

    def value(position: int, ask: Ask) -> float:
        return worth[position] + 0.3 * n * zlib.crc32(f"{seed}/{position}/{ask}".encode()) / 2**32

    return by_worth(value)


def always_first(verb: str, ask: Ask) -> Answer:
    """Says A to everything, and that the documents are in order."""
    return answer(verb, range(len(ask)), (0.9, 0.1) if verb == "prefer" else (0.0,) * len(ask))


def silent(verb: str, ask: Ask) -> Answer:
    """Answers of which nothing can be read."""
    return Answer()


def circular(n: int) -> Oracle:
    """Every document beats the (n - 1) // 2 that follow it in a circle: no order is right. More wins stand first."""

    def judge(verb: str, ask: Ask) -> Answer:
        wins = [sum(0 < (b - a) % n <= (n - 1) // 2 for b in ask) for a in ask]
        return answer(verb, sorted(range(len(ask)), key=lambda i: -wins[i]), [float(w) for w in wins])

    return judge


def best_first(worth: Sequence[int]) -> list[int]:
    """The right order: positions by falling worth."""
    return sorted(range(len(worth)), key=lambda position: -worth[position])
