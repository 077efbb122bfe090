"""Progress bars: a count, a rate and the time left on a terminal, nothing at all in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    def __call__(self, steps: int = 1) -> None: ...


_showing = False


@contextmanager
def progress(what: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
    """Yield a function to call with the number of finished items. `total` None means that the end is unknown.

    Within another bar (an encoder's within an index build's) nothing is shown: two would garble each other.
    """
    global _showing
    if _showing or not sys.stderr.isatty():
        yield lambda steps=1: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit} {{task.fields[rate]}}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    _showing = True
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=total, rate="")

            def advance(steps: int = 1) -> None:
                speed = bar.tasks[task].speed
                bar.update(task, advance=steps, rate=f"{speed:,.0f}/s" if speed else "")

            yield advance
    finally:
        _showing = False
