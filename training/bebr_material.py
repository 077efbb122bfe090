"""What a binariser is trained on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, UsageError

if TYPE_CHECKING:
    from ..models.recurrent_binarisation import RecurrentBinariser, Shape


@dataclass(frozen=True)
class Material:
    """What is trained on: `vectors` (n, dim) of documents, `queries` (m, dim) of real queries or none, how they are compared
    (cosine or dot), and facts that say where they are from. `older` and `its_vectors` (n, its dim) of the same documents
    are there when codes are to be compatible with an older binariser's."""

    vectors: np.ndarray
    similarity: str
    facts: dict[str, Any]
    queries: np.ndarray | None = None
    older: RecurrentBinariser | None = None
    its_vectors: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.similarity not in ("cosine", "dot"):
            raise UsageError(f"vectors are compared by {self.similarity}, a binariser is trained for cosine or dot")
        if len(self.vectors) < 64:
            raise InputError(f"{len(self.vectors)} vectors, expected at least 64 to train a binariser on")

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all vectors."""
        digest = hashlib.sha256()
        for part in (self.vectors, self.queries, self.its_vectors):
            digest.update(b"none" if part is None else np.ascontiguousarray(part, np.float32).tobytes())
        return digest.hexdigest()

    def sampled(self, count: int, seed: int) -> Material:
        """At most `count` of the documents, drawn."""
        if len(self.vectors) <= count:
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self.vectors), count, replace=False))
        vectors, its = self.vectors[rows], self.its_vectors
        if its is not None:
            its = vectors if its is self.vectors else its[rows]
        return replace(self, vectors=vectors, its_vectors=its)

    def check_older(self, shape: Shape) -> None:
        """Raise unless codes of this `shape` can be compared with the older binariser's, and its vectors are there."""
        older = self.older
        if older is None:
            return
        if older.shape.width != shape.width:
            raise UsageError(
                f"compatible_with: codes of width {older.shape.width} in {older.folder}, {shape.width} asked for: set "
                f"width={older.shape.width}"
            )
        its = self.its_vectors
        if its is None or its.shape != (len(self.vectors), older.shape.dim):
            raise InputError(
                f"compatible_with: {older.folder} takes vectors of {older.shape.dim} dimensions, there are "
                f"{None if its is None else its.shape} of {len(self.vectors)} documents: name the old index"
            )
