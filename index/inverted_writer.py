"""What a build of sparse vectors writes: the documents' terms and weights into each shard, their lists over all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError
from ..progress import Advance
from ..records import Document
from ..vectors import Sparse
from .durable import write_array
from .id_ranks import write_ranks
from .inversion import invert
from .shards import summed

#: Documents that are encoded at a time.
_ENCODED_AT_ONCE = 4096

#: The sub-folder of `whole/` with the lists.
FOLDER = "postings"


@dataclass
class InvertedWriter:
    """Encodes documents and writes `indptr.npy`, `terms.npy`, `weights.npy` per shard, as `Sparse` has them.

    Terms and weights are in the narrowest types that hold them exactly. Over all shards: the lists (postings.py).
    """

    encode: Callable[[list[Document]], Sparse]
    terms: int
    storage: str
    truncated: Callable[[], int] | None = None
    libraries: ClassVar[Sequence[str]] = ("numpy", "numba", "torch", "transformers", "sentence-transformers")

    def write(self, folder: Path, documents: list[Document], advance: Advance) -> Mapping[str, int]:
        before = self.truncated() if self.truncated else 0
        parts = []
        for start in range(0, len(documents), _ENCODED_AT_ONCE):
            batch = documents[start : start + _ENCODED_AT_ONCE]
            vectors = self.encode(batch)
            if len(vectors) != len(batch) or vectors.terms != self.terms:
                raise InputError(
                    f"the encoder gave {len(vectors)} sparse vectors over {vectors.terms:,} terms for {len(batch)} "
                    f"documents, expected {len(batch)} over {self.terms:,}: check its spec"
                )
            parts.append(vectors)
            advance(len(batch))
        counts = _write_vectors(folder, parts, self.terms)
        return counts | ({"truncated_texts": self.truncated() - before} if self.truncated else {})

    def finish(self, folder: Path, shards: list[Path]) -> Mapping[str, int]:
        documents = write_ranks(folder)
        (folder / FOLDER).mkdir()
        blocks = (read_vectors(shard, self.terms) for shard in shards)
        about = invert(folder / FOLDER, blocks, documents, self.terms, payload="impact", storage=self.storage)
        return {"postings": about["postings"]}

    def extend(self, folder: Path, before: Path, shards: list[Path], new: list[Path]) -> Mapping[str, int]:
        return self.finish(folder, shards)

    def rewrite(self, folder: Path, pieces: list[tuple[Path, np.ndarray]]) -> Mapping[str, int]:
        parts = [_rows_of(read_vectors(shard, self.terms), rows) for shard, rows in pieces]
        _write_vectors(folder, parts, self.terms)
        return summed(self.counts_of(shard, rows) for shard, rows in pieces)

    def counts_of(self, shard: Path, rows: np.ndarray) -> Mapping[str, int]:
        indptr = np.load(shard / "indptr.npy")
        return {"empty_vectors": int((indptr[rows + 1] == indptr[rows]).sum())}


def read_vectors(shard: Path, terms: int) -> Sparse:
    """The vectors of a shard, in memory."""
    indptr, ids, weights = (np.load(shard / f"{name}.npy") for name in ("indptr", "terms", "weights"))
    return Sparse(indptr, ids.astype(np.int32), weights.astype(np.float32), terms)


def _write_vectors(folder: Path, parts: list[Sparse], terms: int) -> dict[str, int]:
    sizes = np.concatenate([np.zeros(1, np.int64), *(np.diff(part.indptr) for part in parts)])
    total = sum(len(part.ids) for part in parts)
    ids_type = np.uint16 if terms <= 1 << 16 else np.int32
    write_array(folder / "indptr.npy", [np.cumsum(sizes)], len(sizes), (), np.int64)
    write_array(folder / "terms.npy", (part.ids for part in parts), total, (), ids_type)
    write_array(folder / "weights.npy", (part.weights for part in parts), total, (), _narrowest(parts))
    return {"empty_vectors": int((sizes[1:] == 0).sum())}


def _narrowest(parts: list[Sparse]) -> Any:
    """The first type that holds all weights exactly."""
    for dtype in (np.uint8, np.uint16, np.float16):
        with np.errstate(over="ignore", invalid="ignore"):
            if all((part.weights.astype(dtype).astype(np.float32) == part.weights).all() for part in parts):
                return dtype
    return np.float32


def _rows_of(vectors: Sparse, rows: np.ndarray) -> Sparse:
    """The vectors of `rows` (m,)."""
    sizes = np.diff(vectors.indptr)[rows]
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    places = np.repeat(vectors.indptr[rows] - indptr[:-1], sizes) + np.arange(indptr[-1])
    return Sparse(indptr, vectors.ids[places], vectors.weights[places], vectors.terms)
