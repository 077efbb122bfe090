"""How often each term stands in each document of a shard: made by analysis, kept packed, read by rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..progress import Advance
from ..records import Document
from .analysis.english import EnglishAnalyzer
from .analysis.vocabulary import Vocabulary, write_vocabulary
from .durable import write_array

#: Characters that are analysed at a time, about, and documents.
_CHARACTERS, _DOCUMENTS = 1 << 19, 4096

#: Rows that are unpacked at a time.
_ROWS = 4096

#: Rows of documents: `indptr` (n + 1,) int64, `ids` (nnz,) int32, `counts` (nnz,) int32.
Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


def write_counts(folder: Path, documents: list[Document], advance: Advance) -> None:
    """Analyse `documents` and write the shard's vocabulary and `counts.bin`, with where each row begins in `counts.npy`."""
    from .bm25_inverted_loops import pack_counts

    analyzer = EnglishAnalyzer()
    parts = [_counted(analyzer, batch, advance) for batch in _batches(documents)]
    terms = pa.array(analyzer.terms(0, len(analyzer)), pa.large_string())
    order = pc.sort_indices(terms)
    write_vocabulary(folder, terms.take(order))
    places = np.empty(len(terms), np.int32)
    places[order.to_numpy()] = np.arange(len(terms), dtype=np.int32)
    starts = [np.zeros(1, np.int64)]
    with (folder / "counts.bin").open("wb") as stream:
        for indptr, ids, counts in parts:
            packed, own = np.empty(10 * len(ids), np.uint8), np.zeros(len(indptr), np.int64)
            size = pack_counts(indptr, ids, counts, places, packed, own)
            starts.append(own[1:] + starts[-1][-1])
            stream.write(packed[:size].data)
    write_array(folder / "counts.npy", starts, len(documents) + 1, (), np.int64)


def _batches(documents: list[Document]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for document in documents:
        batch.append(document.full_text)
        size += len(batch[-1])
        if size >= _CHARACTERS or len(batch) == _DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _counted(analyzer: EnglishAnalyzer, texts: list[str], advance: Advance) -> Rows:
    from .bm25_inverted_loops import count_terms

    numbers, offsets = analyzer.number(texts)
    indptr = np.zeros(len(texts) + 1, np.int64)
    ids, counts = np.empty(len(numbers), np.int32), np.empty(len(numbers), np.int32)
    found = count_terms(numbers, offsets, len(analyzer), indptr, ids, counts)
    advance(len(texts))
    return indptr, ids[:found].copy(), counts[:found].copy()


class ShardCounts:
    """The counts of one shard, memory-mapped. `terms` is its vocabulary."""

    def __init__(self, shard: Path) -> None:
        self.terms = Vocabulary(shard)
        self._starts = np.load(shard / "counts.npy")
        empty = self._starts[-1] == 0  # which can't be mapped
        self._packed = np.zeros(0, np.uint8) if empty else np.asarray(np.memmap(shard / "counts.bin", mode="r"))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def rows(self, first: int, last: int) -> Rows:
        """The rows first..last, terms by the shard's numbers."""
        from .bm25_inverted_loops import unpack_counts

        most = int(self._starts[last] - self._starts[first])
        indptr = np.zeros(last - first + 1, np.int64)
        ids, counts = np.empty(most, np.int32), np.empty(most, np.int32)
        found = unpack_counts(self._packed, self._starts, first, indptr, ids, counts)
        return indptr, ids[:found], counts[:found]

    def __iter__(self) -> Iterator[Rows]:
        """All rows, some thousands at a time."""
        for first in range(0, len(self), _ROWS):
            yield self.rows(first, min(first + _ROWS, len(self)))
