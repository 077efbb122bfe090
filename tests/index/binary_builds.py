"""Binarisers with random weights, and indexes of codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from cribble.index.binary_codes import decode, pack, unpack
from cribble.index.binary_writer import WithCodes
from cribble.index.opening import find_kind
from cribble.tests.index.ann_builds import DIM, VECTORS, documents
from cribble.tests.index.builds import build_kind, encode
from cribble.vectors import Dense, EncoderSpec


@dataclass(frozen=True)
class Recurrent:
    """The recurrence of BEBR with a random rotation and its transpose for weights: b + sign(R (x - B b)) / 2^i."""

    dim: int
    width: int
    planes: int
    seed: int = 0
    compatible_with: tuple[str, ...] = ()

    @property
    def identity(self):
        return {"name": "bebr", "width": self.width, "planes": self.planes, "sha256": f"weights {self.seed}"}

    def codes(self, vectors):
        rotation = np.linalg.qr(np.random.default_rng(self.seed).standard_normal((max(self.dim, self.width),) * 2))[0]
        rotation = rotation[: self.width, : self.dim]
        rest = vectors.astype(np.float64)
        value = np.zeros((len(vectors), self.width))
        for i in range(self.planes):
            value += np.where(rest @ rotation.T >= 0, 1, -1) / 2**i
            back = value @ rotation
            rest = vectors - back / np.linalg.norm(back, axis=1, keepdims=True)
        numbers = (value * 2 ** (self.planes - 1) + (1 << self.planes) - 1) / 2
        return pack(numbers.astype(np.int64), self.planes)


def values_of(packed, width, planes) -> np.ndarray:
    """What codes stand for, in float64."""
    return decode(unpack(np.ascontiguousarray(packed), width, planes), planes).astype(np.float64)


SMALL = Recurrent(16, 16, 2)


def build_coded(kind, path, documents, encode=encode, **options):
    """As `builds.build_kind`, with codes by `SMALL`."""
    return build_kind(kind, path, documents, WithCodes(encode, SMALL), **options)


def encoding(vectors, binariser=None):
    """The encode function of `ann_builds.documents`, of which row i has the vector i."""

    def encoded(batch):
        return Dense(vectors[[int(d.id[1:]) for d in batch]])

    return encoded if binariser is None else WithCodes(encoded, binariser)


def spec_of(vectors, similarity="cosine") -> EncoderSpec:
    return EncoderSpec("m", dim=vectors.shape[1], similarity=similarity)


def build(kind, path, rows=VECTORS, *, binariser=None, similarity="cosine", shard_documents=512, **options):
    if kind == "bebr" and binariser is None:
        binariser = Recurrent(DIM, 32, 2)
    return find_kind(kind).build(
        path, documents(len(rows)), encoding(rows, binariser), spec=spec_of(rows, similarity), corpus="c",
        shard_documents=shard_documents, **options,
    )  # fmt: skip


def best_rows(scores, k, mask=None) -> list[list[int]]:
    """Rows by score descending, then row (as the ids are) descending: the definition."""
    rows = np.arange(scores.shape[1]) if mask is None else np.flatnonzero(mask)
    return [rows[np.lexsort((-rows, -line[rows]))][:k].tolist() for line in scores]
