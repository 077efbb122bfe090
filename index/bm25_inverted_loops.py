"""Compiled: terms of documents are counted, and the counts packed into bytes and unpacked again.

A document's counts are its terms, ascending. Of each stands the distance to the one before, doubled, plus one if it occurs
more than once; then the count follows. A number is bytes of seven bits, the lowest first; all but its last have bit 7 set.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiling import compiled


@compiled
def count_terms(numbers: Any, offsets: Any, terms: int, indptr: Any, ids: Any, counts: Any) -> int:
    """Count `numbers` (n,) of the documents numbers[offsets[i]:offsets[i + 1]], each below `terms`.

    Fills `indptr` (documents + 1,), and `ids` and `counts` (n,) in the order of first occurrence; returns how many.
    """
    seen = np.zeros(terms, np.int32)
    found = 0
    for document in range(len(offsets) - 1):
        first = found
        for i in range(offsets[document], offsets[document + 1]):
            number = numbers[i]
            if seen[number] == 0:
                ids[found] = number
                found += 1
            seen[number] += 1
        for i in range(first, found):
            counts[i] = seen[ids[i]]
            seen[ids[i]] = 0
        indptr[document + 1] = found
    return found


@compiled
def _put(value: int, packed: Any, at: int) -> int:
    while value > 127:
        packed[at] = (value & 127) | 128
        value >>= 7
        at += 1
    packed[at] = value
    return at + 1


@compiled
def pack_counts(indptr: Any, ids: Any, counts: Any, places: Any, packed: Any, starts: Any) -> int:
    """Pack rows of terms `places[ids]`; `packed` needs 10 bytes a term. Fills `starts` (rows + 1,), returns the last."""
    at = 0
    for row in range(len(indptr) - 1):
        first, last = indptr[row], indptr[row + 1]
        keys = np.empty(last - first, np.int64)
        for i in range(first, last):
            keys[i - first] = (np.int64(places[ids[i]]) << 31) | counts[i]
        keys.sort()
        before = 0
        for key in keys:
            term, count = key >> 31, key & 0x7FFFFFFF
            at = _put((term - before) * 2 + (count > 1), packed, at)
            if count > 1:
                at = _put(count, packed, at)
            before = term
        starts[row + 1] = at
    return at


@compiled
def _get(packed: Any, at: int) -> Any:
    """The number at `at`, and where it ends."""
    value, shift = np.int64(packed[at] & 127), 7
    while packed[at] > 127:
        at += 1
        value |= np.int64(packed[at] & 127) << shift
        shift += 7
    return value, at + 1


@compiled
def unpack_counts(packed: Any, starts: Any, first: int, indptr: Any, ids: Any, counts: Any) -> int:
    """Unpack the rows from `first` on, as many as `indptr` (rows + 1,) has; returns the number of terms."""
    found = 0
    for row in range(len(indptr) - 1):
        at, term = starts[first + row], 0
        while at < starts[first + row + 1]:
            value, at = _get(packed, at)
            term += value >> 1
            ids[found], counts[found] = term, 1
            if value & 1:
                counts[found], at = _get(packed, at)
            found += 1
        indptr[row + 1] = found
    return found
