"""Compiled: search of counts by BM25, as Lucene computes it: each term's score in float32, their sum in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from .block_max_loops import ABOVE, BUCKETS, TINY, settle, take_range
from .compiling import compiled
from .postings import LARGE, RANGE

#: Counts below this have their scores in a table, for each of the 256 lengths.
_TABLED = 8

#: Scores of a term's table.
_TABLE = _TABLED * 256

#: The row after the last one of a list.
_END = np.iinfo(np.int64).max


@compiled
def _score(factor: float, count: Any, inverse: Any) -> Any:
    """Lucene's score of a count: `factor` is boost times idf, `inverse` that of the length's norm."""
    one, weight, frequency = np.float32(1), np.float32(factor), np.float32(count)
    return np.float64(weight - weight / (one + frequency * inverse))


@compiled
def _large(place: int, large_places: Any, large_counts: Any) -> Any:
    """The count of which LARGE is stored; `place` is as in `large_places`."""
    begin, end = 0, len(large_places)
    while begin < end:
        middle = (begin + end) >> 1
        if large_places[middle] < place:
            begin = middle + 1
        else:
            end = middle
    return large_counts[begin]


@compiled
def _add_frequent(
    r: int, slot: int, factor: float, inverses: Any, lengths: Any, tables: Any, table: int, sums: Any,
    frequent_starts: Any, segments: Any, distances: Any, codes: Any, large_places: Any, large_counts: Any,
) -> None:  # fmt: skip
    at, begin = np.uint64(0), np.uint64(r * RANGE)
    for i in range(
        np.uint64(frequent_starts[slot] + np.int64(segments[slot, r])),
        np.uint64(frequent_starts[slot] + np.int64(segments[slot, r + 1])),
    ):
        at += np.uint64(distances[i])
        code, length = np.uint64(codes[i]), np.uint64(lengths[begin + at])
        if code < _TABLED:
            sums[at] += tables[np.uint64(table) + code * np.uint64(256) + length]
        elif code < LARGE:
            sums[at] += _score(factor, code, inverses[length])
        else:
            sums[at] += _score(factor, _large(np.int64(i), large_places, large_counts), inverses[length])


@compiled
def _add_rare(
    r: int, slot: int, factor: float, inverses: Any, lengths: Any, sums: Any, cursor: Any,
    blocks: Any, starts: Any, rows: Any, distances: Any, codes: Any, large_places: Any, large_counts: Any,
) -> None:  # fmt: skip
    begin, end = r * RANGE, (r + 1) * RANGE
    block, place, row = cursor[0], cursor[1], cursor[2]
    while row < end:
        stop, base = starts[block + 1], np.int64(rows[block])
        while row < end and place < stop:
            if row >= begin:
                code, inverse = codes[np.uint64(place)], inverses[lengths[np.uint64(row)]]
                count = np.float32(code) if code < LARGE else _large(~place, large_places, large_counts)
                sums[np.uint64(row - begin)] += _score(factor, count, inverse)
            place += 1
            if place < stop:
                row = base + np.int64(distances[np.uint64(place)])
        if place == stop:
            block += 1
            row = np.int64(rows[block]) if block < blocks[slot + 1] else _END
    cursor[0], cursor[1], cursor[2] = block, place, row


@compiled
def _add_range(
    r: int, lists: Any, slots: Any, factors: Any, inverses: Any, tables: Any, sums: Any, cursors: Any
) -> None:
    """Add the scores of all terms in range `r` to `sums`."""
    lengths, large_places, large_counts = lists.lengths, lists.large_places, lists.large_counts
    for t in range(len(slots)):
        if slots[t] >= 0:
            _add_frequent(
                r, slots[t], factors[t], inverses, lengths, tables, t * _TABLE, sums,
                lists.frequent_starts, lists.frequent_segments, lists.frequent_distances, lists.frequent_weights,
                large_places, large_counts,
            )  # fmt: skip
        elif cursors[t, 2] < (r + 1) * RANGE:
            _add_rare(
                r, -2 - slots[t], factors[t], inverses, lengths, sums, cursors[t],
                lists.rare_blocks, lists.rare_starts, lists.rare_rows, lists.rare_distances, lists.rare_weights,
                large_places, large_counts,
            )  # fmt: skip


@compiled
def _bound(factor: float, largest: int, shortest: int, inverses: Any) -> Any:
    return np.float64(np.float32(factor)) if largest == LARGE else _score(factor, largest, inverses[shortest])


@compiled
def _prepare(
    slots: Any, factors: Any, inverses: Any, tables: Any, bounds: Any, cursors: Any, largest: Any, shortest: Any,
    rare_blocks: Any, rare_starts: Any, rare_rows: Any, rare_largest: Any, rare_shortest: Any,
) -> Any:  # fmt: skip
    """As in `impact_loops.py`; a term's table has the score of each count below _TABLED for each length."""
    everywhere = 0.0
    bounds[:] = 0
    for t in range(len(slots)):
        factor, slot, highest = factors[t], slots[t], 0.0
        if slot >= 0:
            for count in range(_TABLED):
                for length in range(256):
                    tables[t * _TABLE + count * 256 + length] = _score(factor, count, inverses[length])
            for r in range(len(bounds)):
                bound = _bound(factor, largest[slot, r], shortest[slot, r], inverses)
                bounds[r] += bound
                highest = max(highest, bound)
        else:
            first = rare_blocks[-2 - slot]
            cursors[t, 0], cursors[t, 1], cursors[t, 2] = first, rare_starts[first], rare_rows[first]
            for block in range(first, rare_blocks[-1 - slot]):
                highest = max(highest, _bound(factor, rare_largest[block], rare_shortest[block], inverses))
            for r in range(len(bounds)):
                bounds[r] += highest
        everywhere += highest
    return everywhere


@compiled
def search_counts(
    lists: Any, indptr: Any, slots: Any, factors: Any, inverses: Any, k: int, documents: int, allowed: Any, ranks: Any,
    best_rows: Any, best_scores: Any, best: Any,
) -> None:  # fmt: skip
    """As `search_impacts`; `inverses` (256,) float32 are those of the norms of all lengths."""
    longest = np.diff(indptr).max()
    bounds, tables = np.empty(-(-documents // RANGE)), np.empty(longest * _TABLE)
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
            own_slots, own_factors, inverses, tables, bounds, cursors, lists.frequent_largest, lists.frequent_shortest,
            lists.rare_blocks, lists.rare_starts, lists.rare_rows, lists.rare_largest, lists.rare_shortest,
        )  # fmt: skip
        for r in range(len(bounds)):
            if bounds[r] * ABOVE < floor:
                continue
            _add_range(r, lists, own_slots, own_factors, inverses, tables, sums, cursors)
            floor = take_range(sums, r * RANGE, allowed, k, everywhere, floor, buckets, state, rows, scores)
        best[q] = settle(floor, state, rows, scores, True, ranks, best_rows[q], best_scores[q])
