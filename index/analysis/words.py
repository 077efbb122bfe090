"""A growing table of distinct words, for compiled code: arrays that a hash leads into."""

from __future__ import annotations

import itertools

import numpy as np


class Words:
    """Words by number, as UTF-16 units one after another; `loops.place` finds and adds them in these arrays.

    `slots` (a power of two,) int32 is the hash table, `hashes` (n,) uint64, `starts` (n + 1,) int64, `units` uint16.
    """

    def __init__(self) -> None:
        self.slots = np.full(1 << 12, -1, np.int32)
        self.hashes = np.zeros(1 << 11, np.uint64)
        self.starts = np.zeros((1 << 11) + 1, np.int64)
        self.units = np.zeros(1 << 14, np.uint16)

    def reserve(self, count: int, words: int, units: int) -> None:
        """Make room for `words` more words, of `units` units together, after the first `count`."""
        from .loops import fill_slots

        self.units = enlarged(self.units, int(self.starts[count]) + units)
        if count + words > len(self.hashes):
            self.hashes = enlarged(self.hashes, count + words)
            self.starts = enlarged(self.starts, len(self.hashes) + 1)
            self.slots = np.full(2 * len(self.hashes), -1, np.int32)
            fill_slots(self.slots, self.hashes, count)

    def texts(self, first: int, last: int) -> list[str]:
        """The words numbered first..last."""
        bounds = self.starts[first : last + 1].tolist()
        if not bounds:
            return []
        units = self.units[bounds[0] : bounds[-1]]
        data = units.tobytes().decode("utf-16-le")
        if len(data) < len(units):  # some characters take two units: places are those of characters then
            halves = np.concatenate([[0], np.cumsum((units & 0xFC00) == 0xDC00)])
            bounds = (self.starts[first : last + 1] - halves[self.starts[first : last + 1] - bounds[0]]).tolist()
        return [data[a - bounds[0] : b - bounds[0]] for a, b in itertools.pairwise(bounds)]


def enlarged(array: np.ndarray, size: int) -> np.ndarray:
    """At least `size` long, by doubling."""
    length = len(array)
    if size <= length:
        return array
    while length < size:
        length *= 2
    grown = np.zeros(length, array.dtype)
    grown[: len(array)] = array
    return grown
