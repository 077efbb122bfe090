"""Compiled: texts are cut into tokens, and tokens become the numbers of their terms.

Texts are arrays of UTF-16 units, as in Java: Lucene cuts at 255 of them, and its stemmer reads them one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...compiling import compiled
from ...porter import stem

#: Lucene's longest token; a longer run is cut.
LONGEST = 255

#: Straight, curved, of full width.
_APOSTROPHES = (0x27, 0x2019, 0xFF07)
_S = ord("s")


@compiled
def find_tokens(units: Any, begin: int, end: int, classes: Any, moves: Any, accepting: Any, spans: Any) -> int:
    """Write begin and end of each token of units[begin:end] into `spans` (n, 2); returns how many."""
    found = 0
    at = begin
    while at < end:
        limit = min(end, at + LONGEST)
        if limit < end and 0xD800 <= units[limit - 1] < 0xDC00:
            limit -= 1  # no half of a pair
        state, i, last, width = 1, at, at, 1
        while i < limit:
            point, step = np.int64(units[i]), 1
            if 0xD800 <= point < 0xDC00 and i + 1 < limit and 0xDC00 <= units[i + 1] < 0xE000:
                point = 0x10000 + ((point - 0xD800) << 10) + (np.int64(units[i + 1]) - 0xDC00)
                step = 2
            if i == at:
                width = step
            state = moves[state, classes[point]] if point < len(classes) else 0
            if state == 0:
                break
            i += step
            if accepting[state]:
                last = i
        if last > at:
            spans[found, 0], spans[found, 1] = at, last
            found += 1
            at = last
        else:
            at += width
    return found


@compiled
def find_all_tokens(
    units: Any, ends: Any, classes: Any, moves: Any, accepting: Any, spans: Any, counts: Any
) -> int:  # fmt: skip
    """`find_tokens` of the texts units[ends[i]:ends[i + 1]], one after another; `counts` are those of each."""
    found = 0
    for i in range(len(counts)):
        counts[i] = find_tokens(units, ends[i], ends[i + 1], classes, moves, accepting, spans[found:])
        found += counts[i]
    return found


@compiled
def _normalised(units: Any, begin: int, end: int, lower: Any, word: Any) -> int:
    """Write units[begin:end] in lower case and without 's into `word`; returns its size."""
    size = end - begin
    if size > 1 and (units[end - 1] | 0x20) == _S:
        mark = units[end - 2]
        if mark in _APOSTROPHES:
            size -= 2
    i = 0
    while i < size:
        unit = np.int64(units[begin + i])
        if 0xD800 <= unit < 0xDC00 and i + 1 < size:
            point = 0x10000 + ((unit - 0xD800) << 10) + (np.int64(units[begin + i + 1]) - 0xDC00)
            if point < len(lower):
                point = np.int64(lower[point])
            word[i] = 0xD800 + ((point - 0x10000) >> 10)
            word[i + 1] = 0xDC00 + ((point - 0x10000) & 0x3FF)
            i += 2
        else:
            word[i] = lower[unit]
            i += 1
    return size


@compiled
def place(word: Any, size: int, slots: Any, hashes: Any, starts: Any, units: Any, count: int) -> int:
    """The number of `word` among the `count` known ones; a word that is new gets the number `count`."""
    value = np.uint64(14695981039346656037)
    for i in range(size):
        value = (value ^ np.uint64(word[i])) * np.uint64(1099511628211)
    value ^= value >> np.uint64(29)
    mask = np.uint64(len(slots) - 1)
    at = value & mask
    while slots[at] >= 0:
        known = slots[at]
        if hashes[known] == value and starts[known + 1] - starts[known] == size:
            first, equal = starts[known], True
            for i in range(size):
                if units[first + i] != word[i]:
                    equal = False
                    break
            if equal:
                return known
        at = (at + np.uint64(1)) & mask
    slots[at] = count
    hashes[count] = value
    first = starts[count]
    for i in range(size):
        units[first + i] = word[i]
    starts[count + 1] = first + size
    return count


@compiled
def fill_slots(slots: Any, hashes: Any, count: int) -> None:
    """Enter the first `count` words into empty `slots`."""
    mask = np.uint64(len(slots) - 1)
    for number in range(count):
        at = hashes[number] & mask
        while slots[at] >= 0:
            at = (at + np.uint64(1)) & mask
        slots[at] = number


@compiled
def number_terms(
    units: Any, spans: Any, lower: Any, meanings: Any,
    slots: Any, hashes: Any, starts: Any, known: Any, counts: Any,
    term_slots: Any, term_hashes: Any, term_starts: Any, term_units: Any, numbers: Any,
) -> None:  # fmt: skip
    """Write the term of each token of `spans` into `numbers`, -1 for a stop word.

    There are two tables of words (see `place`), of tokens and of terms; `counts` has the sizes of both. `meanings` are
    the tokens' terms.
    """
    word = np.empty(LONGEST + 1, np.uint16)
    for i in range(len(spans)):
        size = _normalised(units, spans[i, 0], spans[i, 1], lower, word)
        token = place(word, size, slots, hashes, starts, known, counts[0])
        if token == counts[0]:
            counts[0] += 1
            size = stem(word, size)
            term = place(word, size, term_slots, term_hashes, term_starts, term_units, counts[1])
            counts[1] += term == counts[1]
            meanings[token] = term
        numbers[i] = meanings[token]
