"""Sorts over a judge's answers, as pure generators: they yield batches of requests and receive answers.

    def sort(self, n):                    n candidates, positions 0..n-1 in their given order
        answers = yield [(0, 1), (1, 0)]  requests that can be asked at the same time: tuples of positions
        ...
        return Sorted(order, scores)      positions, best first

No model code is here, so an oracle can test a sort, and a scheduler can keep many queries in flight.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar

from ..judges import Answer

ROOM = "rerankers/strategies"

#: A request: positions of the documents that are shown together, in the order in which they are shown.
Ask = tuple[int, ...]


@dataclass(frozen=True)
class Sorted:
    """`order` is a permutation of 0..n-1, best first. `scores`, where the sort has such, go with `order` and fall or
    tie; the stage makes ties strict in the order given."""

    order: list[int]
    scores: list[float] | None = None


Sorting = Generator[list[Ask], list[Answer], Sorted]


class Strategy:
    """Base of all sorts: a registered dataclass whose fields are its options.

    `verb` is what it asks (`judges.VERBS`), `score_kind` what its scores are. `data_dependent` says that the number of
    calls depends on the answers, so that a dry run can only simulate it.
    """

    registered_name: ClassVar[str] = ""
    verb: ClassVar[str] = ""
    score_kind: ClassVar[str] = "rank"
    data_dependent: ClassVar[bool] = False

    def sort(self, n: int) -> Sorting:
        raise NotImplementedError
