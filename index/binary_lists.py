"""Inverted lists of codes of any number of bits: directions of decoded codes, clustered; a query looks at the nearest lists.

nlist    the power of two nearest to 4 · sqrt(n), as far as the sample has 39 codes for each list
sample   64 codes a list, at most 256 MiB of decoded values
nprobe   2.5 · sqrt(lists), at least 8, and so many that they hold 4 · k documents; under a filter more, by the share that
         it allows
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ..errors import require
from .ann_rules import TRAINING_BYTES, lists_by_rule
from .binary_codes import decode, unpack
from .binary_files import Run
from .durable import write_array
from .exact import unit_length
from .faiss_files import fast_distances
from .sdc import Probed, Tiles, make_tiles

CENTROIDS, ASSIGNED = "centroids.npy", "list_of.npy"

_ITERATIONS = 10
_PER_LIST = 64

#: Codes that are decoded at a time.
_DECODED = 16384


def directions(packed: np.ndarray, width: int, planes: int) -> np.ndarray:
    """The values of codes (n, bytes) as vectors (n, width) float32 of unit length."""
    return unit_length(decode(unpack(np.ascontiguousarray(packed), width, planes), planes))[0]


def write_lists(folder: Path, runs: Sequence[Run], nlist: int | None, training: int | None, seed: int) -> None:
    """Cluster a seeded sample of the codes, and write the centroids and each row's list."""
    width = runs[0].binariser["width"]
    rows = sum(len(run.codes) for run in runs)
    most = training or max(1, TRAINING_BYTES // (4 * width))
    nlist = min(nlist or lists_by_rule(rows, min(rows, most)), rows)
    sample = _sample(runs, min(rows, most, training or _PER_LIST * nlist), seed)
    centroids = _clustered(sample, nlist, seed)
    write_array(folder / CENTROIDS, [centroids], nlist, (width,), np.float32)
    write_array(folder / ASSIGNED, _assigned(runs, centroids), rows, (), np.int32)


def extend_lists(folder: Path, before: Path, runs: Sequence[Run]) -> None:
    """Write the lists of `before` with the rows after its own, of all `runs`; the lists stay where they are."""
    centroids, old = np.load(before / CENTROIDS), np.load(before / ASSIGNED)
    added = _after(runs, len(old))
    parts = [old, *_assigned(added, centroids)]
    write_array(folder / CENTROIDS, [centroids], len(centroids), centroids.shape[1:], np.float32)
    write_array(folder / ASSIGNED, parts, sum(map(len, parts)), (), np.int32)


def _after(runs: Sequence[Run], rows: int) -> list[Run]:
    """The runs without their first `rows` rows."""
    left, first = [], 0
    for run in runs:
        skipped = min(max(rows - first, 0), len(run.codes))
        first += len(run.codes)
        if skipped < len(run.codes):
            left.append(Run(run.codes[skipped:], run.binariser))
    return left


def _blocks(runs: Sequence[Run]) -> Iterator[np.ndarray]:
    for run in runs:
        for start in range(0, len(run.codes), _DECODED):
            yield directions(run.codes[start : start + _DECODED], run.binariser["width"], run.binariser["planes"])


def _sample(runs: Sequence[Run], count: int, seed: int) -> np.ndarray:
    rows = sum(len(run.codes) for run in runs)
    chosen = np.sort(np.random.default_rng(seed).choice(rows, count, replace=False, shuffle=False))
    parts, first = [], 0
    for run in runs:
        here = chosen[np.searchsorted(chosen, first) : np.searchsorted(chosen, first + len(run.codes))] - first
        if len(here):
            parts.append(directions(run.codes[here], run.binariser["width"], run.binariser["planes"]))
        first += len(run.codes)
    return np.concatenate(parts)


def _clustered(sample: np.ndarray, nlist: int, seed: int) -> np.ndarray:
    faiss = require("faiss", "inverted lists of codes")
    clustering = faiss.Kmeans(
        sample.shape[1], nlist, niter=_ITERATIONS, seed=seed, spherical=True, min_points_per_centroid=1,
        max_points_per_centroid=1 << 30,
    )  # fmt: skip
    with fast_distances():
        clustering.train(sample)
    centroids: np.ndarray = unit_length(np.asarray(clustering.centroids, np.float32))[0]
    return centroids


def _assigned(runs: Sequence[Run], centroids: np.ndarray) -> Iterator[np.ndarray]:
    for block in _blocks(runs):
        yield np.argmax(block @ centroids.T, axis=1).astype(np.int32)


class Lists:
    """The inverted lists of an index, in memory: `tiles` per segment, ordered by list."""

    def __init__(self, folder: Path, segments: Sequence[tuple[int, np.ndarray, int, int]], *, cosine: bool) -> None:
        """`segments` are the first row, the codes (n, bytes), the width and the planes of rows of one kind of code."""
        self.centroids = np.load(folder / CENTROIDS)
        assigned = np.load(folder / ASSIGNED)
        self.tiles: list[Tiles] = []
        self._starts: list[np.ndarray] = []
        for first, codes, width, planes in segments:
            lists = assigned[first : first + len(codes)]
            slots, starts = _slots(lists, len(self.centroids))
            rows = np.arange(first, first + len(codes))
            self.tiles.append(make_tiles(codes, rows, width, planes, cosine=cosine, slots=slots))
            self._starts.append(starts)
        self.rows = len(assigned)

    def probed(self, queries: np.ndarray, k: int, share: float, nprobe: int | None) -> Probed:
        """The lists nearest to `queries` (b, width) float32, where a filter allows a `share` of the rows."""
        lists = len(self.centroids)
        by_rule = max(8, math.ceil(2.5 * lists**0.5), math.ceil(4 * k * lists / self.rows))
        count = min(lists, math.ceil((nprobe or by_rule) / share))
        nearness = queries @ self.centroids.T
        nearest = np.argpartition(-nearness, count - 1, axis=1)[:, :count]
        # The nearest first: they raise the threshold that the others meet.
        order = np.argsort(-np.take_along_axis(nearness, nearest, 1), axis=1)
        return Probed(self._starts, np.take_along_axis(nearest, order, 1).astype(np.int64))


def _slots(lists: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Each row's slot, ordered by list, where a list begins with a new tile; and the first tile of each list."""
    sizes = np.bincount(lists, minlength=count)
    starts = np.concatenate([[0], np.cumsum(-(-sizes // 8))]).astype(np.int64)
    order = np.argsort(lists, kind="stable")
    within = np.arange(len(lists)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    slots = np.empty(len(lists), np.int64)
    slots[order] = 8 * starts[lists[order]] + within
    return slots, starts
