"""The nearest centroid of a token, in less than a comparison with all of them.

A k-means over the centroids themselves makes some 2 · √K groups, and each centroid is in the two whose centres are
nearest. A token is compared with the centres, and then with the centroids of those groups whose centre is nearly as near
as the nearest. That may miss the nearest centroid (bench_plaid_build.py counts how often, and what it costs).
"""

from __future__ import annotations

import math

import numpy as np

from .token_means import add_tokens
from .token_products import columns_of, ordered_product

#: Tokens that are compared at a time.
_TOKENS = 1 << 14

#: Up to so many centroids a token is compared with all.
FLAT = 512

#: Groups whose centre's cosine lies within `MARGIN` of the nearest centre's are looked into, the nearest `MOST` at most.
MARGIN, MOST = 0.3, 32

#: Iterations of the k-means over centroids.
_GROUPING = 8


class NearestCentroids:
    """Finds the nearest of `centroids` (K, d) float32 by inner product; of equally near ones the first.

    What is found for a token depends on it and the centroids alone, not on the other tokens nor on threads.
    """

    def __init__(self, centroids: np.ndarray, margin: float = MARGIN, most: int = MOST) -> None:
        self.centroids = np.ascontiguousarray(centroids, np.float32)
        self.margin, self.most = margin, most
        self._groups: list[tuple[np.ndarray, np.ndarray]] = []
        if len(self.centroids) <= FLAT:
            self._centres = columns_of(self.centroids)
            return
        centres, own = grouped(self.centroids)
        members = np.repeat(np.arange(len(own)), own.shape[1])
        order = np.argsort(own.ravel(), kind="stable")
        ends = np.cumsum(np.bincount(own.ravel(), minlength=len(centres)))
        filled = np.flatnonzero(np.diff(ends, prepend=0))
        for group in filled:
            inside = members[order[ends[group - 1] if group else 0 : ends[group]]]
            self._groups.append((inside, columns_of(self.centroids[inside])))
        self._centres = columns_of(centres[filled])

    def of(self, tokens: np.ndarray) -> np.ndarray:
        """The numbers (T,) int64 of the centroids of `tokens` (T, d) float32."""
        tokens = np.ascontiguousarray(tokens, np.float32)
        found = np.empty(len(tokens), np.int64)
        for start in range(0, len(tokens), _TOKENS):
            part = tokens[start : start + _TOKENS]
            to_centres = ordered_product(part, self._centres)
            if self._groups:
                found[start : start + len(part)] = self._in_groups(part, to_centres[:, : len(self._groups)])
            else:
                found[start : start + len(part)] = to_centres.argmax(axis=1)
        return found

    def _in_groups(self, tokens: np.ndarray, to_centres: np.ndarray) -> np.ndarray:
        best = np.full(len(tokens), -np.inf, np.float32)
        found = np.zeros(len(tokens), np.int64)
        looked_into = np.ascontiguousarray(self._looked_into(to_centres).T)
        for (members, columns), asked in zip(self._groups, looked_into, strict=True):
            rows = np.flatnonzero(asked)
            if not len(rows):
                continue
            products = ordered_product(tokens[rows], columns)
            at = products.argmax(axis=1)
            values, codes = products[np.arange(len(rows)), at], members[at]
            so_far = best[rows]
            better = (values > so_far) | ((values == so_far) & (codes < found[rows]))
            best[rows[better]] = values[better]
            found[rows[better]] = codes[better]
        return found

    def _looked_into(self, to_centres: np.ndarray) -> np.ndarray:
        """Which groups (T, G) bool are looked into."""
        near = to_centres >= to_centres.max(axis=1, keepdims=True) - np.float32(self.margin)
        many = np.flatnonzero(np.count_nonzero(near, axis=1) > self.most)
        if len(many):
            own = to_centres[many]
            near[many] &= own >= np.partition(own, -self.most, axis=1)[:, -self.most, None]
        return near


def grouped(centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres (G, d) of groups of `centroids` (K, d), and the two groups (K, 2) of each; the same for the same centroids."""
    count = 1 << math.ceil((math.log2(len(centroids)) + 2) / 2)
    first = centroids[np.random.default_rng(0).permutation(len(centroids))[:count]]
    centres, _ = lloyd(centroids, _unit(first), _GROUPING)
    columns = columns_of(centres)
    own = np.empty((len(centroids), 2), np.int64)
    for start in range(0, len(centroids), _TOKENS):
        products = ordered_product(centroids[start : start + _TOKENS], columns)[:, : len(centres)]
        own[start : start + len(products), 0] = products.argmax(axis=1)
        np.put_along_axis(products, own[start : start + len(products), :1], -np.inf, axis=1)
        own[start : start + len(products), 1] = products.argmax(axis=1)
    return centres, own


def lloyd(tokens: np.ndarray, centres: np.ndarray, iterations: int) -> tuple[np.ndarray, np.ndarray]:
    """Spherical k-means from `centres` (k, d) on, comparing all with all: centres of unit length, the nearest (T,) of each.

    A centre without tokens stays where it is.
    """
    for _ in range(iterations):
        centres = means(tokens, _nearest(tokens, centres), centres)
    return centres, _nearest(tokens, centres)


def means(tokens: np.ndarray, nearest: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The directions (k, d) float32 of the sums of each centre's tokens; of those without tokens `centres`."""
    sums, counts = np.zeros(centres.shape, np.float64), np.zeros(len(centres), np.int64)
    add_tokens(tokens, nearest, sums, counts)
    return directions(sums, centres)


def directions(sums: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """`sums` (k, d) float64 of unit length as float32; where they are zero, `centres`."""
    found = centres.copy()
    lengths = np.linalg.norm(sums, axis=1)
    filled = lengths > 1e-9
    found[filled] = sums[filled] / lengths[filled, None]
    return found


def _nearest(tokens: np.ndarray, centres: np.ndarray) -> np.ndarray:
    columns = columns_of(centres)
    rows = max(1, (1 << 21) // columns.shape[1])
    parts = [ordered_product(tokens[i : i + rows], columns).argmax(axis=1) for i in range(0, len(tokens), rows)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return directions(vectors.astype(np.float64), vectors)
