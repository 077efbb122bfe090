"""Finds what is registered by name without importing it: a new retriever, reranker or measure is one file.

`@register("name")` on a class marks it; the command line, the configs, the docs and the contract tests list a room by
reading its files' text, and import a file only when its name is used.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import UsageError, suggest

_ROOT = Path(__file__).parent
_PACKAGE = __name__.rpartition(".")[0]
T = TypeVar("T", bound=type)
_MARK = re.compile(r'^@register\(\s*"([^"]+)"', re.MULTILINE)


@dataclass(frozen=True)
class Entry:
    """A registered name: where it is, and a line about it: its class's first, or its file's where it is alone there."""

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
        names = _MARK.findall(text)
        tree = ast.parse(text) if names else None
        for name in names:
            summary = _summary(tree if len(names) == 1 else _class_of(tree, name))
            if name in found:
                raise UsageError(
                    f"{room}: {name!r} is registered by {found[name].module} and by {path.stem}: rename one"
                )
            found[name] = Entry(name, f"{_PACKAGE}.{room.replace('/', '.')}.{path.stem}", summary)
    return found


def _class_of(tree: ast.Module | None, name: str) -> ast.ClassDef | None:
    """The class under `@register(name)`."""
    for node in tree.body if tree else ():
        if isinstance(node, ast.ClassDef) and any(f"register({name!r})" == ast.unparse(d) for d in node.decorator_list):
            return node
    return None


def _summary(node: ast.Module | ast.ClassDef | None) -> str:
    """The first paragraph of a docstring in one line."""
    return ((ast.get_docstring(node) if node else None) or "").partition("\n\n")[0].replace("\n", " ")


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
    """Build the stage `name` of `room` with `options`; a wrong or missing one, or a value of a wrong type, raises."""
    cls = find(room, name)
    known = option_names(cls)
    types = get_type_hints(cls)
    for option, value in options.items():
        if option not in known:
            raise UsageError(f"{name} has no option {option!r}: {suggest(option, known)}")
        check_type(f"{name}: {option}", value, types[option])
    for f in fields(cls):
        if f.init and f.default is MISSING and f.default_factory is MISSING and f.name not in options:
            raise UsageError(f"{name} needs the option {f.name!r}")
    return cls(**options)


# ---- types of options, as a config or a shell gives them ------------------------------------------------------------

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    Path: "a path",
    NoneType: "nothing",
}


def check_type(what: str, value: Any, kind: Any) -> None:
    """Raise `UsageError` when `value` does not fit the annotation `kind`; kinds that no file can hold always fit."""
    if not _fits(value, kind):
        raise UsageError(f"{what} is {value!r}, expected {_words(kind)}")


def _fits(value: Any, kind: Any) -> bool:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if kind is Path:
        return isinstance(value, str | Path)
    if kind in _WORDS:
        return isinstance(value, kind)
    if origin is Sequence:
        return isinstance(value, list | tuple) and all(_fits(item, parts[0]) for item in value)
    if origin in (dict, Mapping):
        return isinstance(value, Mapping)
    # A part that is read from YAML is still a mapping here.
    return isinstance(value, kind) or (isinstance(value, Mapping) and "use" in value) if _is_own(kind) else True


def _is_own(kind: Any) -> bool:
    """Whether the annotation is a class of this package, such as Stage."""
    return isinstance(kind, type) and kind.__module__.partition(".")[0] == _PACKAGE.partition(".")[0]


def _words(kind: Any) -> str:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_words(part) for part in parts if not (part is Path and str in parts)))
    if origin is Sequence:
        return "a list"
    if origin in (dict, Mapping):
        return "a mapping"
    return f"a {kind.__name__.lower()}" if _is_own(kind) else _WORDS.get(kind, str(kind))
