"""Overlapping blocks, all ranked at the same time, and the order that their rankings imply together."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from ...registry import register
from . import Ask, Sorted, Sorting, Strategy, arranged

#: The share of PageRank's walk that follows losses; the rest jumps anywhere, as all of it does from who never lost.
_DAMPING = 0.85


@register("blocks")
@dataclass
class Blocks(Strategy):
    """JointRank (Dedov, ICTIR 2025, arXiv 2506.22262): one round of lists, whatever the number of documents.

    The documents are cut into blocks of at most `window`, alike in size, `repeats` times, shuffled anew by `seed`; a
    ranked block says of each two of its documents which is better. `aggregate` makes one order of that: winrate (wins
    by comparisons) or pagerank (damping 0.85; from the worse to the better documents, so that a win over a good one
    counts more). Ties go by given rank.

    repeats · ⌈n / window⌉ calls, depth 1.
    """

    window: int = 20
    repeats: int = 2
    seed: int = 0
    aggregate: str = "winrate"

    verb = "order"
    score_kind = "votes"

    def __post_init__(self) -> None:
        self._check_numbers(window=3, repeats=1)
        self._check_word("aggregate", _AGGREGATES)

    def planned(self, n: int) -> tuple[int, int]:
        return (self.repeats * -(-n // self.window), 1) if n > 1 else (0, 0)

    def blocks(self, n: int) -> list[Ask]:
        chance = random.Random(f"{self.seed}")
        count = -(-n // self.window)
        blocks: list[Ask] = []
        for _ in range(self.repeats if n > 1 else 0):
            shuffled = chance.sample(range(n), n)
            blocks += [tuple(shuffled[block::count]) for block in range(count)]
        return blocks

    def shown_at_once(self, n: int) -> int:
        return self.window

    def sort(self, n: int) -> Sorting:
        blocks = self.blocks(n)
        answers = yield blocks
        wins = np.zeros((n, n))
        for block, answer in zip(blocks, answers, strict=True):
            ranked = arranged(block, answer)
            for i, better in enumerate(ranked):
                wins[better, ranked[i + 1 :]] += 1
        scores = _AGGREGATES[self.aggregate](wins)
        order = sorted(range(n), key=lambda p: -scores[p])
        return Sorted(order, [scores[p] for p in order])


def _winrate(wins: np.ndarray) -> list[float]:
    """Wins (n, n), [i, j] how often i beat j, to the share of its comparisons that each document won."""
    won, lost = wins.sum(axis=1), wins.sum(axis=0)
    rates: list[float] = np.divide(won, won + lost, out=np.zeros(len(wins)), where=won + lost > 0).tolist()
    return rates


def _pagerank(wins: np.ndarray) -> list[float]:
    """Wins (n, n) to PageRank, solved exactly and rounded to 12 digits, so that equal standing ties; sums to 1."""
    n = len(wins)
    losses = wins.sum(axis=0)
    steps = np.divide(wins, losses, out=np.full((n, n), 1 / max(n, 1)), where=losses > 0)
    ranks: list[float] = np.linalg.solve(np.eye(n) - _DAMPING * steps, np.full(n, (1 - _DAMPING) / max(n, 1))).tolist()
    return [round(rank, 12) for rank in ranks]


_AGGREGATES = {"winrate": _winrate, "pagerank": _pagerank}
