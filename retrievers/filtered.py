"""Which documents a retriever over an index may find: `allow`, `deny` and `where`, options that retrievers share."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..files import numbered_lines

#: The type of the options `allow` and `deny`: ids, or a file with one id a line.
Ids = str | Path | Sequence[str] | None


def read_ids(what: str, ids: Ids) -> list[str] | None:
    """The ids of a list, or of a file (one a line, blank lines left out, `.gz` is transparent); None for None.

    `what` names the option in errors: `UsageError` for a list that holds something else than texts, `InputError` for a
    file that can't be read.
    """
    if ids is None:
        return None
    if isinstance(ids, str | Path):
        return [line for _, line in numbered_lines(ids)]
    for value in ids:
        if not isinstance(value, str):
            raise UsageError(f"{what} holds {value!r}, expected document ids as texts: put quotes around it")
    return list(ids)


def read_filters(stage: Any) -> dict[str, Any]:
    """The stage's `allow`, `deny` and `where` as an index's `search` takes them; nothing where none is set."""
    label = stage.registered_name
    filters = {name: read_ids(f"{label}: {name}", getattr(stage, name)) for name in ("allow", "deny")}
    return {name: value for name, value in (filters | {"where": stage.where}).items() if value is not None}


def filter_artifacts(stage: Any) -> dict[str, str]:
    """SHA-256 of the files that `allow` and `deny` name, so that a stage's key changes with them."""
    files = {name: getattr(stage, name) for name in ("allow", "deny")}
    return {
        name: hashlib.sha256(Path(file).read_bytes()).hexdigest()
        for name, file in files.items()
        if isinstance(file, str | Path) and Path(file).is_file()
    }
