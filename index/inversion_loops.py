"""Compiled loops of `inversion.py`: sorting postings by term, and writing lists in the two forms of `postings.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiling import compiled
from .postings import BLOCK, RANGE


@compiled
def by_term(indptr: Any, ids: Any, weights: Any, first: int, terms: int) -> Any:
    """Bags of documents `first`, first + 1, … as lists: starts (terms + 1,), rows and weights, terms and rows ascending."""
    starts = np.zeros(terms + 1, np.int64)
    for i in range(len(ids)):
        starts[ids[i] + 1] += 1
    for term in range(terms):
        starts[term + 1] += starts[term]
    places = starts[:-1].copy()
    rows, values = np.empty(len(ids), np.uint32), np.empty(len(ids), np.float32)
    for document in range(len(indptr) - 1):
        for i in range(indptr[document], indptr[document + 1]):
            place = places[ids[i]]
            places[ids[i]] = place + 1
            rows[place] = first + document
            values[place] = weights[i]
    return starts, rows, values


@compiled
def append_lists(starts: Any, rows: Any, weights: Any, places: Any, all_rows: Any, all_weights: Any) -> None:
    """Append one run's lists (`starts` from the first of `rows`) to those of all, which are filled up to `places`."""
    for term in range(len(places)):
        place = places[term]
        for i in range(starts[term], starts[term + 1]):
            all_rows[place] = rows[i - starts[0]]
            all_weights[place] = weights[i - starts[0]]
            place += 1
        places[term] = place


@compiled
def list_sizes(starts: Any, rows: Any) -> Any:
    """Per list the entries of its frequent form and the blocks of its rare form."""
    entries, blocks = np.empty(len(starts) - 1, np.int64), np.empty(len(starts) - 1, np.int64)
    base: Any
    last: Any
    for term in range(len(starts) - 1):
        steps, count, held, base, last = 0, 0, BLOCK, 0, 0
        for i in range(starts[term], starts[term + 1]):
            row: Any = np.int64(rows[i])
            if i == starts[term] or row // RANGE != last // RANGE:
                last = row // RANGE * RANGE
            # Distances of 1 to 255 take one entry; 0 occurs at the start of a range only.
            steps += max(1, (row - last + 254) // 255)
            last = row
            if held == BLOCK or row - base > 65535:
                held, base, count = 0, row, count + 1
            held += 1
        entries[term], blocks[term] = steps, count
    return entries, blocks


@compiled
def write_frequent(
    chosen: Any, begins: Any, starts: Any, rows: Any, codes: Any, lengths: Any,
    distances: Any, weights: Any, segments: Any, largest: Any, shortest: Any,
) -> None:  # fmt: skip
    """Write the lists of the terms `chosen` (f,), each from `begins` (f,) on; `lengths` is empty except for counts."""
    for i in range(len(chosen)):
        segment, place, last = 0, begins[i], 0
        segments[i, 0] = 0
        for j in range(starts[chosen[i]], starts[chosen[i] + 1]):
            row: Any = np.int64(rows[j])
            if row >= (segment + 1) * RANGE or j == starts[chosen[i]]:
                last = row // RANGE * RANGE
            while row >= (segment + 1) * RANGE:
                segment += 1
                segments[i, segment] = place - begins[i]
            while row - last > 255:
                distances[place], weights[place] = 255, 0
                last += 255
                place += 1
            distances[place], weights[place] = row - last, codes[j]
            last = row
            place += 1
            largest[i, segment] = max(largest[i, segment], codes[j])
            if len(lengths):
                shortest[i, segment] = min(shortest[i, segment], lengths[row])
        while segment < segments.shape[1] - 1:
            segment += 1
            segments[i, segment] = place - begins[i]


@compiled
def write_rare(
    chosen: Any, starts: Any, rows: Any, codes: Any, lengths: Any,
    distances: Any, weights: Any, begins: Any, bases: Any, largest: Any, shortest: Any,
) -> None:  # fmt: skip
    """Write the lists of the terms `chosen` one after another, as blocks that begin at `begins` (blocks,)."""
    block, place = -1, 0
    for term in chosen:
        first = True
        for j in range(starts[term], starts[term + 1]):
            row: Any = np.int64(rows[j])
            if first or place - begins[block] == BLOCK or row - bases[block] > 65535:
                block += 1
                begins[block], bases[block] = place, row
                first = False
            distances[place], weights[place] = row - bases[block], codes[j]
            place += 1
            largest[block] = max(largest[block], codes[j])
            if len(lengths):
                shortest[block] = min(shortest[block], lengths[row])
