"""Documents and queries in JSON lines: streamed, checked line by line, fetched by id.

What can't be read is an `InputError` with file and line. What a user can live with (an id with white space, an empty text,
a number as id) is read, counted, and said once, when a pass over the file reaches its end.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..ids import hashes, id_column
from ..records import Document, Query
from ..run_files import open_existing
from .distinct import SeenIds

logger = logging.getLogger("cribble")

#: Documents that are read ahead of the consumer, so that ids are checked in bulk; a long text ends a batch early.
_BATCH_DOCUMENTS, _BATCH_CHARACTERS = 1024, 4_000_000

_REMARKS = {
    "white space": "%s: %d ids hold white space, which TREC run files can't: write runs as .parquet",
    "number": "%s: %d ids are numbers, read as text (12 becomes '12')",
    "empty": "%s: %d records have neither text nor title; they are kept",
    "surrogate": "%s: %d records hold half a surrogate pair, which is no character; U+FFFD stands in its place",
}


class JsonLines:
    """The records of one JSON-lines file (`.gz` is transparent) as `Document`s; `text` and `title` as they stand.

    `ids`, `texts` and `titles` are the field names that are accepted, first found wins. Iterating starts a new pass.
    """

    def __init__(
        self,
        path: Path,
        ids: tuple[str, ...] = ("_id",),
        texts: tuple[str, ...] = ("text",),
        titles: tuple[str, ...] = ("title",),
    ) -> None:
        self.path, self._ids, self._texts, self._titles = path, ids, texts, titles
        self._remarked = self._distinct = False
        self._table: tuple[np.ndarray, np.ndarray] | None = None

    # ---- one pass ---------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Document]:
        for batch in self._batches():
            yield from (document for _, _, document in batch)

    def _batches(self) -> Iterator[list[tuple[int, int, Document]]]:
        """(line number, offset of the line in bytes, document), checked for duplicate ids."""
        remarks: Counter[str] = Counter()
        seen = SeenIds()
        batch: list[tuple[int, int, Document]] = []
        characters = total = 0
        for number, offset, line in self._lines():
            document = self._document(number, line, remarks)
            batch.append((number, offset, document))
            characters += len(document.text)
            if len(batch) == _BATCH_DOCUMENTS or characters > _BATCH_CHARACTERS:
                yield self._checked(batch, seen)
                total, batch, characters = total + len(batch), [], 0
        if batch:
            yield self._checked(batch, seen)
        if not total + len(batch):
            raise InputError(f"{self.path} holds no records: expected one JSON object a line with {self._form()}")
        self._distinct = True
        self._say(remarks)

    def _lines(self) -> Iterator[tuple[int, int, str]]:
        number = offset = 0
        with open_existing(self.path) as stream:
            while True:
                try:
                    raw = stream.readline()
                except (EOFError, OSError, zlib.error) as error:
                    remedy = "fetch or write the file again"
                    raise InputError(f"{self.path}:{number + 1}: can't be read on ({error}): {remedy}") from error
                if not raw:
                    return
                number += 1
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise InputError(
                        f"{self.path}:{number}: not UTF-8 at byte {error.start} of the line: convert the file to UTF-8"
                    ) from error
                if line.strip():
                    yield number, offset, line
                offset += len(raw)

    def _checked(self, batch: list[tuple[int, int, Document]], seen: SeenIds) -> list[tuple[int, int, Document]]:
        if self._distinct:  # an earlier pass found no duplicate
            return batch
        for position in seen.add([document.id for _, _, document in batch]):
            number, _, document = batch[position]
            first = self._line_of(document.id)
            if first != number:
                raise InputError(
                    f"{self.path}:{number}: the id {document.id!r} was already given in line {first}: keep one"
                )
        return batch

    def _line_of(self, wanted: str) -> int:
        for number, _, line in self._lines():
            if self._document(number, line, Counter()).id == wanted:
                return number
        return 0

    def _say(self, remarks: Counter[str]) -> None:
        if not self._remarked:
            for what, message in _REMARKS.items():
                if remarks[what]:
                    logger.warning(message, self.path, remarks[what])
        self._remarked = True

    # ---- one line ---------------------------------------------------------------------------------------------------

    def _document(self, number: int, line: str, remarks: Counter[str]) -> Document:
        where = f"{self.path}:{number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: no JSON ({error}): expected one object a line with {self._form()}") from error
        if not isinstance(row, dict):
            raise InputError(f"{where}: a JSON {type(row).__name__}, expected an object with {self._form()}")
        document_id = self._id(row, where, remarks)
        text, title = self._text(row, self._texts, where), self._text(row, self._titles, where, needed=False)
        if "\\ud" in line or "\\uD" in line:
            mended = [_without_half_pairs(value) for value in (document_id, text, title)]
            remarks["surrogate"] += mended != [document_id, text, title]
            document_id, text, title = mended
        remarks["empty"] += not (text or title) or not (text.strip() or title.strip())
        return Document(document_id, text, title)

    def _id(self, row: dict[str, Any], where: str, remarks: Counter[str]) -> str:
        name = next((name for name in self._ids if name in row), None)
        if name is None:
            raise InputError(f"{where}: no field {_either(self._ids)}, found {_found(row)}: expected {self._form()}")
        value = row[name]
        if isinstance(value, int) and not isinstance(value, bool):
            remarks["number"] += 1
            return str(value)
        if not isinstance(value, str) or not value:
            raise InputError(f"{where}: {name} is {value!r}, expected a text that is not empty")
        if not value.isalnum() and any(c.isspace() for c in value):
            remarks["white space"] += 1
        return value

    def _text(self, row: dict[str, Any], names: tuple[str, ...], where: str, *, needed: bool = True) -> str:
        name = next((name for name in names if name in row), None)
        if name is None:
            if needed:
                raise InputError(f"{where}: no field {_either(names)}, found {_found(row)}: expected {self._form()}")
            return ""
        value = row[name]
        if value is None:
            return ""
        if not isinstance(value, str):
            raise InputError(f"{where}: {name} is of type {type(value).__name__}, expected a text: {str(value)[:60]!r}")
        return value

    def _form(self) -> str:
        return f"{_either(self._ids)} and {_either(self._texts)}"

    # ---- by id ------------------------------------------------------------------------------------------------------

    @property
    def seekable(self) -> bool:
        """Whether a line can be read without those before it: not in gzip."""
        return not self.path.name.endswith(".gz")

    def get_many(self, ids: Collection[str]) -> dict[str, Document]:
        """The documents among `ids` that exist, read at their place in a file that is not packed.

        The first call passes over the file and keeps 16 bytes a document: the id's hash and the line's offset.
        """
        if self._table is None:
            self._table = self._places()
        keys, offsets = self._table
        wanted = list(ids)
        found: dict[str, Document] = {}
        at = np.searchsorted(keys, hashes(id_column(wanted)))
        with self.path.open("rb") as stream:
            for document_id, key, start in zip(wanted, hashes(id_column(wanted)), at.tolist(), strict=True):
                while start < len(keys) and keys[start] == key:  # more than one turn only where two ids share a hash
                    stream.seek(offsets[start])
                    document = self._document(0, stream.readline().decode("utf-8-sig", "replace"), Counter())
                    if document.id == document_id:
                        found[document_id] = document
                        break
                    start += 1
        return found

    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        keys, offsets = [], []
        for batch in self._batches():
            keys.append(hashes(id_column([document.id for _, _, document in batch])))
            offsets.append(np.array([offset for _, offset, _ in batch], np.int64))
        order = np.argsort(np.concatenate(keys), kind="stable")
        return np.concatenate(keys)[order], np.concatenate(offsets)[order]


def read_queries(path: Path, ids: tuple[str, ...] = ("_id",), texts: tuple[str, ...] = ("text",)) -> list[Query]:
    """All queries of a JSON-lines file, checked like documents."""
    return [Query(document.id, document.text) for document in JsonLines(path, ids, texts, titles=())]


def _without_half_pairs(value: str) -> str:
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _either(names: tuple[str, ...]) -> str:
    return " or ".join(repr(name) for name in names)


def _found(row: dict[str, Any]) -> str:
    return ", ".join(repr(name) for name in list(row)[:8]) or "none"
