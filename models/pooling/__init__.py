"""Heads that make one vector of a decoder's states, as modules of sentence-transformers: saved, loaded and trained by it."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any


def own_modules(folder: Path) -> dict[str, Any]:
    """The classes of this room that a saved model's `modules.json` names, by that name.

    sentence-transformers imports no module but its own without `trust_remote_code`; these are handed to it.
    """
    path = folder / "modules.json"
    types = [str(entry.get("type", "")) for entry in json.loads(path.read_text())] if path.is_file() else []
    return {name: _class_of(name) for name in types if name.startswith(f"{__name__}.")}


def _class_of(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    if module.removeprefix(f"{__name__}.") not in _FILES:
        raise ImportError(f"{name} is no module of this version's")
    return getattr(import_module(module), attribute)


_FILES = ("latent_attention", "trainable")
