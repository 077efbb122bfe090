"""Centroids of many token vectors: spherical k-means in passes over them, from a start that is made in groups.

A start at random tokens needs all of Lloyd's iterations to spread out. Here a part of the tokens is first cut into about
√K groups, each of which gets its share of the centroids and a k-means of its own; then every pass goes over all tokens
(token_clusters.py finds the nearest centroid). Passes read blocks, so that the tokens may lie on the disk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np

from ..progress import Advance
from .token_clusters import NearestCentroids, directions, lloyd
from .token_means import add_tokens

#: Gives the tokens, in blocks (t, d) float32 of unit length: the same every time.
Blocks = Callable[[], Iterable[np.ndarray]]

#: Numbers of the tokens that the start is made from: 256 MB; and so many tokens a centroid at least.
_START_NUMBERS, _START_TOKENS = 1 << 26, 4

#: Tokens a group that groups are made from; iterations of that, and of each group's own k-means.
_GROUP_TOKENS, _GROUP_ITERATIONS, _OWN_ITERATIONS = 256, 6, 4

#: In a pass a centroid is looked for in fewer groups than when tokens are encoded.
_MARGIN, _MOST = 0.25, 24


def token_centroids(
    blocks: Blocks, tokens: int, dim: int, count: int, iterations: int, seed: int, advance: Advance
) -> np.ndarray:
    """Centroids (`count`, d) float32 of unit length of the `tokens` tokens in `blocks`; depends on these and `seed` only.

    With as many centroids as tokens or more, each token is one. `advance` counts tokens: `tokens` in each iteration.
    """
    rng = np.random.default_rng(seed)
    wanted = min(tokens, max(_START_NUMBERS // dim, _START_TOKENS * count))
    start = _chosen(blocks, np.sort(rng.choice(tokens, wanted, replace=False)), dim)
    if tokens <= count:
        return start
    centroids = _start(start, count, rng)
    del start
    for _ in range(iterations):
        centroids = _pass(blocks, centroids, advance)
    return centroids


def _chosen(blocks: Blocks, places: np.ndarray, dim: int) -> np.ndarray:
    """The tokens at ascending `places`."""
    out = np.empty((len(places), dim), np.float32)
    first = done = 0
    for block in blocks():
        own = places[slice(*np.searchsorted(places, [first, first + len(block)]))] - first
        out[done : done + len(own)] = block[own]
        first, done = first + len(block), done + len(own)
    return out


def _start(tokens: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` centroids of `tokens`, by a k-means in each of √count groups."""
    groups = 1 << math.ceil(math.log2(count) / 2)
    some = tokens[rng.permutation(len(tokens))[: groups * _GROUP_TOKENS]]
    centres, _ = lloyd(some, some[:groups].copy(), _GROUP_ITERATIONS)
    _, own = lloyd(tokens, centres, 0)
    sizes = np.bincount(own, minlength=len(centres))
    parts = []
    places = np.split(np.argsort(own, kind="stable"), np.cumsum(sizes)[:-1])
    for share, rows in zip(shares(sizes, count), places, strict=True):
        if share:
            members = tokens[rows]
            first = members[rng.permutation(len(members))[:share]]
            parts.append(lloyd(members, first, _OWN_ITERATIONS)[0])
    return np.concatenate(parts)


def shares(sizes: np.ndarray, count: int) -> np.ndarray:
    """`count` divided in proportion to `sizes`, largest remainders first, none above its size; `count` ≤ sum of sizes."""
    exact = count * sizes / sizes.sum()
    found = np.floor(exact).astype(np.int64)
    order = np.argsort(found - exact, kind="stable")
    found[order[: count - found.sum()]] += 1
    return found


def _pass(blocks: Blocks, centroids: np.ndarray, advance: Advance) -> np.ndarray:
    """One iteration over all tokens."""
    nearest = NearestCentroids(centroids, _MARGIN, _MOST)
    sums, counts = np.zeros(centroids.shape, np.float64), np.zeros(len(centroids), np.int64)
    for block in blocks():
        add_tokens(block, nearest.of(block), sums, counts)
        advance(len(block))
    return _filled(directions(sums, centroids), counts)


def _filled(centroids: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Centroids without tokens move beside those with the most, which they then share (as FAISS's k-means splits)."""
    empty = np.flatnonzero(counts == 0)
    largest = np.argsort(-counts, kind="stable")[: len(empty)]
    empty = empty[: np.count_nonzero(counts[largest] > 1)]
    largest = largest[: len(empty)]
    aside = np.where(np.arange(centroids.shape[1]) % 2, 1, -1) * np.float32(1 / 1024)
    centroids[empty] = centroids[largest] * (1 + aside)
    centroids[largest] *= 1 - aside
    return directions(centroids.astype(np.float64), centroids)
