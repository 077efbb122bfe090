"""Opening an index of whatever kind, and listing the kinds. A new kind is one file here with `@register("name")`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import SetupError, suggest
from ..registry import entries, find
from .manifest import Manifest, check_index, read_manifest
from .shards import stored_fingerprint


def index_kinds() -> dict[str, str]:
    """The names of all kinds with a sentence about each; imports none of them."""
    return {name: entry.summary for name, entry in entries("index").items()}


def find_kind(name: str) -> Any:
    """The class of the index kind `name`."""
    return find("index", name)


def open_index(path: str | Path, **options: Any) -> Any:
    """Open the index in the folder `path` as the kind that its manifest names. `options` go to that class's `open`."""
    kind = read_manifest(path).kind
    kinds = entries("index")
    if kind not in kinds:
        raise SetupError(f"{path}: an index of kind {kind!r}, which this cribble does not know: {suggest(kind, kinds)}")
    return find("index", kind).open(path, **options)


def verify_index(path: str | Path) -> Manifest:
    """Read every file of an index and compare its SHA-256; raise `SetupError` for the first that is damaged.

    Of an index that was changed, also the documents that are left are compared with the fingerprint of all.
    """
    manifest = check_index(path, verify=True)
    if manifest.generation:
        found = stored_fingerprint(manifest.shard_folders(path), manifest.shards, manifest.deleted_rows(path))
        if found != manifest.fingerprint:
            raise SetupError(
                f"{path}: its documents have the fingerprint {found}, expected {manifest.fingerprint}: build the index "
                f"again with overwrite"
            )
    return manifest
