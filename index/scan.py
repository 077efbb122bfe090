"""Exact search by a low-precision scan: 8-bit products with proved bounds, then exact scores of the few rows left.

One pass over the codes keeps, per query, the rows whose upper bound reaches the k-th best lower bound so far; a tile of
eight rows that has none costs one comparison. Then the k best by bound are scored exactly (float64 sums over the stored
vectors), which raises the threshold, and after them those rows that could still reach it. Nothing that could belong to
the answer is lost, so the result is that of scoring every row exactly.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from .codes import DIM_STEP, QueryCodes, encode, query_codes

#: Queries scanned together: their codes stay in the second-level cache.
_QUERIES = 512

#: Bytes of candidate lists of one thread.
_LIST_BYTES = 1 << 27

#: Bytes of one candidate: row, upper and lower bound.
_CANDIDATE = 16

#: A query's list holds so many times k rows, and some.
_ROOM, _MORE_ROOM = 16, 1024

#: Multiply-adds of plain searches that take about as long as loading the compiled loops.
LOADING_WORK = 1 << 33

#: For fewer queries at once, making codes on the fly costs more than it saves.
FEW_QUERIES = 16

#: For long lists the scan pays from so many rows for each wanted one: else most of the time goes into the lists.
ROWS_PER_WANTED = 128

#: Shares of the rows below which gathering the allowed ones is faster: from codes in files, and made on the fly.
FEW_ROWS, MOST_ROWS = 1 / 32, 1 / 2

#: Norms whose squares and products stay far from float32's ends.
_LARGEST_NORM = 1e15

#: (number of a shard) → its stored vectors (m, d), memory-mapped.
Vectors = Callable[[int], np.ndarray]

#: (number of a shard) → its codes and bounds (codes.py), or None where the index has none: they are then made on the fly.
Codes = Callable[[int], tuple[np.ndarray, np.ndarray] | None]


def suits(dim: int, largest_norm: float, queries: np.ndarray) -> bool:
    """Whether bounds can be computed: whole registers, finite values, norms far from float32's ends."""
    largest = max(largest_norm, float(np.linalg.norm(queries.astype(np.float64), axis=1).max(initial=0.0)))
    return dim % DIM_STEP == 0 and 0 < dim < 1 << 15 and largest < _LARGEST_NORM


