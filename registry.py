"""Finds what is registered by name without importing it: a new retriever, reranker or measure is one file.

`@register("name")` on a class marks it; the command line, the configs, the docs and the contract tests list a room by
reading its files' text, and import a file only when its name is used.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from .errors import UsageError, suggest

_ROOT = Path(__file__).parent
_PACKAGE = __name__.rpartition(".")[0]
T = TypeVar("T", bound=type)
_MARK = re.compile(r'^@register\(\s*"([^"]+)"', re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """A registered name: where it is and the first sentence of its file's docstring."""

    name: str
    module: str
    summary: str


def register(name: str) -> Callable[[T], T]:
    """Mark a class as the one that `name` means in its room (its package)."""

    def mark(cls: T) -> T:
        cls.registered_name = name  # type: ignore[attr-defined]
        return cls

    return mark


@cache
def entries(room: str) -> dict[str, Entry]:
    """All registered names of a room such as `retrievers`, without importing any of its files."""
    found: dict[str, Entry] = {}
    for path in sorted((_ROOT / room).glob("*.py")):
        text = path.read_text(encoding="utf-8")
        for name in _MARK.findall(text):
            summary = (ast.get_docstring(ast.parse(text)) or "").partition("\n\n")[0].replace("\n", " ")
            if name in found:
                raise UsageError(
                    f"{room}: {name!r} is registered by {found[name].module} and by {path.stem}: rename one"
                )
            found[name] = Entry(name, f"{_PACKAGE}.{room.replace('/', '.')}.{path.stem}", summary)
    return found


def find(room: str, name: str) -> Any:
    """The class that `name` means in `room`; imports its file. Unknown names raise with the nearest spelling."""
    known = entries(room)
    if name not in known:
        raise UsageError(f"{room.rpartition('/')[2].removesuffix('s')} {name!r} is unknown: {suggest(name, known)}")
    module = importlib.import_module(known[name].module)
    for value in vars(module).values():
        if isinstance(value, type) and value.__dict__.get("registered_name") == name:
            return value
    raise UsageError(f"{known[name].module} does not register {name!r}")


def option_names(cls: Any) -> list[str]:
    """The options of a registered dataclass."""
    return [f.name for f in fields(cls) if f.init]


def make(room: str, name: str, options: dict[str, Any]) -> Any:
    """Build the stage `name` of `room` with `options`; a wrong or missing option raises, naming it."""
    cls = find(room, name)
    known = option_names(cls)
    for option in options:
        if option not in known:
            raise UsageError(f"{name} has no option {option!r}: {suggest(option, known)}")
    for f in fields(cls):
        if f.init and f.default is MISSING and f.default_factory is MISSING and f.name not in options:
            raise UsageError(f"{name} needs the option {f.name!r}")
    return cls(**options)
