"""Documents out of files: streamed in order, ids checked in bulk, oddities counted and said once."""

from __future__ import annotations

import logging
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from ..files import open_existing
from ..records import Document
from .seen_ids import SeenIds

logger = logging.getLogger("cribble")

#: Documents that are read ahead of the consumer, so that ids are checked in bulk; a long text ends a batch early.
_BATCH_DOCUMENTS, _BATCH_CHARACTERS = 1024, 4_000_000

_REMARKS = {
    "white space": "%s: %d ids hold white space, which TREC run files can't: write runs as .parquet",
    "number": "%s: %d ids are numbers, read as text (12 becomes '12')",
    "empty": "%s: %d records have neither text nor title; they are kept",
    "surrogate": "%s: %d records hold half a surrogate pair, which is no character; U+FFFD stands in its place",
    "repeated": "%s: %d documents have an id that came before; the first of each is kept",
    "latin-1": "%s: %d documents are not UTF-8; they were read as Latin-1, as TREC's older disks are written",
}


class Record(NamedTuple):
    """A document and where it begins: file, line from 1, and the line's offset in bytes."""

    path: Path
    line: int
    offset: int
    document: Document


class DocumentStream:
    """Base of the readers: a subclass says how one pass over the records goes, this class checks what comes.

    A duplicate id is an `InputError` that names both lines; ids with white space and records without any text are counted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._remarked = self._distinct = False

    @property
    def files(self) -> list[Path]:
        return [self.path]

    @property
    def version(self) -> str:
        """Names, sizes and times of the files: another value means that they may have changed."""
        states = ((file, file.stat()) for file in self.files)
        return " ".join(f"{file.name}:{state.st_size}:{state.st_mtime_ns}" for file, state in states)

    def records(self, remarks: Counter[str]) -> Iterator[Record]:
        """A new pass over the files; what a user can live with is counted in `remarks`."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Document]:
        for batch in self.batches():
            yield from (record.document for record in batch)

    def batches(self) -> Iterator[list[Record]]:
        """A new pass, in lists of checked records. No record at all is an `InputError`."""
        remarks: Counter[str] = Counter()
        seen = SeenIds()
        batch: list[Record] = []
        characters = total = 0
        for record in self.records(remarks):
            remarks.update(oddities(record.document))
            batch.append(record)
            characters += len(record.document.text)
            if len(batch) == _BATCH_DOCUMENTS or characters > _BATCH_CHARACTERS:
                self._refuse_duplicates(batch, seen)
                yield batch
                total, batch, characters = total + len(batch), [], 0
        if not total + len(batch):
            raise InputError(f"{self.path} holds no records, expected at least one")
        if batch:
            self._refuse_duplicates(batch, seen)
            yield batch
        self._distinct = True
        if not self._remarked:
            say(remarks, self.path)
        self._remarked = True

    def _refuse_duplicates(self, batch: list[Record], seen: SeenIds) -> None:
        if self._distinct:  # an earlier pass found no duplicate
            return
        for position in seen.add([record.document.id for record in batch]):
            second = batch[position]
            first = next(r for r in self.records(Counter()) if r.document.id == second.document.id)
            if (first.path, first.line) != (second.path, second.line):
                where = f"line {first.line}" if first.path == second.path else f"{first.path}:{first.line}"
                raise InputError(
                    f"{second.path}:{second.line}: the id {second.document.id!r} was already given in {where}: keep one"
                )


def oddities(document: Document) -> list[str]:
    """Keys of the remarks that a document calls for."""
    document_id, text, title = document
    found = []
    if not document_id.isalnum() and any(map(str.isspace, document_id)):
        found.append("white space")
    if (not text or text.isspace()) and (not title or title.isspace()):
        found.append("empty")
    return found


def say(remarks: Counter[str], source: str | Path) -> None:
    """One warning for each kind of remark, with its count."""
    for what, message in _REMARKS.items():
        if remarks[what]:
            logger.warning(message, source, remarks[what])


def raw_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """(line number from 1, offset, line as bytes) of a file, unpacking gzip; a broken archive names the line it breaks in."""
    number = offset = 0
    with open_existing(path) as stream:
        while True:
            try:
                raw = stream.readline()
            except (EOFError, OSError, zlib.error) as error:
                raise InputError(
                    f"{path}:{number + 1}: can't be read on ({error}): fetch or write the file again"
                ) from error
            if not raw:
                return
            number += 1
            yield number, offset, raw
            offset += len(raw)


def text_lines(path: Path) -> Iterator[tuple[int, int, str]]:
    """`raw_lines` as text, blank lines left out; what is not UTF-8 is an `InputError`. A byte-order mark is dropped."""
    for number, offset, raw in raw_lines(path):
        try:
            line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}:{number}: not UTF-8 at byte {error.start + 1} of the line: convert the file to UTF-8"
            ) from error
        if not line.isspace() and line:
            yield number, offset, line
