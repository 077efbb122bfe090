"""Has this id been seen before? Answered for a stream of any length at eight bytes a document."""

from __future__ import annotations

import numpy as np

from ..ids import hashes, id_column


class SeenIds:
    """64-bit hashes of all ids so far, in sorted arrays that double in size, so that adding stays cheap.

    The answer "perhaps" is to be checked against the source itself: two ids may share a hash (8.8 million ids do with a
    probability of about two in a million). Another `seed` makes other, independent hashes.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._sorted: list[np.ndarray] = []

    def __len__(self) -> int:
        return sum(len(part) for part in self._sorted)

    def add(self, ids: list[str]) -> list[int]:
        """Take in a batch; returns the positions in it of ids that perhaps came before, in the batch or earlier."""
        keys = hashes(id_column(ids), self._seed)
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        again = np.zeros(len(keys), bool)
        again[order[1:]] = ordered[1:] == ordered[:-1]
        for part in self._sorted:
            at = np.minimum(np.searchsorted(part, keys), len(part) - 1)
            again |= part[at] == keys
        self._take(ordered)
        return [int(position) for position in np.flatnonzero(again)]

    def _take(self, part: np.ndarray) -> None:
        while self._sorted and len(self._sorted[-1]) <= len(part):
            part = np.sort(np.concatenate([self._sorted.pop(), part]), kind="stable")
        if len(part):
            self._sorted.append(part)
