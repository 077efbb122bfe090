"""What the retrievers over one index folder share: opening it once, its identity, its texts."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from ..errors import UsageError, suggest
from ..registry import option_names


class Indexed:
    """Mixin of a retriever dataclass with a field `index`, the folder of a durable index."""

    index: str | Path
    registered_name: ClassVar[str]

    def open_index(self) -> Any:
        raise NotImplementedError

    @cached_property
    def opened(self) -> Any:
        """The index, opened at first use."""
        return self.open_index()

    def artifacts(self) -> dict[str, str]:
        """SHA-256 of the index's manifest."""
        manifest = Path(self.index) / "manifest.json"
        return {"index": hashlib.sha256(manifest.read_bytes()).hexdigest()} if manifest.exists() else {}

    @classmethod
    def split_options(cls, build: Callable[..., Any], options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Options of `cls.build` that are for building the index, and those that are the retriever's own."""
        own = set(option_names(cls)) - {"index"}
        fixed = {"path", "documents", "encode", "spec", "corpus", "total", "overwrite"}
        building = {name for name in inspect.signature(build).parameters if name not in fixed}
        for name in options:
            if name not in own | building:
                raise UsageError(f"{cls.registered_name} has no option {name!r}: {suggest(name, own | building)}")
        return (
            {name: value for name, value in options.items() if name in building and name not in own},
            {name: value for name, value in options.items() if name in own},
        )
