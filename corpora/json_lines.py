"""Documents and queries in JSON lines: checked line by line, fetched by id."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..ids import hashes, id_column
from ..records import DescribedDocument, Document, Query
from .document_stream import DocumentStream, Record, text_lines


class JsonLines(DocumentStream):
    """The records of one JSON-lines file (`.gz` is transparent) as `Document`s; `text` and `title` as they stand.

    `ids`, `texts` and `titles` are the field names that are accepted, the first found wins. Other fields, and those of
    an object `metadata`, are the document's metadata. Iterating starts a new pass. A line that can't be read is an
    `InputError` with file and line.
    """

    def __init__(
        self,
        path: Path,
        ids: tuple[str, ...] = ("_id",),
        texts: tuple[str, ...] = ("text",),
        titles: tuple[str, ...] = ("title",),
    ) -> None:
        super().__init__(path)
        self._ids, self._texts, self._titles = ids, texts, titles
        self._own = {*ids, *texts, *titles}
        self._table: tuple[np.ndarray, np.ndarray] | None = None

    def records(self, remarks: Counter[str]) -> Iterator[Record]:
        for number, offset, line in text_lines(self.path):
            yield Record(self.path, number, offset, self._document(f"{self.path}:{number}", line, remarks))

    # ---- one line ---------------------------------------------------------------------------------------------------

    def _document(self, where: str, line: str, remarks: Counter[str]) -> Document:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{where}: no JSON ({error}): expected one object a line with {self._form()}") from error
        if not isinstance(row, dict):
            raise InputError(f"{where}: a JSON {type(row).__name__}, expected an object with {self._form()}")
        document_id, text = row.get(self._ids[0]), row.get(self._texts[0])
        title = row.get(self._titles[0], "") if self._titles else ""
        if type(document_id) is type(text) is type(title) is str and document_id:  # nearly all lines
            document = Document(document_id, text, title)
        else:
            document = Document(
                self._id(row, where, remarks),
                self._text(row, self._texts, where),
                self._text(row, self._titles, where, needed=False),
            )
        metadata = self._metadata(row, where) if row.keys() - self._own else {}
        if "\\ud" in line or "\\uD" in line:
            mended = Document(*(_without_half_pairs(value) for value in document))
            remarks["surrogate"] += mended != document
            document = mended
            metadata = json.loads(_without_half_pairs(json.dumps(metadata, ensure_ascii=False)))
        return DescribedDocument.of(document, metadata) if metadata else document

    def _metadata(self, row: dict[str, Any], where: str) -> dict[str, Any]:
        """The fields that are not the document itself; those of an object `metadata` stand for themselves."""
        fields = {name: value for name, value in row.items() if name not in self._own}
        if not isinstance(fields.get("metadata"), dict):
            if fields.get("metadata", 0) is None:
                del fields["metadata"]
            return fields
        inner = fields.pop("metadata")
        if twice := sorted(inner.keys() & fields.keys()):
            raise InputError(f"{where}: the field {twice[0]!r} stands beside metadata and in it: keep one")
        return fields | inner

    def _id(self, row: dict[str, Any], where: str, remarks: Counter[str]) -> str:
        name = self._name(row, self._ids, where)
        value = row[name]
        if isinstance(value, int) and not isinstance(value, bool):
            remarks["number"] += 1
            return str(value)
        if not isinstance(value, str) or not value:
            raise InputError(f"{where}: {name} is {value!r}, expected a text that is not empty")
        return value

    def _text(self, row: dict[str, Any], names: tuple[str, ...], where: str, *, needed: bool = True) -> str:
        if not needed and not any(name in row for name in names):
            return ""
        name = self._name(row, names, where)
        value = row[name]
        if value is None:
            return ""
        if not isinstance(value, str):
            kind = type(value).__name__
            raise InputError(f"{where}: {name} is of type {kind}, expected a text: {str(value)[:60]!r}")
        return value

    def _name(self, row: dict[str, Any], names: tuple[str, ...], where: str) -> str:
        for name in names:
            if name in row:
                return name
        found = ", ".join(repr(name) for name in list(row)[:8]) or "none"
        raise InputError(f"{where}: no field {_either(names)}, found {found}: expected {self._form()}")

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
        wanted_keys = hashes(id_column(wanted))
        found: dict[str, Document] = {}
        with self.path.open("rb") as stream:
            for document_id, key, at in zip(wanted, wanted_keys, np.searchsorted(keys, wanted_keys), strict=True):
                while at < len(keys) and keys[at] == key:  # more than one turn only where two ids share a hash
                    stream.seek(offsets[at])
                    line = stream.readline().decode("utf-8-sig", "replace")
                    document = self._document(f"{self.path} at byte {offsets[at]}", line, Counter())
                    if document.id == document_id:
                        found[document_id] = document
                        break
                    at += 1
        return found

    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        keys, offsets = [], []
        for batch in self.batches():
            keys.append(hashes(id_column([record.document.id for record in batch])))
            offsets.append(np.array([record.offset for record in batch], np.int64))
        order = np.argsort(np.concatenate(keys), kind="stable")
        return np.concatenate(keys)[order], np.concatenate(offsets)[order]


def read_queries(path: Path, ids: tuple[str, ...] = ("_id",), texts: tuple[str, ...] = ("text",)) -> list[Query]:
    """All queries of a JSON-lines file, checked like documents."""
    return [Query(document.id, document.text) for document in JsonLines(path, ids, texts, titles=())]


def _without_half_pairs(value: str) -> str:
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _either(names: tuple[str, ...]) -> str:
    return " or ".join(repr(name) for name in names)
