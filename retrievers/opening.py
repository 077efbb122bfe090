"""An index folder as the retriever that searches it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..index.manifest import read_manifest
from ..registry import entries, find, make
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
            retriever: Retriever = make("retrievers", name, {"index": str(path)} | options)
            return retriever
    raise UsageError(f"{path}: no retriever of this version searches an index of the kind {kind!r}")
