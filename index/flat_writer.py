"""What a build of exact vectors writes into each shard and over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from ..errors import InputError
from ..progress import Advance
from ..records import Document
from ..vectors import Dense
from .codes import write_codes
from .durable import write_array
from .exact import unit_length
from .shards import summed

#: Documents that are encoded, and whose vectors are held, at a time.
_ENCODED_AT_ONCE = 4096


@dataclass
class FlatWriter:
    """Encodes documents and writes `vectors.npy` (n, d) per shard; `whole/max_norm.npy` bounds the scan's rounding.

    With `codes` a shard also gets the 8-bit copy that searches scan (codes.py).
    """

    encode: Callable[[list[Document]], Dense]
    dim: int
    similarity: str
    storage: str
    truncated: Callable[[], int] | None = None
    codes: bool = False
    libraries: ClassVar[Sequence[str]] = (
        "numpy",
        "faiss-cpu",
        "faiss-gpu",
        "torch",
        "transformers",
        "sentence-transformers",
    )

    def write(self, folder: Path, documents: list[Document], advance: Advance) -> Mapping[str, int]:
        counts = {"zero_vectors": 0}
        before = self.truncated() if self.truncated else 0
        parts = self._vectors(documents, counts, advance)
        write_array(folder / "vectors.npy", parts, len(documents), (self.dim,), self.storage)
        if self.codes:
            write_codes(folder, self.similarity)
        if self.truncated:
            counts["truncated_texts"] = self.truncated() - before
        return counts

    def finish(self, folder: Path, shards: list[Path]) -> Mapping[str, int] | None:
        self._write_largest_norm(folder, shards, 0.0)
        return None

    def extend(self, folder: Path, before: Path, shards: list[Path], new: list[Path]) -> Mapping[str, int] | None:
        self._write_largest_norm(folder, new, float(np.load(before / "max_norm.npy")[0]))
        return None

    def rewrite(self, folder: Path, pieces: list[tuple[Path, np.ndarray]]) -> Mapping[str, int]:
        parts = (np.load(shard / "vectors.npy", mmap_mode="r")[rows] for shard, rows in pieces)
        total = sum(len(rows) for _, rows in pieces)
        write_array(folder / "vectors.npy", parts, total, (self.dim,), self.storage)
        if self.codes:
            write_codes(folder, self.similarity)
        return summed(self.counts_of(shard, rows) for shard, rows in pieces)

    def counts_of(self, shard: Path, rows: np.ndarray) -> Mapping[str, int]:
        if self.similarity != "cosine":
            return {"zero_vectors": 0}
        vectors = np.load(shard / "vectors.npy", mmap_mode="r")[rows]
        return {"zero_vectors": int((~vectors.any(axis=1)).sum())}

    def _write_largest_norm(self, folder: Path, shards: list[Path], largest: float) -> None:
        for shard in shards:
            vectors = np.load(shard / "vectors.npy", mmap_mode="r")
            for start in range(0, len(vectors), _ENCODED_AT_ONCE):
                norms = np.linalg.norm(vectors[start : start + _ENCODED_AT_ONCE].astype(np.float64), axis=1)
                largest = max(largest, float(norms.max()))
        write_array(folder / "max_norm.npy", [np.array([largest])], 1, (), np.float64)

    def _vectors(self, documents: list[Document], counts: dict[str, int], advance: Advance) -> Iterator[np.ndarray]:
        for start in range(0, len(documents), _ENCODED_AT_ONCE):
            batch = documents[start : start + _ENCODED_AT_ONCE]
            vectors = self.encode(batch)
            if len(vectors) != len(batch) or vectors.dim != self.dim:
                raise InputError(
                    f"the encoder gave vectors of shape {vectors.values.shape} for {len(batch)} documents, expected "
                    f"{(len(batch), self.dim)}: check its spec"
                )
            values = vectors.values
            if self.similarity == "cosine":
                values, zero = unit_length(values)
                counts["zero_vectors"] += zero
            with np.errstate(over="ignore"):
                stored = values.astype(self.storage)
            if not np.isfinite(stored).all():
                row = int(np.flatnonzero(~np.isfinite(stored).all(axis=1))[0])
                raise InputError(f"the vector of document {batch[row].id!r} overflows float16: use storage=float32")
            yield stored
            advance(len(batch))
