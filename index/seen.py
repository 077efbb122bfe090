"""Which 64-bit hashes have been met: 8 bytes each, a shard at a time."""

from __future__ import annotations

import numpy as np


class SeenHashes:
    """A growing set of uint64 in sorted runs, merged like the carries of a binary counter: O(log n) runs."""

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> np.ndarray:
        """Add `values` (n,) uint64. Returns the mask (n,) of those that were met before or occur twice among them."""
        unique, first, counts = np.unique(values, return_index=True, return_counts=True)
        met = np.ones(len(values), bool)
        met[first] = counts > 1
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, values), len(run) - 1)
            met |= run[at] == values
        self._runs.append(unique)
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            merged = np.concatenate([self._runs.pop(), self._runs.pop()])
            merged.sort()
            self._runs.append(merged)
        return met

    def __len__(self) -> int:
        return sum(map(len, self._runs))
