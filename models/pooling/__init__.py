"""Heads that make a vector, dense or of terms, of a network's states, as modules of sentence-transformers: saved, loaded and
trained by it."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any


def own_modules(folder: Path) -> dict[str, Any]:
    """The classes of this room that a saved model's `modules.json` names, or its Router's settings, by that name.

    sentence-transformers imports no module but its own without `trust_remote_code`; these are handed to it.
    """
    modules, router = folder / "modules.json", folder / "router_config.json"
    types = [str(entry.get("type", "")) for entry in json.loads(modules.read_text())] if modules.is_file() else []
    types += map(str, json.loads(router.read_text()).get("types", {}).values()) if router.is_file() else []
    return {name: _class_of(name) for name in types if name.startswith(f"{__name__}.")}


def _class_of(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    if module.removeprefix(f"{__name__}.") not in _FILES:
        raise ImportError(f"{name} is no module of this version's")
    return getattr(import_module(module), attribute)


_FILES = ("image_terms", "latent_attention", "token_weights", "trainable")
