"""Compiled: the best of a query's candidates in order: score descending, then rank descending."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiling import compiled

#: Buckets by score that candidates are put into; what shares one is then sorted.
_BUCKETS = 2048

#: So few are sorted by insertion.
_FEW = 16


@compiled
def _before(score: float, rank: int, other: float, other_rank: int) -> Any:
    return score > other or (score == other and rank > other_rank)


@compiled
def _rank(ranks: Any, row: int) -> Any:
    return np.int64(ranks[row]) if len(ranks) else np.int64(row)


@compiled
def _sift(order: Any, begin: int, root: int, size: int, rows: Any, scores: Any, ranks: Any) -> None:
    """Restore the heap, whose first is the last in order, below `root`."""
    while 2 * root + 1 < size:
        child = 2 * root + 1
        a = order[begin + child]
        if child + 1 < size:
            b = order[begin + child + 1]
            if _before(scores[a], _rank(ranks, rows[a]), scores[b], _rank(ranks, rows[b])):
                child, a = child + 1, b
        top = order[begin + root]
        if not _before(scores[top], _rank(ranks, rows[top]), scores[a], _rank(ranks, rows[a])):
            return
        order[begin + root], order[begin + child] = a, top
        root = child


@compiled
def _sort_span(order: Any, begin: int, end: int, rows: Any, scores: Any, ranks: Any) -> None:
    size = end - begin
    if size <= _FEW:
        for i in range(begin + 1, end):
            moved = order[i]
            score, rank = scores[moved], _rank(ranks, rows[moved])
            j = i
            while j > begin and _before(score, rank, scores[order[j - 1]], _rank(ranks, rows[order[j - 1]])):
                order[j] = order[j - 1]
                j -= 1
            order[j] = moved
        return
    for root in range(size // 2 - 1, -1, -1):
        _sift(order, begin, root, size, rows, scores, ranks)
    for last in range(size - 1, 0, -1):
        order[begin], order[begin + last] = order[begin + last], order[begin]
        _sift(order, begin, 0, last, rows, scores, ranks)


@compiled
def sort_descending(rows: Any, scores: Any, ranks: Any, best_rows: Any, best_scores: Any) -> int:
    """Write the best of `rows` (n,) with `scores` (n,) into `best_rows` and `best_scores` (k,); returns how many.

    Equal scores go by `ranks[row]`, descending, or by row where `ranks` is empty.
    """
    n = len(rows)
    if not n:
        return 0
    least, most = scores[0], scores[0]
    for i in range(n):
        least, most = min(least, scores[i]), max(most, scores[i])
    width = (most - least) / (_BUCKETS - 1)
    per_score = 1 / width if width > 0 else 0.0
    starts, buckets = np.zeros(_BUCKETS + 1, np.int32), np.empty(n, np.int32)
    for i in range(n):
        bucket: Any = min(_BUCKETS - 1, np.int64((most - scores[i]) * per_score))
        buckets[i] = bucket
        starts[bucket + 1] += 1
    for i in range(_BUCKETS):
        starts[i + 1] += starts[i]
    order = np.empty(n, np.int32)
    places = starts[:-1].copy()
    for i in range(n):
        order[places[buckets[i]]] = i
        places[buckets[i]] += 1
    wanted = min(n, len(best_rows))
    for i in range(_BUCKETS):
        if starts[i] >= wanted:
            break
        if starts[i + 1] - starts[i] > 1:
            _sort_span(order, starts[i], starts[i + 1], rows, scores, ranks)
    for i in range(wanted):
        best_rows[i], best_scores[i] = rows[order[i]], scores[order[i]]
    return wanted
