"""An index folder as the retriever that searches it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import UsageError, suggest
from ..index.manifest import read_manifest
from ..registry import entries, find, option_names
from ..stage import Retriever
from .indexed import Indexed


def open_retriever(path: str | Path, **options: Any) -> Retriever:
    """The retriever for the index in `path`, by the kind that its manifest names; `options` are the retriever's.

    Raises `SetupError` where there is no whole index, `UsageError` for an option that the retriever lacks.
    """
    kind = read_manifest(Path(path)).plan.kind
    for name in entries("retrievers"):
        cls = find("retrievers", name)
        if issubclass(cls, Indexed) and kind in cls.index_kinds:
            for option in options:
                if option not in option_names(cls):
                    raise UsageError(f"{name} has no option {option!r}: {suggest(option, option_names(cls))}")
            retriever: Retriever = cls(index=str(path), **options)
            return retriever
    raise UsageError(f"{path}: no retriever of this version searches an index of the kind {kind!r}")
