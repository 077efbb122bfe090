"""Compiled: the centroids that a query probes, the documents that have them, and MaxSim over centroids alone (PLAID)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiling import compiled

#: Centroids whose best scores are looked at together before one of them is.
_TOGETHER = 16


@compiled
def _sift(cells: Any, values: Any, size: int) -> None:
    """Restore the heap of the first `size`, whose first is the worst, after that one was replaced: the least value, and of
    equal ones the last centroid."""
    root = 0
    while 2 * root + 1 < size:
        child = 2 * root + 1
        if child + 1 < size and (
            values[child + 1] < values[child]
            or (values[child + 1] == values[child] and cells[child + 1] > cells[child])
        ):
            child += 1
        if values[root] < values[child] or (values[root] == values[child] and cells[root] > cells[child]):
            return
        values[root], values[child] = values[child], values[root]
        cells[root], cells[child] = cells[child], cells[root]
        root = child


@compiled
def best_centroids(scores: Any, cells: Any, values: Any) -> None:
    """Write into `cells` (t, n) int32 the centroids that score best for each query token, best first, and into `values`
    (t, n) float32 their scores; equal ones by number, ascending.

    `scores` (K, t or more) float32, finite, n <= K.
    """
    terms, count = cells.shape
    values[:] = -np.inf
    cells[:] = -1
    best = np.empty(terms, np.float32)
    for first in range(0, len(scores), _TOGETHER):
        last = min(first + _TOGETHER, len(scores))
        best[:] = -np.inf
        for cell in range(first, last):
            for j in range(terms):
                best[j] = max(best[j], scores[cell, j])
        for j in range(terms):
            if best[j] > values[j, 0]:
                for cell in range(first, last):
                    if scores[cell, j] > values[j, 0]:
                        values[j, 0], cells[j, 0] = scores[cell, j], cell
                        _sift(cells[j], values[j], count)
    for j in range(terms):
        for size in range(count - 1, 0, -1):
            values[j, 0], values[j, size] = values[j, size], values[j, 0]
            cells[j, 0], cells[j, size] = cells[j, size], cells[j, 0]
            _sift(cells[j], values[j], size)


@compiled
def scoring_at_least(scores: Any, terms: int, threshold: float, kept: Any) -> None:
    """Write into `kept` (K,) uint8 which centroids have a score of `threshold` or more for one of the query's tokens."""
    bound = np.float32(threshold)
    for cell in range(len(scores)):
        found = np.uint8(0)
        for j in range(terms):
            found |= np.uint8(scores[cell, j] >= bound)
        kept[cell] = found


@compiled
def mark_documents(cells: Any, rows: Any, offsets: Any, seen: Any) -> None:
    """Set `seen` (n,) bool for the documents of the centroids `cells`; `rows` and `offsets` are the postings'."""
    for cell in cells:
        for place in range(offsets[cell], offsets[cell + 1]):
            seen[rows[place]] = True


@compiled
def centroid_sums(codes: Any, offsets: Any, rows: Any, scores: Any, terms: int, kept: Any, out: Any) -> None:
    """Write into `out` (m,) float64 the MaxSim of a query and the documents `rows` (m,) of a shard, whose tokens are taken
    for their centroids, and only for those that are `kept` (K,) uint8; minus infinity where none is.

    `scores` (K, terms or more) float32 are the centroids' and the query's `terms` tokens'.
    """
    longest = 1
    for row in rows:
        longest = max(longest, offsets[row + 1] - offsets[row])
    cells = np.empty(longest, np.int64)
    best = np.empty(scores.shape[1], np.float32)
    for i in range(len(rows)):
        count = 0
        for place in range(offsets[rows[i]], offsets[rows[i] + 1]):
            cells[count] = codes[place]  # without a branch, which could not be foreseen
            count += kept[codes[place]]
        best[:] = -np.inf
        for c in range(count):
            cell = cells[c]
            for j in range(len(best)):
                value = scores[cell, j]
                best[j] = value if value > best[j] else best[j]
        total = 0.0
        for j in range(terms):
            total += best[j]
        out[i] = total
