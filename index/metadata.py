"""Documents' metadata in SQLite: one table an index, a column a field, and conditions on it that can do nothing else.

`metadata.jsonl` in a shard has one JSON object a document (no file where no document has any); `whole/metadata.sqlite`
has the table `documents` of all rows. Numbers, texts and booleans (1, 0) are stored as such, lists and objects as JSON
text, whole numbers beyond 64 bits as text. A column of one type is declared so, and SQLite then compares it with
literals of the other type after conversion; a column of several types is not, and a warning says so.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..records import Document, metadata_of

logger = logging.getLogger("cribble")

SHARD_FILE, FILE = "metadata.jsonl", "metadata.sqlite"

TABLE, ROW = "documents", "document row"

#: More fields than this are data in the wrong place (names that are ids): SQLite has no room for 2,000.
MOST_COLUMNS = 500

_DECLARED = {
    frozenset([int]): "INTEGER",
    frozenset([float]): "REAL",
    frozenset([int, float]): "REAL",
    frozenset([str]): "TEXT",
}


def metadata_line(document: Document) -> bytes:
    """A document's metadata as one line of JSON; `InputError` names a document whose metadata is no JSON."""
    metadata = metadata_of(document)
    if not metadata:
        return b"{}\n"
    try:
        return json.dumps(metadata, ensure_ascii=False, sort_keys=True).encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"document {document.id!r}: its metadata is no JSON object ({error})") from error


def write_shard_metadata(folder: Path, documents: Sequence[Document]) -> None:
    """Write `metadata.jsonl` of one shard, if any document has metadata."""
    if any(map(metadata_of, documents)):
        with (folder / SHARD_FILE).open("wb") as stream:
            stream.writelines(map(metadata_line, documents))


def shard_metadata(folder: Path) -> list[dict[str, Any]] | None:
    """The metadata of a shard's documents in order, or None where no document has any."""
    path = folder / SHARD_FILE
    return list(map(json.loads, path.read_bytes().splitlines())) if path.exists() else None


def write_metadata_table(folder: Path, shards: Sequence[Path], rows: Sequence[int]) -> None:
    """Write the table over all `shards`, which have `rows` rows each, into `folder`, if any document has metadata."""
    columns = _columns(shards)
    if not columns:
        return
    connection = sqlite3.connect(folder / FILE, isolation_level=None)
    try:
        connection.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")  # the builder syncs and renames
        declared = ", ".join(f"{quoted(name)} {kind}" for name, kind in columns.values())
        connection.execute(f"CREATE TABLE {TABLE} ({quoted(ROW)} INTEGER PRIMARY KEY, {declared})")
        places = ", ".join("?" * (len(columns) + 1))
        connection.execute("BEGIN")
        connection.executemany(f"INSERT INTO {TABLE} VALUES ({places})", _table(shards, rows, columns))
        connection.execute("COMMIT")
    finally:
        connection.close()


def _columns(shards: Iterable[Path]) -> dict[str, tuple[str, str]]:
    """Per name as SQLite compares them: the first spelling met and the declared type."""
    spelled: dict[str, str] = {}
    types: dict[str, set[type]] = {}
    left_out: set[str] = set()
    for shard in shards:
        for fields in shard_metadata(shard) or ():
            for name, value in _stored(fields):
                key = folded(name)
                if key not in spelled:
                    if len(spelled) == MOST_COLUMNS:
                        left_out.add(key)
                        continue
                    spelled[key] = name
                types.setdefault(key, set()).update([] if value is None else [type(value)])
    if left_out:
        logger.warning(
            "metadata has %d fields: the first %d can be used in conditions, %d not (%s, …)",
            *(len(spelled) + len(left_out), MOST_COLUMNS, len(left_out), min(left_out)),
        )
    mixed = [name for key, name in spelled.items() if types[key] and frozenset(types[key]) not in _DECLARED]
    if mixed:
        logger.warning(
            "metadata fields hold numbers in some documents and texts in others: %s; in conditions a text is greater "
            "than any number (typeof(field) = 'integer' tells them apart)",
            ", ".join(mixed),
        )
    return {key: (name, _DECLARED.get(frozenset(types[key]), "")) for key, name in spelled.items()}


def _table(shards: Sequence[Path], rows: Sequence[int], columns: Mapping[str, tuple[str, str]]) -> Iterator[list[Any]]:
    place = {key: i for i, key in enumerate(columns, 1)}
    first = 0
    for shard, count in zip(shards, rows, strict=True):
        for row, fields in enumerate(shard_metadata(shard) or [{}] * count, first):
            values: list[Any] = [row] + [None] * len(columns)
            for name, value in _stored(fields):
                if (i := place.get(folded(name))) is not None:
                    values[i] = value
            yield values
        first += count


def _stored(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values as they are stored."""
    for name, value in fields.items():
        if isinstance(value, bool):
            yield name, int(value)
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            yield name, str(value)
        elif isinstance(value, list | dict):
            yield name, json.dumps(value, ensure_ascii=False)
        else:
            yield name, value


def check_names(document: Document) -> None:
    """Raise `InputError` where two of a document's fields are one column, or a name can't be a column's."""
    names = metadata_of(document)
    bad = [name for name in names if not isinstance(name, str) or not name or "\0" in name]
    if bad or len(set(map(folded, names))) < len(names):
        raise InputError(
            f"document {document.id!r}: its metadata has the fields {', '.join(map(repr, names))}: names are texts that aren't "
            f"empty, hold a zero byte or differ in the case of ASCII letters only"
        )


def folded(name: str) -> str:
    """A name as SQLite compares it: without the case of ASCII letters."""
    return name.encode().lower().decode()


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
