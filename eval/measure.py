"""What a measure is: an immutable value such as `nDCG@10` or `AP(rel=2)` that gives each query one number.

A measure is one file in `eval/measures/`: a frozen dataclass whose fields are its options, registered by
`@register_measure`. Its `repr` is the text that `parse_measures` reads back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ..errors import UsageError, suggest

if TYPE_CHECKING:
    from .engine import Joined

#: Name → class of every registered measure; `eval/measures/__init__.py` fills it.
MEASURES: dict[str, type[Measure]] = {}

#: Other names of the field → our spelling, e.g. `MAP` → `AP`. Only names that can mean one thing.
ALIASES: dict[str, str] = {}


@dataclass(frozen=True, repr=False)
class Measure(ABC):
    """Base of all measures. `cutoff` is the k of `@k`: only the best k documents of a query count; None means all."""

    cutoff: int | None = None

    name: ClassVar[str] = ""
    #: What `cribble list` says about it: one line.
    summary: ClassVar[str] = ""
    #: "optional", "required" or "none".
    takes_cutoff: ClassVar[str] = "optional"
    #: How per-query values become one number: "mean" or "sum".
    aggregate: ClassVar[str] = "mean"

    def __post_init__(self) -> None:
        cutoff = self.cutoff
        if cutoff is not None and (isinstance(cutoff, bool) or not isinstance(cutoff, int) or cutoff < 1):
            raise UsageError(f"{self.name}@{cutoff}: the cutoff must be a whole number >= 1, e.g. {self.name}@10")
        if cutoff is not None and self.takes_cutoff == "none":
            raise UsageError(f"{self.name}@{cutoff}: {self.name} takes no cutoff, write {self.name}")
        rel = getattr(self, "rel", 1)
        if isinstance(rel, bool) or not isinstance(rel, int) or rel < 1:
            raise UsageError(f"{self.name}(rel={rel!r}): the lowest relevant label must be a whole number >= 1")
        judged_only = getattr(self, "judged_only", False)
        if not isinstance(judged_only, bool):
            raise UsageError(f"{self.name}(judged_only={judged_only!r}): expected True or False")

    @abstractmethod
    def values(self, joined: Joined) -> np.ndarray:
        """One float64 value per query of `joined` (q,), in its order."""

    def check(self) -> None:
        """Raise `UsageError` where the measure cannot be computed as it stands: a template such as `P` without `@k`."""
        if self.cutoff is None and self.takes_cutoff == "required":
            raise UsageError(f"{self.name} needs a cutoff, e.g. {self.name}@10")

    def with_cutoff(self, cutoff: int | None) -> Self:
        return replace(self, cutoff=cutoff)

    def __matmul__(self, cutoff: int) -> Self:
        return self.with_cutoff(cutoff)

    def __call__(self, **options: Any) -> Self:
        """The same measure with other options: `AP(rel=2) @ 100`."""
        known = self.options()
        for option in options:
            if option not in known:
                raise UsageError(f"{self.name} has no option {option!r}: {suggest(option, known)}")
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
        return f"{self.name}{options}" + (f"@{self.cutoff}" if self.cutoff is not None else "")

    __str__ = __repr__


def register_measure(name: str, *aliases: str) -> Callable[[type[Measure]], type[Measure]]:
    """Class decorator: make a measure known to the grammar under `name`, and under the field's other names for it."""

    def decorate(cls: type[Measure]) -> type[Measure]:
        cls.name = name
        cls.summary = (cls.__doc__ or "").strip().partition("\n")[0]
        MEASURES[name] = cls
        ALIASES.update(dict.fromkeys(aliases, name))
        return cls

    return decorate
