"""Sorts over a judge's answers, as pure generators: they yield batches of requests and receive answers.

    def sort(self, n):                    n candidates, positions 0..n-1 in their given order
        answers = yield [(0, 1), (1, 0)]  requests that can be asked at the same time: tuples of positions
        ...
        return Sorted(order, scores)      positions, best first

No model code is here, so an oracle can test a sort, and a scheduler can keep many queries in flight.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from ...errors import UsageError, suggest
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


T = TypeVar("T")

#: A sort, or a part of one, that yields requests, receives their answers in the same order, and returns a T.
Asking = Generator[list[Ask], list[Answer], T]
Sorting = Asking[Sorted]


class Strategy:
    """Base of all sorts: a registered dataclass whose fields are its options.

    `verb` is what it asks (`judges.VERBS`), `score_kind` what its scores are.
    """

    registered_name: ClassVar[str] = ""
    verb: ClassVar[str] = ""
    score_kind: ClassVar[str] = "rank"

    def sort(self, n: int) -> Sorting:
        raise NotImplementedError

    def planned(self, n: int) -> tuple[int, int] | None:
        """How many requests the sort of n candidates makes, and in how many rounds one after another (its depth); None
        where the answers decide. What a judge asks again for a request is not in it."""
        raise NotImplementedError

    @property
    def data_dependent(self) -> bool:
        """Whether the number of requests depends on the answers, so that a dry run can only simulate it."""
        return self.planned(100) is None

    def shown_at_once(self, n: int) -> int | None:
        """How many of n documents a prompt shows at most, where models are trained for such a number."""
        return None

    # ---- checks of options ------------------------------------------------------------------------------------------

    def _check_numbers(self, **least: int) -> None:
        """Refuse options that are below their least value, or no whole numbers."""
        for name, floor in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < floor:
                raise UsageError(
                    f"{self.registered_name}: {name} is {value!r}, expected a whole number of at least {floor}"
                )

    def _check_word(self, name: str, known: Iterable[str]) -> None:
        """Refuse an option whose value is not one of the known words; "" is none of them."""
        value, words = getattr(self, name), sorted(known)
        if value not in words:
            shown = [word or '""' for word in words]
            raise UsageError(f"{self.registered_name}: {name} {value!r} is unknown: {suggest(str(value), shown)}")


def arranged(ask: Ask, answer: Answer) -> list[int]:
    """The positions of a request in the answer's order; those that it does not name follow in the order shown."""
    named = [ask[i] for i in dict.fromkeys(answer.order)]
    return named + [position for position in ask if position not in set(named)]


def picked(ask: Ask, answer: Answer) -> int:
    """The position that the answer puts first, or the one shown first where it names none."""
    return ask[answer.order[0]] if answer.order else ask[0]
