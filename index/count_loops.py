"""Compiled: search of counts by BM25, as Lucene computes it: each term's score in float32, their sum in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiling import compiled
from .block_max_loops import ABOVE, BUCKETS, TINY, WORTH_ASKING, look_ahead, none_reaches, settle, take_range
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
def _add_blocks(
    slot: int, r: int, factor: float, inverses: Any, lengths: Any, t: int, cursors: Any, sums: Any,
    blocks: Any, starts: Any, rows: Any, distances: Any, codes: Any, large_places: Any, large_counts: Any,
) -> None:  # fmt: skip
    """Add a rare term's scores in range `r`, from its cursor on, which moves."""
    begin, end = r * RANGE, (r + 1) * RANGE
    block, place, row = cursors[t, 0], cursors[t, 1], cursors[t, 2]
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
    cursors[t, 0], cursors[t, 1], cursors[t, 2] = block, place, row


@compiled
def _bound(factor: float, largest: int, shortest: int, inverses: Any) -> Any:
    return np.float64(np.float32(factor)) if largest == LARGE else _score(factor, largest, inverses[shortest])


@compiled
def _prepare(
    slots: Any, factors: Any, inverses: Any, tables: Any, bounds: Any, cursors: Any, largest: Any, shortest: Any,
    rare_blocks: Any, rare_starts: Any, rare_rows: Any, rare_largest: Any, rare_shortest: Any, first: int, last: int,
) -> Any:  # fmt: skip
    """As in `impact_loops.py`; a term's table has the scores of counts below _TABLED for the lengths first..last."""
    everywhere = 0.0
    for t in range(len(slots)):
        factor, slot, highest = factors[t], slots[t], 0.0
        if slot >= 0:
            for count in range(_TABLED):
                for length in range(first, last + 1):
                    tables[t * _TABLE + count * 256 + length] = _score(factor, count, inverses[length])
            for r in range(bounds.shape[1]):
                bounds[t, r] = _bound(factor, largest[slot, r], shortest[slot, r], inverses)
                highest = max(highest, bounds[t, r])
        else:
            block = rare_blocks[-2 - slot]
            cursors[t, 0], cursors[t, 1], cursors[t, 2] = block, rare_starts[block], rare_rows[block]
            for block in range(rare_blocks[-2 - slot], rare_blocks[-1 - slot]):
                highest = max(highest, _bound(factor, rare_largest[block], rare_shortest[block], inverses))
            bounds[t] = highest
        everywhere += highest
    return everywhere


@compiled
def _search(
    slots: Any, factors: Any, inverses: Any, tables: Any, bounds: Any, cursors: Any, sums: Any, rest: Any, left: Any,
    starts: Any, segments: Any, distances: Any, codes: Any, lengths: Any, large_places: Any, large_counts: Any,
    rare_blocks: Any, rare_starts: Any, rare_rows: Any, rare_distances: Any, rare_codes: Any,
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
                factor, at, first = factors[t], np.uint64(0), np.uint64(r * RANGE)
                begin = np.uint64(starts[slots[t]] + np.int64(segments[slots[t], r]))
                end = np.uint64(starts[slots[t]] + np.int64(segments[slots[t], r + 1]))
                table_at = np.uint64(t * _TABLE)
                for i in range(begin, end):
                    at += np.uint64(distances[i])
                    code, length = np.uint64(codes[i]), np.uint64(lengths[first + at])
                    if code < np.uint64(_TABLED):
                        sums[at] += tables[table_at + (code << np.uint64(8) | length)]
                    elif code < np.uint64(LARGE):
                        sums[at] += _score(factor, code, inverses[length])
                    else:
                        sums[at] += _score(factor, _large(np.int64(i), large_places, large_counts), inverses[length])
            elif cursors[t, 2] < (r + 1) * RANGE:
                _add_blocks(
                    -2 - slots[t], r, factors[t], inverses, lengths, t, cursors, sums,
                    rare_blocks, rare_starts, rare_rows, rare_distances, rare_codes, large_places, large_counts,
                )  # fmt: skip
        if hopeless:
            sums[:] = 0
        else:
            floor = take_range(sums, r * RANGE, allowed, k, largest, floor, buckets, state, rows, scores)
    return floor


@compiled
def search_counts(
    lists: Any, indptr: Any, slots: Any, factors: Any, inverses: Any, first: int, last: int,
    k: int, documents: int, allowed: Any, ranks: Any, best_rows: Any, best_scores: Any, best: Any,
) -> None:  # fmt: skip
    """As `search_impacts`; `inverses` (256,) float32 are those of the norms of all length bytes, which are first..last."""
    longest = np.diff(indptr).max()
    bounds, tables = np.empty((longest, -(-documents // RANGE))), np.empty(longest * _TABLE)
    rest, left = np.empty(longest + 1), np.empty(longest + 1, np.int64)
    cursors, sums = np.empty((longest, 3), np.int64), np.zeros(RANGE)
    buckets, state = np.empty(BUCKETS + 1, np.int32), np.empty(3, np.int64)
    rows, scores = np.empty(documents + 1, np.int32), np.empty(documents + 1)
    for q in range(len(indptr) - 1):
        mine = slice(indptr[q], indptr[q + 1])
        own_slots, own_factors = slots[mine], factors[mine]
        largest = _prepare(
            own_slots, own_factors, inverses, tables, bounds, cursors, lists.frequent_largest, lists.frequent_shortest,
            lists.rare_blocks, lists.rare_starts, lists.rare_rows, lists.rare_largest, lists.rare_shortest, first, last,
        )  # fmt: skip
        floor = _search(
            own_slots, own_factors, inverses, tables, bounds, cursors, sums, rest, left,
            lists.frequent_starts, lists.frequent_segments, lists.frequent_distances, lists.frequent_weights,
            lists.lengths, lists.large_places, lists.large_counts,
            lists.rare_blocks, lists.rare_starts, lists.rare_rows, lists.rare_distances, lists.rare_weights,
            k, largest, allowed, buckets, state, rows, scores,
        )  # fmt: skip
        best[q] = settle(floor, state, rows, scores, True, ranks, best_rows[q], best_scores[q])
