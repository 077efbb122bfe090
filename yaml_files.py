"""Reads the YAML files that hold prompt templates and model cards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .errors import InputError

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
