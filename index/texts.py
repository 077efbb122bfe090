"""Documents by id or by row, out of the files of an index: memory-mapped, so that opening costs nothing.

A document's row is its place in the corpus. Per shard: `texts.bin` holds title and text of each document, UTF-8, one
after another; `texts.npy` (2n + 1,) int64 where each begins; `ids.bin` and `ids.npy` (n + 1,) the same for the ids.
For the whole index: all ids in row order, and `ids.hashes.npy` sorted with `ids.rows.npy` beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..ids import hashes, id_column
from ..records import DescribedDocument, Document
from .conditions import MetadataTable
from .durable import write_array
from .manifest import Manifest
from .metadata import FILE as METADATA
from .metadata import shard_metadata

#: Mapped files cost a file descriptor each; so many shards stay open at once.
_OPEN_SHARDS = 64

#: Up to so many ids are kept as Python strings.
_KEPT_IDS = 1 << 20

_CHUNK_ROWS = 1 << 20


def write_texts(folder: Path, documents: list[Document]) -> None:
    """Write the texts and the ids of one shard."""
    _write_strings(folder / "texts", (s for d in documents for s in (d.title, d.text)), 2 * len(documents))
    _write_strings(folder / "ids", (document.id for document in documents), len(documents))


def _write_strings(stem: Path, strings: Iterable[str], count: int) -> None:
    offsets = np.zeros(count + 1, np.int64)
    with stem.with_suffix(".bin").open("wb") as stream:
        for i, string in enumerate(strings, 1):
            offsets[i] = offsets[i - 1] + stream.write(string.encode())
    write_array(stem.with_suffix(".npy"), [offsets], count + 1, (), np.int64)


def read_ids(folder: Path) -> pa.Array:
    """The ids in `folder` (a shard's or `whole/`) as an Arrow `large_string` array over the mapped files."""
    offsets = np.load(folder / "ids.npy", mmap_mode="r")
    return pa.LargeStringArray.from_buffers(
        len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(_mapped(folder / "ids.bin"))
    )


def shard_documents(folder: Path, rows: np.ndarray) -> Iterator[Document]:
    """The documents in `rows` (m,) int64 of one shard, with their metadata."""
    texts, offsets = _mapped(folder / "texts.bin"), np.load(folder / "texts.npy", mmap_mode="r")
    ids = read_ids(folder)
    metadata = shard_metadata(folder)
    for row in rows.tolist():
        begin, middle, end = offsets[2 * row : 2 * row + 3].tolist()
        text, title = bytes(texts[middle:end]).decode(), bytes(texts[begin:middle]).decode()
        document = Document(ids[row].as_py(), text, title)
        yield DescribedDocument.of(document, metadata[row]) if metadata and metadata[row] else document


def _mapped(path: Path) -> np.ndarray:
    if path.stat().st_size == 0:  # an empty file can't be mapped
        return np.zeros(0, np.uint8)
    return np.memmap(path, np.uint8, mode="r")


def write_id_tables(folder: Path, shards: list[Path]) -> None:
    """Join the shards' ids into one column and write the table that finds rows by id. Takes 24 bytes a document."""
    columns = [read_ids(shard) for shard in shards]
    rows = sum(map(len, columns))
    with (folder / "ids.bin").open("wb") as stream:
        for shard in shards:
            stream.write(_mapped(shard / "ids.bin").data)
    write_array(folder / "ids.npy", _joined_offsets(shards), rows + 1, (), np.int64)
    keys = np.concatenate([hashes(column) for column in columns])
    order = np.argsort(keys, kind="stable")
    write_array(folder / "ids.rows.npy", [order], rows, (), np.int64)
    keys.sort()
    write_array(folder / "ids.hashes.npy", [keys], rows, (), np.uint64)


def _joined_offsets(shards: list[Path]) -> Iterator[np.ndarray]:
    base = 0
    yield np.zeros(1, np.int64)
    for shard in shards:
        offsets = np.load(shard / "ids.npy", mmap_mode="r")
        yield offsets[1:] + base
        base += int(offsets[-1])


class TextStore:
    """The documents of an index. A `TextSource`: `get_many(ids)` answers for those it has.

    `ids` are those of all rows in order, also of rows that are deleted; by id a deleted document is not found.
    """

    def __init__(self, path: str | Path, manifest: Manifest) -> None:
        self.root = Path(path)
        self.manifest = manifest
        whole = manifest.whole_folder(path)
        self._starts = np.concatenate([[0], np.cumsum(manifest.shards)]).astype(np.int64)
        self.ids: pa.Array = read_ids(whole)  #: all ids, `large_string`, in row order
        self.deleted = manifest.deleted_rows(path)  #: (m,) int64, ascending
        self._hashes = np.load(whole / "ids.hashes.npy", mmap_mode="r")
        self._rows = np.load(whole / "ids.rows.npy", mmap_mode="r")
        self._shard = lru_cache(maxsize=_OPEN_SHARDS)(partial(_open_texts, manifest.shard_folders(path)))

    def __len__(self) -> int:
        return len(self.ids) - len(self.deleted)

    def __contains__(self, doc_id: object) -> bool:
        return isinstance(doc_id, str) and bool(self.rows_of([doc_id])[0] >= 0)

    def ids_at(self, rows: np.ndarray) -> np.ndarray:
        """The ids (n,) of `rows` (n,), str objects."""
        return np.asarray(self.ids.take(pa.array(rows)).to_numpy(zero_copy_only=False), object)

    def kept_ids_at(self, rows: np.ndarray) -> np.ndarray:
        """`ids_at` for many short lists: up to a million ids are kept as Python strings (about 60 bytes each)."""
        if len(self.ids) > _KEPT_IDS:
            return self.ids_at(rows)
        return self._kept_ids[rows]

    @cached_property
    def _kept_ids(self) -> np.ndarray:
        return np.array(self.ids.to_pylist(), object)

    def rows_of(self, ids: Iterable[str] | pa.Array) -> np.ndarray:
        """The row (n,) int64 of each id, -1 for one that the index does not have."""
        asked = id_column(ids)
        keys = hashes(asked)
        rows = np.full(len(asked), -1, np.int64)
        at = np.searchsorted(self._hashes, keys)
        open_ = np.arange(len(asked))
        while len(open_):  # one round, but for ids that share a hash or were deleted and added again
            open_ = open_[at[open_] < len(self._hashes)]
            open_ = open_[self._hashes[at[open_]] == keys[open_]]
            found = self._rows[at[open_]]
            equal = pc.equal(self.ids.take(pa.array(found)), asked.take(pa.array(open_)))
            same = equal.to_numpy(zero_copy_only=False).astype(bool) & ~self.is_deleted(found)
            rows[open_[same]] = found[same]
            open_ = open_[~same]
            at[open_] += 1
        return rows

    @cached_property
    def metadata(self) -> MetadataTable | None:
        """The documents' metadata, if any has some."""
        if f"{self.manifest.whole}/{METADATA}" not in self.manifest.files:
            return None
        return MetadataTable(self.manifest.whole_folder(self.root) / METADATA, str(self.root))

    def is_deleted(self, rows: np.ndarray) -> np.ndarray:
        """Which of `rows` (n,) are deleted: (n,) bool."""
        if not len(self.deleted):
            return np.zeros(len(rows), bool)
        at = np.minimum(np.searchsorted(self.deleted, rows), len(self.deleted) - 1)
        return np.asarray(self.deleted[at] == rows)

    def get_many(self, ids: Collection[str]) -> dict[str, Document]:
        asked = list(ids)
        rows = self.rows_of(asked)
        return {asked[i]: self.document(int(rows[i])) for i in np.argsort(rows, kind="stable") if rows[i] >= 0}

    def document(self, row: int) -> Document:
        """The document in `row`; IndexError beyond the last."""
        if not 0 <= row < len(self.ids):
            raise IndexError(f"row {row} of {len(self.ids)} documents")
        shard = int(np.searchsorted(self._starts, row, side="right")) - 1
        texts, offsets = self._shard(shard)
        begin, middle, end = offsets[2 * (row - int(self._starts[shard])) :][:3].tolist()
        text, title = bytes(texts[middle:end]).decode(), bytes(texts[begin:middle]).decode()
        return Document(self.ids[row].as_py(), text, title)

    def __iter__(self) -> Iterator[Document]:
        """All documents in corpus order, without the deleted ones."""
        gone = set(self.deleted.tolist())
        return (self.document(row) for row in range(len(self.ids)) if row not in gone)


def _open_texts(folders: list[Path], number: int) -> tuple[np.ndarray, np.ndarray]:
    """The texts and offsets of a shard. No method: an index that is dropped should go at once, with what it holds."""
    return _mapped(folders[number] / "texts.bin"), np.load(folders[number] / "texts.npy", mmap_mode="r")
