"""Reads and checks the YAML files that hold prompt templates and model cards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from .errors import InputError, UsageError, suggest
from .registry import check_type

_Entry = TypeVar("_Entry")

#: libyaml's parser is some ten times faster; it, too, makes plain values only.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping that a file holds; anything else raises `InputError`."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping, found {type(content).__name__}")
    return content


def read_entries(folder: Path, make: Callable[[str, Any, Path], _Entry], twice: str) -> dict[str, _Entry]:
    """What `make(name, content, path)` makes of every entry of the folder's files, by name. A name that two files have
    raises `InputError` with the message `twice`, which has a place for the name."""
    found: dict[str, _Entry] = {}
    for path in sorted(folder.glob("*.yaml")):
        for name, content in read_mapping(path).items():
            if name in found:
                raise InputError(f"{path}: {twice.format(name)}")
            found[name] = make(name, content, path)
    return found


def check_card(where: str, content: Any, kinds: Mapping[str, Any]) -> None:
    """Raise `InputError` unless `content` is a mapping of names in `kinds` to values of these types."""
    if not isinstance(content, dict):
        raise InputError(f"{where} is {content!r}, expected a mapping with {', '.join(kinds)}")
    for key, value in content.items():
        if key not in kinds:
            raise InputError(f"{where} has the unknown key {key!r}: {suggest(str(key), kinds)}")
        try:
            check_type(f"{where}: {key}", value, kinds[key])
        except UsageError as error:
            raise InputError(str(error)) from error


def published_numbers(where: str, entries: Any, names: Sequence[str]) -> tuple[Mapping[str, Any], ...]:
    """A card's published numbers: mappings with just these names, of which `values` holds numbers by data set."""
    for entry in entries or ():
        if not isinstance(entry, dict) or set(entry) != set(names) or not isinstance(entry["values"], dict):
            raise InputError(f"{where}: {entry!r} is published, expected a mapping with {', '.join(names)}")
    return tuple(entries or ())
