"""Compiled: search of stored impacts. A query's terms are added in the order in which they are given.

The inner loop over a segment stands where it is used: as a function of its own, taken in or not, it was a third slower.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiling import compiled
from .block_max_loops import ABOVE, BUCKETS, TINY, WORTH_ASKING, look_ahead, none_reaches, settle, take_range
from .postings import RANGE

#: The row after the last one of a list.
_END = np.iinfo(np.int64).max


@compiled
def _add_blocks(
    slot: int, r: int, factor: float, t: int, cursors: Any, sums: Any,
    blocks: Any, starts: Any, rows: Any, distances: Any, weights: Any,
) -> None:  # fmt: skip
    """Add a rare term's weights in range `r`, from its cursor on, which moves."""
    begin, end = r * RANGE, (r + 1) * RANGE
    block, place, row = cursors[t, 0], cursors[t, 1], cursors[t, 2]
    while row < end:
        stop, base = starts[block + 1], np.int64(rows[block])
        while row < end and place < stop:
            if row >= begin:
                sums[np.uint64(row - begin)] += factor * np.float64(weights[np.uint64(place)])
            place += 1
            if place < stop:
                row = base + np.int64(distances[np.uint64(place)])
        if place == stop:
            block += 1
            row = np.int64(rows[block]) if block < blocks[slot + 1] else _END
    cursors[t, 0], cursors[t, 1], cursors[t, 2] = block, place, row


@compiled
def _prepare(
    slots: Any, factors: Any, tables: Any, bounds: Any, cursors: Any,
    largest: Any, rare_blocks: Any, rare_starts: Any, rare_rows: Any, rare_largest: Any,
) -> Any:  # fmt: skip
    """Fill the terms' `tables` (t · 256,) and `cursors` (t, 3), and `bounds` (t, ranges) with the largest score in each range.

    A cursor is a rare term's block, the place in it, and the row there. Returns the largest score anywhere.
    """
    everywhere = 0.0
    for t in range(len(slots)):
        factor, slot, highest = factors[t], slots[t], 0.0
        if slot >= 0:
            for code in range(256):
                tables[t * 256 + code] = factor * np.float64(code)
            for r in range(bounds.shape[1]):
                bounds[t, r] = factor * np.float64(largest[slot, r])
                highest = max(highest, bounds[t, r])
        else:
            first = rare_blocks[-2 - slot]
            cursors[t, 0], cursors[t, 1], cursors[t, 2] = first, rare_starts[first], rare_rows[first]
            for block in range(first, rare_blocks[-1 - slot]):
                highest = max(highest, factor * np.float64(rare_largest[block]))
            bounds[t] = highest
        everywhere += highest
    return everywhere


@compiled
def _search(
    slots: Any, factors: Any, tables: Any, bounds: Any, cursors: Any, sums: Any, rest: Any, left: Any,
    starts: Any, segments: Any, distances: Any, weights: Any,
    rare_blocks: Any, rare_starts: Any, rare_rows: Any, rare_distances: Any, rare_weights: Any,
    k: int, largest: float, allowed: Any, buckets: Any, state: Any, rows: Any, scores: Any,
) -> Any:  # fmt: skip
    """One query's candidates, see block_max_loops.py; returns the threshold."""
    buckets[:] = 0
    state[:] = 0
    floor = TINY
    for r in range(bounds.shape[1]):
        look_ahead(bounds, slots, segments, r, rest, left)
        if rest[0] * ABOVE < floor:
            continue
        hopeless = False
        for t in range(len(slots)):
            if left[t] > WORTH_ASKING and rest[t] < floor and none_reaches(sums, floor / ABOVE - rest[t]):
                hopeless = True
                break
            if slots[t] >= 0:
                slot, factor = slots[t], factors[t]
                begin = np.uint64(starts[slot] + np.int64(segments[slot, r]))
                end = np.uint64(starts[slot] + np.int64(segments[slot, r + 1]))
                at, table_at = np.uint64(0), np.uint64(t * 256)
                if weights.itemsize == 1:
                    for i in range(begin, end):
                        at += np.uint64(distances[i])
                        sums[at] += tables[table_at + np.uint64(weights[i])]
                else:
                    for i in range(begin, end):
                        at += np.uint64(distances[i])
                        sums[at] += factor * np.float64(weights[i])
            elif cursors[t, 2] < (r + 1) * RANGE:
                _add_blocks(
                    -2 - slots[t], r, factors[t], t, cursors, sums,
                    rare_blocks, rare_starts, rare_rows, rare_distances, rare_weights,
                )  # fmt: skip
        if hopeless:
            sums[:] = 0
        else:
            floor = take_range(sums, r * RANGE, allowed, k, largest, floor, buckets, state, rows, scores)
    return floor


@compiled
def search_impacts(
    lists: Any, indptr: Any, slots: Any, factors: Any, k: int, documents: int, allowed: Any, ranks: Any,
    best_rows: Any, best_scores: Any, best: Any,
) -> None:  # fmt: skip
    """Fill `best_rows` and `best_scores` (queries, k) and their numbers `best` (queries,).

    `slots` and `factors` are the terms of query q from `indptr[q]` to `indptr[q + 1]` that the index has.
    `allowed` (documents,) bool and `ranks` (documents,) int32 may be empty.
    """
    longest = np.diff(indptr).max()
    bounds, tables = np.empty((longest, -(-documents // RANGE))), np.empty(longest * 256)
    rest, left = np.empty(longest + 1), np.empty(longest + 1, np.int64)
    cursors, sums = np.empty((longest, 3), np.int64), np.zeros(RANGE)
    buckets, state = np.empty(BUCKETS + 1, np.int32), np.empty(3, np.int64)
    rows, scores = np.empty(documents + 1, np.int32), np.empty(documents + 1)
    for q in range(len(indptr) - 1):
        mine = slice(indptr[q], indptr[q + 1])
        own_slots, own_factors = slots[mine], factors[mine]
        largest = _prepare(
            own_slots, own_factors, tables, bounds, cursors,
            lists.frequent_largest, lists.rare_blocks, lists.rare_starts, lists.rare_rows, lists.rare_largest,
        )  # fmt: skip
        floor = _search(
            own_slots, own_factors, tables, bounds, cursors, sums, rest, left,
            lists.frequent_starts, lists.frequent_segments, lists.frequent_distances, lists.frequent_weights,
            lists.rare_blocks, lists.rare_starts, lists.rare_rows, lists.rare_distances, lists.rare_weights,
            k, largest, allowed, buckets, state, rows, scores,
        )  # fmt: skip
        best[q] = settle(floor, state, rows, scores, False, ranks, best_rows[q], best_scores[q])
