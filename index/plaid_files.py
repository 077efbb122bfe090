"""The files of a PLAID index.

A shard                codes.npy (T,) uint16 or uint32, residuals.npy (T, ⌈d · bits / 8⌉) uint8, offsets.npy (n + 1,) int64
Over all shards        centroids.npy (K, d) int8, centroid_scales.npy (K,), cutoffs.npy, weights.npy float32: the codec
                       postings.npy uint16 or uint32, posting_offsets.npy (K + 1,) int64: documents by centroid
                       cluster_sizes.npy (K,) uint32: tokens by centroid
                       id_ranks.npy (n,) int32: the place of each row among all by id descending
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .durable import write_array
from .plaid_loops import count_postings, fill_postings
from .residual_codec import ResidualCodec, read_centroids, rounded_centroids

CODES, RESIDUALS, OFFSETS = "codes.npy", "residuals.npy", "offsets.npy"
CENTROIDS, SCALES, CUTOFFS, WEIGHTS = "centroids.npy", "centroid_scales.npy", "cutoffs.npy", "weights.npy"
POSTINGS, POSTING_OFFSETS, SIZES = "postings.npy", "posting_offsets.npy", "cluster_sizes.npy"

#: What of these a change takes over as it is.
CODEC_FILES = (CENTROIDS, SCALES, CUTOFFS, WEIGHTS)


@dataclass(frozen=True)
class PlaidShard:
    """A shard's tokens, mapped: document i has the rows `offsets[i]:offsets[i + 1]` of `codes` and `residuals`."""

    codes: np.ndarray
    residuals: np.ndarray
    offsets: np.ndarray

    @classmethod
    def open(cls, folder: Path) -> PlaidShard:
        codes, residuals = (np.asarray(np.load(folder / name, mmap_mode="r")) for name in (CODES, RESIDUALS))
        return cls(codes, residuals, np.load(folder / OFFSETS))

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True)
class Postings:
    """Documents by centroid: `rows[offsets[c]:offsets[c + 1]]` have a token of centroid c; ascending, each once.

    `sizes` (K,) uint32 are the tokens of each centroid.
    """

    rows: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray

    @classmethod
    def open(cls, folder: Path) -> Postings:
        rows = np.asarray(np.load(folder / POSTINGS, mmap_mode="r"))
        return cls(rows, np.load(folder / POSTING_OFFSETS), np.load(folder / SIZES))


def open_codec(folder: Path, bits: int) -> ResidualCodec:
    """The codec in the folder of what spans all shards; centroids as float32."""
    centroids = read_centroids(np.load(folder / CENTROIDS), np.load(folder / SCALES))
    return ResidualCodec(centroids, np.load(folder / CUTOFFS), np.load(folder / WEIGHTS), bits)


def write_codec(folder: Path, codec: ResidualCodec) -> None:
    """Write `codec`, whose centroids are such as `rounded_centroids` gives."""
    numbers, scales = rounded_centroids(codec.centroids)
    for name, values in ((CENTROIDS, numbers), (SCALES, scales), (CUTOFFS, codec.cutoffs), (WEIGHTS, codec.weights)):
        write_array(folder / name, [values], len(values), values.shape[1:], values.dtype)


def write_postings(folder: Path, shards: Iterable[PlaidShard], centroids: int, documents: int) -> int:
    """Write `postings.npy`, `posting_offsets.npy` and `cluster_sizes.npy` of the `shards` of `documents` rows. Returns the postings' bytes.

    Holds the postings, 2 or 4 bytes each; shards are read twice.
    """
    shards = list(shards)
    counts, sizes = np.zeros(centroids, np.int64), np.zeros(centroids, np.int64)
    last = np.full(centroids, -1, np.int64)
    first = 0
    for shard in shards:
        count_postings(shard.codes, shard.offsets, first, last, counts, sizes)
        first += len(shard)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    rows = np.empty(offsets[-1], np.uint16 if documents <= 1 << 16 else np.uint32)
    ends = offsets[:-1].copy()
    last[:] = -1
    first = 0
    for shard in shards:
        fill_postings(shard.codes, shard.offsets, first, last, ends, rows)
        first += len(shard)
    write_array(folder / POSTINGS, [rows], len(rows), (), rows.dtype)
    write_array(folder / POSTING_OFFSETS, [offsets], len(offsets), (), np.int64)
    write_array(folder / SIZES, [sizes], len(sizes), (), np.uint32)
    return rows.nbytes
