"""Rows grouped by query: the columns beneath runs and judgements, their checks and their order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from .errors import InputError
from .ids import hashes, id_column, order_descending


class PerQuery:
    """Rows grouped by query: row i belongs to query q where `offsets[q] <= i < offsets[q + 1]`.

    `query_ids` are distinct, `offsets` is (q + 1,) int64, `doc_ids` (n,) an Arrow `large_string` array.
    """

    query_ids: tuple[str, ...]
    offsets: np.ndarray
    doc_ids: pa.Array
    _position: dict[str, int]

    def _set_rows(self, query_ids: Iterable[str], offsets: np.ndarray, doc_ids: Any, what: str) -> None:
        self.query_ids = tuple(query_ids)
        id_column(self.query_ids, f"{what}: query id")
        self._position = {query_id: i for i, query_id in enumerate(self.query_ids)}
        if len(self._position) != len(self.query_ids):
            twice = next(q for i, q in enumerate(self.query_ids) if self._position[q] != i)
            raise InputError(f"{what}: query {twice!r} is given twice")
        self.offsets = np.asarray(offsets, np.int64)
        self.doc_ids = id_column(doc_ids, f"{what}: document id")
        fits = len(self.offsets) == len(self.query_ids) + 1 and self.offsets[0] == 0
        if not fits or self.offsets[-1] != len(self.doc_ids) or (self.offsets[1:] < self.offsets[:-1]).any():
            raise InputError(
                f"{what}: {len(self.query_ids)} queries and {len(self.doc_ids)} rows do not fit the offsets"
            )

    def __len__(self) -> int:
        return len(self.query_ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self.query_ids)

    def __contains__(self, query_id: object) -> bool:
        return query_id in self._position

    @property
    def num_rows(self) -> int:
        return len(self.doc_ids)

    @property
    def query_of_row(self) -> np.ndarray:
        """Position in `query_ids` of each row: (n,) int64."""
        return np.repeat(np.arange(len(self.query_ids)), np.diff(self.offsets))

    def rows(self, query_id: str) -> slice:
        """Where one query's rows are; KeyError for an unknown query."""
        if query_id not in self._position:
            raise KeyError(query_id)
        i = self._position[query_id]
        return slice(int(self.offsets[i]), int(self.offsets[i + 1]))

    def ids(self, query_id: str) -> list[str]:
        """Document ids of one query in order; KeyError for an unknown query."""
        rows = self.rows(query_id)
        ids: list[str] = self.doc_ids.slice(rows.start, rows.stop - rows.start).to_pylist()
        return ids


def flatten(data: Mapping[str, Mapping[str, Any]]) -> tuple[np.ndarray, list[str], list[Any]]:
    """Offsets (q + 1,), document ids and values of `{query id: {document id: value}}`."""
    offsets = np.zeros(len(data) + 1, np.int64)
    np.cumsum([len(row) for row in data.values()], out=offsets[1:])
    ids = [doc_id for row in data.values() for doc_id in row]
    return offsets, ids, [value for row in data.values() for value in row.values()]


def query_blocks(offsets: np.ndarray, rows: int = 1 << 16) -> Iterator[tuple[int, int]]:
    """Ranges (first, last) of neighbouring queries that have about `rows` rows together.

    What is computed a block at a time stays in the processor's cache, and seven million rows need no large temporaries.
    """
    first, end = 0, len(offsets) - 1
    while first < end:
        last = int(np.searchsorted(offsets, offsets[first] + rows, "right")) - 1
        last = min(max(last, first + 1), end)
        yield first, last
        first = last


def refuse_duplicates(table: PerQuery, what: str) -> None:
    """Raise for a document that a query has twice; hashes find candidates, exact ids decide."""
    for first, last in query_blocks(table.offsets):
        start, stop = int(table.offsets[first]), int(table.offsets[last])
        query = np.repeat(np.arange(last - first, dtype=np.uint64), np.diff(table.offsets[first : last + 1]))
        keys = hashes(table.doc_ids.slice(start, stop - start), query)
        keys.sort()
        if not (keys[1:] == keys[:-1]).any():
            continue
        for query_id in table.query_ids[first:last]:
            seen: set[str] = set()
            for doc_id in table.ids(query_id):
                if doc_id in seen:
                    raise InputError(f"{what}: query {query_id!r} has document {doc_id!r} twice; keep one row of each")
                seen.add(doc_id)


def best_first(table: PerQuery, scores: np.ndarray) -> np.ndarray | None:
    """The row order (n,) that sorts each query by score, ties by id, both descending; None where the rows are in it.

    Costs one comparison a row when they are.
    """
    order: np.ndarray | None = None
    for first, last in query_blocks(table.offsets):
        start, stop = int(table.offsets[first]), int(table.offsets[last])
        offsets = table.offsets[first : last + 1] - start
        moved = _block_order(scores[start:stop], table.doc_ids.slice(start, stop - start), offsets)
        if moved is not None:
            if order is None:
                order = np.arange(table.num_rows, dtype=np.int32 if table.num_rows < 1 << 31 else np.int64)
            order[start:stop] = moved + start
    return order


def _block_order(scores: np.ndarray, doc_ids: pa.Array, offsets: np.ndarray) -> np.ndarray | None:
    """The right order of the rows of whole queries, or None where they are in it."""
    borders = offsets[1:-1]
    borders = borders[(borders > 0) & (borders < len(scores))] - 1  # rows whose successor is another query's
    rises, tied = scores[1:] > scores[:-1], scores[1:] == scores[:-1]
    rises[borders] = tied[borders] = False
    order = np.arange(len(scores))
    if rises.any():
        query = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        order = np.lexsort((-scores, query))
        tied = scores[order[1:]] == scores[order[:-1]]
        tied[borders] = False
    elif not tied.any():
        return None
    rows = np.flatnonzero(np.append(tied, False) | np.append(False, tied))
    if len(rows):
        group = np.cumsum(np.append(False, ~tied))[rows]
        order[rows] = order[rows][order_descending(doc_ids.take(pa.array(order[rows])), group)]
    return order if (order[1:] < order[:-1]).any() else None
