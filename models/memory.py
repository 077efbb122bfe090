"""What to do when memory runs out: try with half of the batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

_log = logging.getLogger("cribble")
T = TypeVar("T")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: torch's own on a GPU; a RuntimeError of its allocator on a CPU."""
    if isinstance(error, MemoryError):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text or "CUBLAS_STATUS_ALLOC_FAILED" in text
    )


def say_halved(what: str, before: int, after: int) -> None:
    _log.warning("out of memory with %d %s at once; going on with %d", before, what, after)


def in_halves(run: Callable[[Any], T], batch: Sequence[Any] | Any, what: str = "sequences") -> Iterator[T]:
    """`run(batch)`, or of its halves in turn where memory does not suffice; a batch of one raises."""
    todo = [batch]
    while todo:
        part = todo.pop()
        try:
            result = run(part)
        except Exception as error:
            if not out_of_memory(error) or len(part) == 1:
                raise
            half = len(part) // 2
            say_halved(what, len(part), half)
            todo += [part[half:], part[:half]]
            continue
        yield result
