"""Compiled: search of stored impacts. Terms are added in ascending order, so that scores do not depend on what is skipped."""

from __future__ import annotations

from typing import Any

import numpy as np

from .block_max_loops import ABOVE, BUCKETS, TINY, settle, take_range
from .compiling import compiled
from .postings import RANGE

#: The row after the last one of a list.
_END = np.iinfo(np.int64).max


@compiled
def _add_range(
    r: int, slots: Any, factors: Any, tables: Any, sums: Any,
    frequent_starts: Any, segments: Any, distances: Any, weights: Any,
    cursors: Any, rare_blocks: Any, rare_starts: Any, rare_rows: Any, rare_distances: Any, rare_weights: Any,
) -> None:  # fmt: skip
    """Add the weights of all terms in range `r` to `sums`."""
    begin, end = r * RANGE, (r + 1) * RANGE
    for t in range(len(slots)):
        slot, factor = slots[t], factors[t]
        if slot >= 0:
            first = np.uint64(frequent_starts[slot] + np.int64(segments[slot, r]))
            last = np.uint64(frequent_starts[slot] + np.int64(segments[slot, r + 1]))
            at = np.uint64(0)
            if weights.itemsize == 1:
                table = np.uint64(t * 256)
                for i in range(first, last):
                    at += np.uint64(distances[i])
                    sums[at] += tables[table + np.uint64(weights[i])]
            else:
                for i in range(first, last):
                    at += np.uint64(distances[i])
                    sums[at] += factor * np.float64(weights[i])
            continue
        block, place, row = cursors[t, 0], cursors[t, 1], cursors[t, 2]
        while row < end:
            stop, base = rare_starts[block + 1], np.int64(rare_rows[block])
            while row < end and place < stop:
                if row >= begin:
                    sums[np.uint64(row - begin)] += factor * np.float64(rare_weights[np.uint64(place)])
                place += 1
                if place < stop:
                    row = base + np.int64(rare_distances[np.uint64(place)])
            if place == stop:
                block += 1
                row = np.int64(rare_rows[block]) if block < rare_blocks[-1 - slot] else _END
        cursors[t, 0], cursors[t, 1], cursors[t, 2] = block, place, row


@compiled
def _prepare(
    slots: Any, factors: Any, tables: Any, bounds: Any, cursors: Any,
    largest: Any, rare_blocks: Any, rare_starts: Any, rare_rows: Any, rare_largest: Any,
) -> Any:  # fmt: skip
    """Fill the terms' `tables` (t · 256,) and `cursors` (t, 3), and `bounds` (ranges,) with the largest score in each range.

    A cursor is a rare term's block, the place in it, and the row there. Returns the largest score anywhere.
    """
    everywhere = 0.0
    bounds[:] = 0
    for t in range(len(slots)):
        factor, slot, highest = factors[t], slots[t], 0.0
        if slot >= 0:
            for code in range(256):
                tables[t * 256 + code] = factor * np.float64(code)
            for r in range(len(bounds)):
                bound = factor * np.float64(largest[slot, r])
                bounds[r] += bound
                highest = max(highest, bound)
        else:
            first = rare_blocks[-2 - slot]
            cursors[t, 0], cursors[t, 1], cursors[t, 2] = first, rare_starts[first], rare_rows[first]
            for block in range(first, rare_blocks[-1 - slot]):
                highest = max(highest, factor * np.float64(rare_largest[block]))
            for r in range(len(bounds)):
                bounds[r] += highest
        everywhere += highest
    return everywhere


@compiled
def search_impacts(
    lists: Any, indptr: Any, slots: Any, factors: Any, k: int, documents: int, allowed: Any, ranks: Any,
    best_rows: Any, best_scores: Any, best: Any,
) -> None:  # fmt: skip
    """Fill `best_rows` and `best_scores` (queries, k) and their numbers `best` (queries,).

    `slots` and `factors` are the terms of query q from `indptr[q]` to `indptr[q + 1]` that the index has, ascending.
    `allowed` (documents,) bool and `ranks` (documents,) int32 may be empty.
    """
    longest = np.diff(indptr).max()
    bounds, tables = np.empty(-(-documents // RANGE)), np.empty(longest * 256)
    cursors, sums = np.empty((longest, 3), np.int64), np.zeros(RANGE)
    buckets, state = np.empty(BUCKETS + 1, np.int32), np.empty(3, np.int64)
    rows, scores = np.empty(documents, np.int32), np.empty(documents)
    for q in range(len(indptr) - 1):
        mine = slice(indptr[q], indptr[q + 1])
        own_slots, own_factors = slots[mine], factors[mine]
        buckets[:] = 0
        state[:] = 0
        floor = TINY
        everywhere = _prepare(
            own_slots, own_factors, tables, bounds, cursors,
            lists.frequent_largest, lists.rare_blocks, lists.rare_starts, lists.rare_rows, lists.rare_largest,
        )  # fmt: skip
        for r in range(len(bounds)):
            if bounds[r] * ABOVE < floor:
                continue
            _add_range(
                r, own_slots, own_factors, tables, sums,
                lists.frequent_starts, lists.frequent_segments, lists.frequent_distances, lists.frequent_weights,
                cursors, lists.rare_blocks, lists.rare_starts, lists.rare_rows, lists.rare_distances, lists.rare_weights,
            )  # fmt: skip
            floor = take_range(sums, r * RANGE, allowed, k, everywhere, floor, buckets, state, rows, scores)
        best[q] = settle(floor, state, rows, scores, False, ranks, best_rows[q], best_scores[q])
