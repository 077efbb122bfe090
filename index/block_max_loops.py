"""Compiled: what searches of impacts and of counts share: a range's sums become candidates, those raise the threshold.

The threshold is the lower edge of the bucket, of BUCKETS equal ones from 0 to the largest possible score, that the k-th best
candidate so far is in: keeping it costs one count a candidate. Candidates are in `rows` and `scores`; `state` has their
number, the bucket, and how many lie from that bucket on.

In all these loops places in arrays are unsigned numbers: of signed ones numba asks each time whether they are negative.
And arrays are local variables: an array taken from a tuple in an inner loop costs more than what is done with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiling import compiled
from .best import sort_descending

BUCKETS = 1 << 13

#: Scores of counts are compared as float32: what is below the threshold by this factor is below it as float32.
_BELOW = 1 - 2.0**-21

#: Bounds are sums in another order than scores: they may be smaller by this much.
ABOVE = 1 + 1e-9

#: Sums that are compared with the threshold before any of them is looked at: first so many, then those of a register.
_STRIDE, _LANES = 64, 8

#: Sums that are looked at before the first of them can end the look.
_PIECE = 256

#: Postings that are worth asking first whether any sum can still reach the threshold.
WORTH_ASKING = 512

#: Less than any score (no product of float32 numbers is as small), and the threshold before there are k candidates. Not
#: the smallest number of all: where a library had the processor take such for 0, all documents would reach it.
TINY = 1e-300


@compiled
def look_ahead(bounds: Any, slots: Any, segments: Any, r: int, rest: Any, left: Any) -> None:
    """Fill `rest` and `left` (t + 1,): what terms from each on can still add in range `r`, and how many postings they have
    there, as far as those are frequent terms.
    """
    rest[len(slots)], left[len(slots)] = 0.0, 0
    for t in range(len(slots) - 1, -1, -1):
        rest[t] = rest[t + 1] + bounds[t, r]
        size = np.int64(segments[slots[t], r + 1]) - np.int64(segments[slots[t], r]) if slots[t] >= 0 else 0
        left[t] = left[t + 1] + size


@compiled
def none_reaches(sums: Any, limit: float) -> Any:
    """Whether all sums are below `limit`."""
    for begin in range(0, len(sums), _PIECE):
        some = 0
        for i in range(np.uint64(begin), np.uint64(begin + _PIECE)):
            some += sums[i] >= limit
        if some:
            return False
    return True


@compiled
def take_range(
    sums: Any, first: int, allowed: Any, k: int, largest: float, floor: float,
    buckets: Any, state: Any, rows: Any, scores: Any,
) -> Any:  # fmt: skip
    """Make candidates of the sums that reach `floor`, clear the sums, and return the new floor.

    `first` is the row of the first sum, `largest` no less than any score, `allowed` (documents,) bool may be empty. Of
    `rows` and `scores` the place after the last candidate may be written.
    """
    before = found = state[0]
    for begin in range(0, len(sums), _STRIDE):
        some = 0
        for i in range(np.uint64(begin), np.uint64(begin + _STRIDE)):
            some += sums[i] >= floor
        if not some:
            continue
        for start in range(begin, begin + _STRIDE, _LANES):
            some = 0
            for i in range(np.uint64(start), np.uint64(start + _LANES)):
                some += sums[i] >= floor
            if some:
                for i in range(np.uint64(start), np.uint64(start + _LANES)):
                    rows[found], scores[found] = np.uint64(first) + i, sums[i]
                    found += sums[i] >= floor and (not len(allowed) or allowed[np.uint64(first) + i])
    sums[:] = 0
    if found == before:
        return floor
    per_score = BUCKETS / largest
    for i in range(before, found):
        buckets[min(BUCKETS, np.int64(scores[i] * per_score))] += 1
    bucket, above = state[1], state[2] + found - before
    while bucket < BUCKETS and above - buckets[bucket] >= k:
        above -= buckets[bucket]
        bucket += 1
    state[0], state[1], state[2] = found, bucket, above
    return max(TINY, bucket / per_score * _BELOW)


@compiled
def settle(
    floor: float, state: Any, rows: Any, scores: Any, single: bool, ranks: Any, best_rows: Any, best_scores: Any
) -> int:  # fmt: skip
    """Order the best candidates (`best.py`); with `single` their scores are rounded to float32 first."""
    kept = 0
    for i in range(np.uint64(state[0])):
        score = scores[i]
        rows[kept], scores[kept] = rows[i], np.float64(np.float32(score)) if single else score
        kept += score >= floor
    count: int = sort_descending(rows[:kept], scores[:kept], ranks, best_rows, best_scores)
    return count
