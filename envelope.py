"""What a command gives back: a table on a terminal or one JSON object, warnings collected, errors as one line."""

from __future__ import annotations

import importlib.abc
import json
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Self

import typer

from .errors import CribbleError
from .notices import collected_warnings

logger = logging.getLogger("cribble")

_INTERRUPTED = "interrupted; run the same command again to go on"


@dataclass
class Table:
    """Rows for a reader: a title, column names, cells as text; `notes` are lines beneath."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    notes: Sequence[str] = ()


@dataclass
class Answer:
    """A command's answer: `results` for machines, `tables` and `lines` for readers."""

    results: Any
    tables: list[Table] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


class _Console(logging.Handler):
    """Shows messages on stderr as they come."""

    def emit(self, record: logging.LogRecord) -> None:
        label = "warning: " if record.levelno >= logging.WARNING else ""
        sys.stderr.write(f"{label}{record.getMessage()}\n")


class Envelope:
    """Around one command: collects warnings, and prints its answer in the form asked for."""

    def __init__(self, command: str, as_json: bool) -> None:
        self.command, self.as_json = command, as_json
        self._open = ExitStack()

    def __enter__(self) -> Self:
        console = _Console(logging.INFO)
        logger.addHandler(console)
        self._open.callback(logger.removeHandler, console)
        logger.setLevel(logging.INFO)
        logger.propagate = False
        self.warnings = self._open.enter_context(collected_warnings())
        _spare_pandas()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def show(self, answer: Answer) -> None:
        """Print the answer. A reader that has gone (`| head -1`) is no error."""
        try:
            self._print(answer)
            sys.stdout.flush()
        except BrokenPipeError:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115  the interpreter's last flush would fail again

    def _print(self, answer: Answer) -> None:
        if self.as_json:
            content = {"command": self.command, "results": answer.results, "warnings": self.warnings}
            sys.stdout.write(json.dumps(content, ensure_ascii=False, default=str) + "\n")
            return
        for table in answer.tables:
            _print_table(table)
        for line in answer.lines:
            sys.stdout.write(line + "\n")


class _NoPandas(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "pandas":
            raise ImportError("not needed here")


def _spare_pandas() -> None:
    """Keep pyarrow from importing pandas with its first array, as it does to know a Series when it sees one: that takes
    half a second, and no command hands it one. Others may still import pandas.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)


def _print_table(table: Table) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 160)
    shown = RichTable(title=table.title or None, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for i, column in enumerate(table.columns):
        numeric = i > 0 and all(_is_number(row[i]) for row in table.rows)
        shown.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    with console.capture() as printed:  # rich ends the process at a closed pipe, so it does not write itself
        console.print(shown)
        for note in table.notes:
            console.print(Text(note))
    sys.stdout.write(printed.get())


def _is_number(cell: str) -> bool:
    return not cell or cell.lstrip("+-.([<")[:1].isdigit()


def run_command(app: typer.Typer) -> int:
    """Run the app; every expected failure becomes one line on stderr and an exit code."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        code = app(standalone_mode=False)
    except CribbleError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail(_INTERRUPTED, 130)
    except OSError as error:
        return _fail(f"{error.filename or 'this machine'}: {error.strerror or error}", 4)
    except Exception as error:  # typer brings its own copy of click, or uses the installed one: told apart by name
        kind = type(error).__name__
        if kind == "Abort":
            return _fail(_INTERRUPTED, 130)
        if kind == "NoArgsIsHelpError":
            error.show()  # type: ignore[attr-defined]
            return 2
        if not hasattr(error, "format_message"):
            raise
        return _fail(error.format_message(), 2)
    if code == 130:  # typer's answer to ctrl-C
        return _fail(_INTERRUPTED, 130)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return code
