"""Centroids of token vectors, and the nearest centroid of a token."""

from __future__ import annotations

import numpy as np

#: Tokens that are compared with all centroids at a time.
_TOKENS = 4096


class NearestCentroids:
    """Finds the nearest of `centroids` (K, d) float32 by inner product; of equally near ones the first."""

    def __init__(self, centroids: np.ndarray) -> None:
        self.centroids = np.ascontiguousarray(centroids, np.float32)

    def of(self, tokens: np.ndarray) -> np.ndarray:
        """The numbers (T,) int64 of the centroids of `tokens` (T, d) float32."""
        found = np.empty(len(tokens), np.int64)
        for start in range(0, len(tokens), _TOKENS):
            part = tokens[start : start + _TOKENS]
            found[start : start + len(part)] = (part @ self.centroids.T).argmax(axis=1)
        return found
