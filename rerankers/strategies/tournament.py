"""Tournaments: the best of each group go on, and every stage that a document survives is a point."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ...errors import UsageError
from ...registry import register
from . import Ask, Asking, Sorted, Sorting, Strategy, arranged
from .rounds import together


class _Stage(NamedTuple):
    """`pool` documents in `groups` groups, of which `winners` go on."""

    pool: int
    groups: int
    winners: int

    def picks(self, group: int) -> int:
        """How many go on from a group: as many from each, one more from the first ones where it doesn't divide."""
        return self.winners // self.groups + (group < self.winners % self.groups)


@register("tournament")
@dataclass
class Tournament(Strategy):
    """TourRank (Chen et al. 2024, arXiv 2406.11678): the sum of points over `repeats` tournaments.

    A tournament goes from stage to stage: `survivors` documents go on, chosen in groups of at most `group_sizes`. The
    defaults are the paper's for 100 documents: 5 groups of 20 keep 10 each, 5 of 10 keep 4, then 20 to 10, 10 to 5 and
    5 to 2. With another number of documents a stage is left out when fewer than a quarter of those left would leave at
    it. A group takes every g-th of those left by given rank, so that all groups are alike, and is shown shuffled by
    `seed`, anew in each tournament. Ties in points go by given rank: the two finalists of a single tournament tie.

    For 100 documents 13 calls a tournament; all groups of a stage and all tournaments are asked together: depth 5.
    """

    repeats: int = 1
    seed: int = 0
    survivors: Sequence[int] = (50, 20, 10, 5, 2)
    group_sizes: Sequence[int] = (20, 10, 20, 10, 5)

    verb = "order"
    score_kind = "votes"

    def __post_init__(self) -> None:
        self._check_numbers(repeats=1)
        self.survivors, self.group_sizes = tuple(self.survivors), tuple(self.group_sizes)
        falling = all(a > b for a, b in zip(self.survivors, self.survivors[1:], strict=False))
        if not self.survivors or not falling or self.survivors[-1] < 1:
            raise UsageError(f"tournament: survivors is {list(self.survivors)}, expected falling numbers, 1 at least")
        if len(self.group_sizes) != len(self.survivors) or min(self.group_sizes) < 2:
            raise UsageError(
                f"tournament: group_sizes is {list(self.group_sizes)}, expected a number of at least 2 for each of "
                f"the {len(self.survivors)} stages in survivors"
            )

    def stages(self, n: int) -> list[_Stage]:
        stages: list[_Stage] = []
        pool = n
        for winners, size in zip(self.survivors, self.group_sizes, strict=True):
            if 4 * winners <= 3 * pool:
                stages.append(_Stage(pool, -(-pool // size), winners))
                pool = winners
        return stages

    def planned(self, n: int) -> tuple[int, int]:
        asked = [sum(_asked(stage, g) for g in range(stage.groups)) for stage in self.stages(n)]
        return self.repeats * sum(asked), sum(calls > 0 for calls in asked)

    def sort(self, n: int) -> Sorting:
        points = [0] * n
        survived = yield from together([self._tournament(n, repeat) for repeat in range(self.repeats)])
        for position in (position for one in survived for position in one):
            points[position] += 1
        order = sorted(range(n), key=lambda p: -points[p])
        return Sorted(order, [float(points[p]) for p in order])

    def _tournament(self, n: int, repeat: int) -> Asking[list[int]]:
        """The positions that survived a stage, once for each."""
        chance = random.Random(f"{self.seed}/{repeat}")
        pool, survived = list(range(n)), list[int]()
        for stage in self.stages(n):
            groups = [pool[g :: stage.groups] for g in range(stage.groups)]
            asks: dict[int, Ask] = {}
            for g, group in enumerate(groups):
                if _asked(stage, g):
                    asks[g] = tuple(chance.sample(group, len(group)))
            answers = yield list(asks.values())
            for g, answer in zip(asks, answers, strict=True):
                groups[g] = arranged(asks[g], answer)
            pool = sorted(position for g, group in enumerate(groups) for position in group[: stage.picks(g)])
            survived += pool
        return survived


def _asked(stage: _Stage, group: int) -> bool:
    """Whether there is something to choose in a group: with odd sizes all of a small one may go on."""
    size = len(range(group, stage.pool, stage.groups))
    return 0 < stage.picks(group) < size
