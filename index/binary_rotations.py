"""Codes of one bit a coordinate by a rotation: plain signs, a random rotation (LSH), or a learnt one (ITQ).

A bit is 1 where the rotated coordinate is 0 or more, as in FAISS's `IndexLSH`; products are in float64, so that a bit does
not depend on the batch. The rotations are FAISS's: `RandomRotationMatrix` seeded, and `ITQTransform` (Gong and Lazebnik,
CVPR 2011) trained on a seeded sample, which centres and normalises vectors before it rotates.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import UsageError, require
from .binary_codes import MAX_PLANES, check_shape, pack
from .durable import write_array

ROTATION, MEAN = "rotation.npy", "mean.npy"


class Binariser(Protocol):
    """What makes packed codes (binary_codes.py) of vectors."""

    @property
    def identity(self) -> dict[str, Any]:
        """`name`, `width`, `planes`, `sha256` of what was learnt ("" for nothing); anything else is a hint."""
        ...

    def codes(self, vectors: np.ndarray) -> np.ndarray:
        """The codes (n, width · planes / 8) uint8 of `vectors` (n, d) float32."""
        ...


@dataclass(frozen=True)
class Rotation:
    """`matrix` (bits, d) float32, None for no rotation; `mean` (d,) float32 of vectors that are centred and normalised
    before, None for vectors as they are."""

    name: str
    dim: int
    matrix: np.ndarray | None = None
    mean: np.ndarray | None = None

    @property
    def width(self) -> int:
        return self.dim if self.matrix is None else len(self.matrix)

    @property
    def identity(self) -> dict[str, Any]:
        learnt = [part.tobytes() for part in (self.matrix, self.mean) if part is not None]
        digest = hashlib.sha256(b"".join(learnt)).hexdigest() if learnt else ""
        return {"name": self.name, "width": self.width, "planes": 1, "sha256": digest}

    def rotated(self, vectors: np.ndarray) -> np.ndarray:
        """The coordinates (n, bits) float64 whose signs are the codes."""
        wide = vectors.astype(np.float64)
        if self.mean is not None:
            wide -= self.mean
            norms = np.linalg.norm(wide, axis=1, keepdims=True)
            wide /= np.where(norms == 0, 1.0, norms)
        return wide if self.matrix is None else wide @ self.matrix.T.astype(np.float64)

    def codes(self, vectors: np.ndarray) -> np.ndarray:
        return np.packbits(self.rotated(vectors) >= 0, axis=1)

    def query_codes(self, vectors: np.ndarray, planes: int) -> tuple[np.ndarray, np.ndarray]:
        """Codes of `planes` bits a coordinate, and the factors (n,) by which their values approach the rotated vectors:
        queries may be finer than the documents' bits."""
        check_planes(planes)
        values = self.rotated(vectors)
        peak = np.abs(values).max(axis=1)
        top, u = (1 << planes) - 1, planes - 1
        # The largest value of a code is top / 2^u.
        factors = np.where(peak == 0, 1.0, peak) * (1 << u) / top
        numbers = np.clip(np.rint((values / factors[:, None] * (1 << u) + top) / 2), 0, top)
        return pack(numbers.astype(np.uint8), planes), factors

    def save(self, folder: Path) -> None:
        for name, part in ((ROTATION, self.matrix), (MEAN, self.mean)):
            if part is not None:
                write_array(folder / name, [part], len(part), part.shape[1:], np.float32)

    @classmethod
    def load(cls, name: str, dim: int, folder: Path) -> Rotation:
        parts = [np.load(folder / file) if (folder / file).exists() else None for file in (ROTATION, MEAN)]
        return cls(name, dim, *parts)


def check_planes(planes: int) -> None:
    if not 1 <= planes <= MAX_PLANES:
        raise UsageError(f"query_bits is {planes}, expected 1 to {MAX_PLANES} bits a coordinate")


def signs(dim: int) -> Rotation:
    """The vectors' own signs: a bit a dimension."""
    check_shape(dim, 1)
    return Rotation("sign", dim)


def random_rotation(dim: int, bits: int | None, seed: int) -> Rotation:
    """FAISS's `RandomRotationMatrix` to `bits` coordinates, as many as dimensions where None."""
    faiss = require("faiss", "a random rotation")
    bits = bits or dim
    check_shape(bits, 1)
    rotation = faiss.RandomRotationMatrix(dim, bits)
    rotation.init(seed)
    return Rotation("lsh", dim, faiss.vector_to_array(rotation.A).reshape(bits, dim).copy())


def check_itq(dim: int, bits: int | None) -> int:
    """The bits of an ITQ code, as many as dimensions where None; `UsageError` for more than those."""
    bits = bits or dim
    check_shape(bits, 1)
    if bits > dim:
        raise UsageError(f"itq index: bits is {bits}, expected at most the {dim} dimensions of the vectors")
    return bits


def learnt_rotation(sample: np.ndarray, bits: int, seed: int) -> Rotation:
    """FAISS's `ITQTransform` to `bits` coordinates, trained on all of `sample` (n, d) float32."""
    faiss = require("faiss", "iterative quantisation")
    dim = sample.shape[1]
    transform = faiss.ITQTransform(dim, bits, True)
    transform.itq.seed = seed
    if len(sample) < dim:  # its covariance needs as many
        sample = np.tile(sample, (-(-dim // len(sample)), 1))
    transform.max_train_per_dim = len(sample) // dim + 1
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)  # it decomposes small matrices, for which more threads cost three times as much
    try:
        transform.train(np.ascontiguousarray(sample))
    finally:
        faiss.omp_set_num_threads(threads)
    matrix = faiss.vector_to_array(transform.pca_then_itq.A).reshape(bits, dim)
    return Rotation("itq", dim, matrix.copy(), faiss.vector_to_array(transform.mean).copy())
