"""The nearest centroid of a token, in less than a comparison with all of them.

A k-means over the centroids themselves makes some 2 · √K groups, and each centroid is in the two whose centres are
nearest. A token is compared with the centres, and then with the centroids of those groups whose centre is nearly as near
as the nearest. That may miss the nearest centroid (bench_plaid_build.py counts how often, and what it costs).
"""

from __future__ import annotations

import math

import numpy as np

from .token_means import add_tokens
from .token_nearest import ZEROS, look_into, nearest_in_groups
from .token_products import columns_of, ordered_product

#: Tokens that are compared at a time.
_TOKENS = 1 << 12

#: Room between lists, so that their ends do not share a line of the cache where they are powers of two long.
_ASIDE = 19

#: Up to so many centroids a token is compared with all.
FLAT = 512

#: Groups whose centre's cosine lies within `MARGIN` of the nearest centre's are looked into, the nearest `MOST` at most.
MARGIN, MOST = 0.3, 32

#: Centres that are multiplied at a time where all are compared with all: of so many the lines do not share places in the
#: first cache.
_PANEL = 288

#: Iterations of the k-means over centroids.
_GROUPING = 8


class NearestCentroids:
    """Finds the nearest of `centroids` (K, d) float32 by inner product; of equally near ones the first.

    What is found for a token depends on it and the centroids alone, not on the other tokens nor on threads.
    """

    def __init__(self, centroids: np.ndarray, margin: float = MARGIN, most: int = MOST) -> None:
        self.centroids = np.ascontiguousarray(centroids, np.float32)
        self.margin, self.most = margin, most
        self._groups = 0
        if len(self.centroids) <= FLAT:
            self._centres = columns_of(self.centroids)
            return
        centres, own = grouped(self.centroids)
        members = np.repeat(np.arange(len(own)), own.shape[1])
        order = np.argsort(own.ravel(), kind="stable")
        ends = np.cumsum(np.bincount(own.ravel(), minlength=len(centres)))
        filled = np.flatnonzero(np.diff(ends, prepend=0))
        insides = [members[order[ends[group - 1] if group else 0 : ends[group]]] for group in filled]
        columns = [columns_of(self.centroids[inside]) for inside in insides]
        self._groups = len(filled)
        self._starts = np.cumsum([0, *(own.shape[1] for own in columns)])
        self._columns = np.concatenate([own.ravel() for own in columns])
        self._members = np.concatenate(
            [np.concatenate([i, np.repeat(i[:1], c.shape[1] - len(i))]) for i, c in zip(insides, columns, strict=True)]
        )
        self._centres = columns_of(centres[filled])

    def of(self, tokens: np.ndarray) -> np.ndarray:
        """The numbers (T,) int64 of the centroids of `tokens` (T, d) float32."""
        tokens = np.ascontiguousarray(tokens, np.float32)
        found = np.empty(len(tokens), np.int64)
        for start in range(0, len(tokens), _TOKENS):
            part = tokens[start : start + _TOKENS]
            to_centres = ordered_product(part, self._centres)
            if self._groups:
                found[start : start + len(part)] = self._in_groups(part, to_centres)
            else:
                found[start : start + len(part)] = to_centres.argmax(axis=1)
        return found

    def _in_groups(self, tokens: np.ndarray, to_centres: np.ndarray) -> np.ndarray:
        best = np.full(len(tokens), -np.inf, np.float32)
        found = np.zeros(len(tokens), np.int64)
        rows, counts = np.empty((self._groups, len(tokens) + _ASIDE), np.int32), np.zeros(self._groups, np.int64)
        look_into(to_centres, self._groups, self.margin, self.most, rows, counts)
        nearest_in_groups(tokens, rows, counts, self._columns, self._starts, self._members, ZEROS, best, found)
        return found


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
    panels = [(i, columns_of(centres[i : i + _PANEL])) for i in range(0, len(centres), _PANEL)]
    found = np.zeros(len(tokens), np.int64)
    for start in range(0, len(tokens), _TOKENS):
        part = tokens[start : start + _TOKENS]
        best = np.full(len(part), -np.inf, np.float32)
        for first, columns in panels:
            products = ordered_product(part, columns)
            at = products.argmax(axis=1)
            values = products[np.arange(len(part)), at]
            better = values > best
            best[better] = values[better]
            found[start : start + len(part)][better] = first + at[better]
    return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    return directions(vectors.astype(np.float64), vectors)