def threads() -> int:
    """OMP_NUM_THREADS where it is set, else the cores that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Shards:
    """The stored rows: shard i holds the rows from `starts[i]` to `starts[i + 1]`."""

    starts: np.ndarray
    vectors: Vectors
    codes: Codes
    similarity: str

    def __len__(self) -> int:
        return len(self.starts) - 1

    def coded(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        stored = self.codes(number)
        return encode(self.vectors(number), self.similarity) if stored is None else stored


class _Lists:
    """Candidates of b queries, `room` for each: rows int64, upper and lower bounds float32, in ascending row order."""

    def __init__(self, queries: int, room: int, k: int) -> None:
        self.rows = np.empty((queries, room), np.int64)
        self.upper = np.empty((queries, room), np.float32)
        self.lower = np.empty((queries, room), np.float32)
        self.count = np.zeros(queries, np.int64)
        self.limit = np.full(queries, min(room, 2 * k + 64), np.int64)
        self.scratch = np.empty(room, np.float32)
        self.out = np.empty((4, 8), np.float32)


def search(
    shards: Shards, queries: np.ndarray, k: int, mask: np.ndarray | None = None, workers: int = 1
) -> Iterator[tuple[np.ndarray, np.ndarray] | None]:
    """Per query of float32 `queries` (b, d): exact scores (m,) float32 and rows (m,) int64 of at least its k best rows.

    Among them are all rows that tie with the k-th best; m < k only where fewer rows are allowed by `mask` (n,) bool. None
    stands for a query that has more near-ties than its list takes; it needs another way.
    """
    room = _ROOM * k + _MORE_ROOM
    step = max(4, min(_QUERIES, _LIST_BYTES // (room * _CANDIDATE)) // 4 * 4)
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(queries), step):
            yield from _search(shards, queries[start : start + step], k, room, mask, pool, workers)


def _search(
    shards: Shards, queries: np.ndarray, k: int, room: int, mask: np.ndarray | None, pool: Any, workers: int
) -> Iterator[tuple[np.ndarray, np.ndarray] | None]:
    from . import scan_kernel as kernel

    coded = query_codes(queries, shards.similarity)
    lists = [_Lists(len(coded.codes), room, k) for _ in range(workers)]
    everything = np.empty(0, bool)

    def scan(number: int, held: _Lists) -> None:
        first, last = (int(start) for start in shards.starts[number : number + 2])
        allowed = everything if mask is None else mask[first:last]
        if mask is not None and not allowed.any():
            return
        codes, bounds = shards.coded(number)
        kernel.scan(
            codes, bounds, first, allowed, coded.codes, coded.terms, coded.gap, k,
            held.rows, held.upper, held.lower, held.count, held.limit, held.scratch, held.out,
        )  # fmt: skip

    _shared_out(scan, range(len(shards)), lists, pool)
    held, overflowed = _joined(lists, len(queries), coded)
    exact, wanted = _exact(shards, coded, k, held, pool, workers)
    for query in range(len(queries)):
        if overflowed[query]:
            yield None
        else:
            known = np.flatnonzero(wanted[query, : held.count[query]] == 2)
            yield exact[query, known], held.rows[query, known]


def _shared_out(work: Callable[[int, Any], None], numbers: Sequence[int], states: Sequence[Any], pool: Any) -> None:
    """Call `work(number, state)` for all numbers, one thread per state, each taking the next number when it is free."""
    if len(states) == 1:
        for number in numbers:
            work(number, states[0])
        return
    following = iter(numbers)  # the GIL makes next() atomic

    def run(state: Any) -> None:
        for number in following:
            work(number, state)

    for done in [pool.submit(run, state) for state in states]:
        done.result()


def _joined(lists: list[_Lists], queries: int, coded: QueryCodes) -> tuple[_Lists, np.ndarray]:
    """One list per query of what still reaches its threshold, and which queries overflowed (b,) bool."""
    overflowed = np.any([held.count[:queries] < 0 for held in lists], axis=0)
    if len(lists) == 1:
        held = lists[0]
        held.count = np.maximum(held.count[:queries], 0)
        return held, overflowed
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for query in range(queries):
        parts = [(held.rows[query, : held.count[query]], held.upper[query, : held.count[query]]) for held in lists]
        rows, upper = (
            (np.concatenate(column) for column in zip(*parts, strict=True)) if not overflowed[query] else ((), ())
        )
        good = np.flatnonzero(np.asarray(upper) >= coded.terms[query, 4])
        order = good[np.argsort(np.asarray(rows)[good])]
        kept.append((np.asarray(rows)[order], np.asarray(upper)[order]))
    joined = _Lists(queries, max(1, max(len(rows) for rows, _ in kept)), 1)
    for query, (rows, upper) in enumerate(kept):
        joined.count[query] = len(rows)
        joined.rows[query, : len(rows)], joined.upper[query, : len(rows)] = rows, upper
    return joined, overflowed


def _exact(
    shards: Shards, coded: QueryCodes, k: int, held: _Lists, pool: Any, workers: int
) -> tuple[np.ndarray, np.ndarray]:
    """Exact scores (b, room) float32 of all rows that can be among the k best, and where they are known (== 2)."""
    from . import scan_kernel as kernel

    width = max(1, int(held.count.max(initial=0)))
    exact = np.empty((len(held.count), width), np.float32)
    wanted = np.zeros((len(held.count), width), np.uint8)
    squared = int(shards.similarity == "l2")
    sums = [np.empty(1) for _ in range(workers)]

    def score(number: int, room: np.ndarray) -> None:
        first, last = (int(start) for start in shards.starts[number : number + 2])
        vectors = shards.vectors(number)
        kernel.exact_sums(
            vectors.ctypes.data, int(vectors.dtype == np.float16), vectors.shape[1], first, last, squared, coded.wide,
            held.rows, held.count, wanted, exact, room,
        )  # fmt: skip

    kernel.want_best(k, held.upper, held.count, wanted, held.scratch)
    _shared_out(score, _touched(shards, held, wanted), sums, pool)
    kernel.want_rest(k, coded.squares, held.upper, held.count, wanted, exact, held.scratch)
    _shared_out(score, _touched(shards, held, wanted), sums, pool)
    return exact, wanted


def _touched(shards: Shards, held: _Lists, wanted: np.ndarray) -> list[int]:
    """The shards that hold a wanted row."""
    rows = held.rows[: len(wanted), : wanted.shape[1]][wanted == 1]
    found: list[int] = np.unique(np.searchsorted(shards.starts, rows, side="right") - 1).tolist()
    return found
