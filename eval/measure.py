"""What a measure is: an immutable value such as `nDCG@10` or `AP(rel=2)` that gives each query one number.

A measure is one file in `eval/measures/`: a frozen dataclass whose fields are its options, registered by
`@register("name")`. Its `repr` is the text that `parse_measures` reads back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ..errors import UsageError, suggest

if TYPE_CHECKING:
    from .engine import Joined

#: Beyond any run's length, and within what numpy counts in.
LARGEST_CUTOFF = 10**12


@dataclass(frozen=True, repr=False)
class Measure(ABC):
    """Base of all measures. `cutoff` is the k of `@k`: only the best k documents of a query count; None means all."""

    cutoff: int | None = None

    #: Set by `@register`.
    registered_name: ClassVar[str] = ""
    #: The field's other names for it; only such as can mean nothing else.
    aliases: ClassVar[tuple[str, ...]] = ()
    #: "optional", "required" or "none".
    takes_cutoff: ClassVar[str] = "optional"
    #: How per-query values become one number: "mean" or "sum".
    aggregate: ClassVar[str] = "mean"
    #: Whether "higher" values are better, "lower" ones, or "none" are: those of the last two are shown, not tested.
    merit: ClassVar[str] = "higher"
    #: Whether `@k` is a share of the collection in percent, from 1 to 100.
    percent: ClassVar[bool] = False

    def __post_init__(self) -> None:
        name, cutoff = self.registered_name, self.cutoff
        if cutoff is not None and (isinstance(cutoff, bool) or not isinstance(cutoff, int)):
            raise UsageError(f"{name}@{cutoff}: the cutoff must be a whole number >= 1, e.g. {name}@10")
        if cutoff is not None and not 1 <= cutoff <= LARGEST_CUTOFF:
            raise UsageError(f"{name}@{cutoff}: the cutoff must be from 1 to {LARGEST_CUTOFF}, e.g. {name}@10")
        if cutoff is not None and self.percent and cutoff > 100:
            raise UsageError(f"{name}@{cutoff}: {name} takes a percentage from 1 to 100, e.g. {name}@95")
        if cutoff is not None and self.takes_cutoff == "none":
            raise UsageError(f"{name}@{cutoff}: {name} takes no cutoff, write {name}")
        rel = getattr(self, "rel", 1)
        if isinstance(rel, bool) or not isinstance(rel, int) or rel < 1:
            raise UsageError(f"{name}(rel={rel!r}): the lowest relevant label must be a whole number >= 1")
        judged_only = getattr(self, "judged_only", False)
        if not isinstance(judged_only, bool):
            raise UsageError(f"{name}(judged_only={judged_only!r}): expected True or False")

    @abstractmethod
    def values(self, joined: Joined) -> np.ndarray:
        """One float64 value per query of `joined` (q,), in its order."""

    def check(self) -> None:
        """Raise `UsageError` where the measure cannot be computed as it stands: a template such as `P` without `@k`."""
        if self.cutoff is None and self.takes_cutoff == "required":
            raise UsageError(f"{self.registered_name} needs a cutoff, e.g. {self.registered_name}@10")

    def with_cutoff(self, cutoff: int | None) -> Self:
        return replace(self, cutoff=cutoff)

    def __matmul__(self, cutoff: int) -> Self:
        return self.with_cutoff(cutoff)

    def __call__(self, **options: Any) -> Self:
        """The same measure with other options: `AP(rel=2) @ 100`."""
        known = self.options()
        for option in options:
            if option not in known:
                raise UsageError(f"{self.registered_name} has no option {option!r}: {suggest(option, known)}")
        return replace(self, **options)

    @classmethod
    def options(cls) -> tuple[str, ...]:
        """Names of the options that go in parentheses."""
        return tuple(field.name for field in fields(cls) if field.name != "cutoff")

    def __repr__(self) -> str:
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if field.name != "cutoff" and getattr(self, field.name) != field.default
        ]
        options = f"({', '.join(changed)})" if changed else ""
        return f"{self.registered_name}{options}" + (f"@{self.cutoff}" if self.cutoff is not None else "")

    __str__ = __repr__
