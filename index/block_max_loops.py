"""Compiled loops of `block_max.py`: one query's terms are added up range by range, and the best documents kept.

Sums are float64 and take terms in ascending order, so that a score does not depend on what was skipped. A range is skipped
when the sum of its terms' bounds is below the threshold. The threshold is the lower edge of the bucket, of BUCKETS equal ones from 0
to the largest possible score, that the k-th best document so far is in: to keep it costs one count a candidate.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiling import compiled
from .postings import LARGE, RANGE

BUCKETS = 1 << 14

#: Scores of counts are compared as float32: what is below the threshold by this factor is below it as float32.
_BELOW = 1 - 2.0**-21


@compiled
def _count(lists: Any, code: int, place: int) -> Any:
    """The count that is stored as `code`; `place` is what `large_places` calls it."""
    if code < LARGE:
        return np.float32(code)
    return lists.large_counts[np.searchsorted(lists.large_places, place)]


@compiled
def _bm25(factor: Any, count: Any, inverse: Any) -> Any:
    """Lucene's score of a count, in float32: `factor` is boost times idf, `inverse` that of the length's norm."""
    one, weight, frequency = np.float32(1), np.float32(factor), np.float32(count)
    return np.float64(weight - weight / (one + frequency * inverse))


@compiled
def _add_frequent(lists: Any, slot: int, segment: int, factor: float, inverses: Any, sums: Any) -> None:
    start = lists.frequent_starts[slot]
    begin = start + np.int64(lists.frequent_segments[slot, segment])
    end = start + np.int64(lists.frequent_segments[slot, segment + 1])
    at = 0
    if len(lists.lengths):
        first = segment * RANGE
        for i in range(begin, end):
            at += lists.frequent_distances[i]
            code = lists.frequent_weights[i]
            if code:
                sums[at] += _bm25(factor, _count(lists, code, i), inverses[lists.lengths[first + at]])
        return
    for i in range(begin, end):
        at += lists.frequent_distances[i]
        sums[at] += factor * np.float64(lists.frequent_weights[i])


@compiled
def _add_rare(
    lists: Any, slot: int, cursor: Any, begin: int, end: int, factor: float, inverses: Any, sums: Any
) -> None:
    """Add the documents begin..end; `cursor` is the block and the place in it, and moves on."""
    while cursor[0] < lists.rare_blocks[slot + 1]:
        base = np.int64(lists.rare_rows[cursor[0]])
        for i in range(cursor[1], lists.rare_starts[cursor[0] + 1]):
            row = base + lists.rare_distances[i]
            if row >= end:
                cursor[1] = i
                return
            if row < begin:
                continue
            if len(lists.lengths):
                count = _count(lists, lists.rare_weights[i], ~i)
                sums[row - begin] += _bm25(factor, count, inverses[lists.lengths[row]])
            else:
                sums[row - begin] += factor * np.float64(lists.rare_weights[i])
        cursor[0] += 1
        cursor[1] = lists.rare_starts[cursor[0]]


@compiled
def _bound(lists: Any, factor: float, largest: Any, shortest: int, inverses: Any) -> Any:
    if not len(lists.lengths):
        return factor * np.float64(largest)
    if largest >= LARGE:
        return np.float64(np.float32(factor))
    return _bm25(factor, largest, inverses[shortest])


@compiled
def _range_bounds(lists: Any, slots: Any, factors: Any, inverses: Any, bounds: Any) -> Any:
    """Fill `bounds` (ranges,) with the largest score possible in each range; returns that of all ranges."""
    everywhere = 0.0
    for t in range(len(slots)):
        highest = 0.0
        slot = slots[t]
        if slot >= 0:
            for r in range(len(bounds)):
                shortest = lists.frequent_shortest[slot, r] if len(lists.lengths) else np.uint8(0)
                bound = _bound(lists, factors[t], lists.frequent_largest[slot, r], shortest, inverses)
                bounds[r] += bound
                highest = max(highest, bound)
        else:
            slot = -2 - slot
            for block in range(lists.rare_blocks[slot], lists.rare_blocks[slot + 1]):
                shortest = lists.rare_shortest[block] if len(lists.lengths) else np.uint8(0)
                highest = max(highest, _bound(lists, factors[t], lists.rare_largest[block], shortest, inverses))
            for r in range(len(bounds)):
                bounds[r] += highest
        everywhere += highest
    return everywhere


@compiled
def _take(sums: Any, first: int, allowed: Any, floor: float, rows: Any, scores: Any, found: int) -> int:
    """Append what reaches `floor` to `rows` and `scores`, and clear the sums."""
    for i in range(len(sums)):
        if sums[i] >= floor and sums[i] > 0 and (not len(allowed) or allowed[first + i]):
            rows[found], scores[found] = first + i, sums[i]
            found += 1
    sums[:] = 0
    return found


@compiled
def search(
    lists: Any, slots: Any, factors: Any, inverses: Any, k: int, documents: int, allowed: Any,
    bounds: Any, cursors: Any, sums: Any, rows: Any, scores: Any,
) -> Any:  # fmt: skip
    """Candidates of one query: their number in `rows` and `scores`, and the threshold; the k best are among those above.

    `slots` and `factors` (t,) are the query's terms that the index has, ascending. `allowed` (documents,) bool may be
    empty. The other arrays are room: `bounds` (ranges,), `cursors` (t, 2), `sums` (RANGE,) zeros, `rows`, `scores` (documents,).
    """
    bounds[:] = 0
    everywhere = _range_bounds(lists, slots, factors, inverses, bounds)
    if not everywhere > 0:
        return 0, 0.0
    for t in range(len(slots)):
        if slots[t] < 0:
            cursors[t, 0] = lists.rare_blocks[-2 - slots[t]]
            cursors[t, 1] = lists.rare_starts[cursors[t, 0]]
    counts = np.zeros(BUCKETS + 1, np.int64)
    per_score = BUCKETS / everywhere
    found = bucket = 0
    above, floor = 0, 0.0  # candidates from `bucket` on
    for r in range(len(bounds)):
        if bounds[r] * (1 + 1e-9) < floor:
            continue
        begin, end = r * RANGE, min(documents, (r + 1) * RANGE)
        for t in range(len(slots)):
            if slots[t] >= 0:
                _add_frequent(lists, slots[t], r, factors[t], inverses, sums)
            else:
                _add_rare(lists, -2 - slots[t], cursors[t], begin, end, factors[t], inverses, sums)
        before = found
        found = _take(sums[: end - begin], begin, allowed, floor, rows, scores, found)
        for i in range(before, found):
            counts[min(BUCKETS, np.int64(scores[i] * per_score))] += 1
        above += found - before
        while bucket < BUCKETS and above - counts[bucket] >= k:
            above -= counts[bucket]
            bucket += 1
        floor = bucket / per_score * _BELOW
    return found, floor
