"""What a build of token vectors writes into each shard and over all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import InputError
from ..progress import Advance
from ..records import Document
from ..vectors import MultiVector
from .durable import write_array
from .exact import unit_length
from .growing import GrowingArray
from .id_ranks import write_ranks
from .multivector_files import DTYPES, OFFSETS, SCALES, TOKENS, StoredTokens, TokenShard, stored
from .shards import summed
from .token_encoding import encoded

#: Documents that are encoded, and whose token vectors are held, at a time: some 100 MB at 256 tokens of 384 numbers.
_ENCODED_AT_ONCE = 256

#: Tokens whose norms are taken at a time.
_NORMED_AT_ONCE = 1 << 15

#: Over all shards: the largest norm of a token vector.
LARGEST = "max_norm.npy"


@dataclass
class MultivectorWriter:
    """Encodes documents and writes `tokens.npy`, `offsets.npy` and, of int8, `scales.npy` per shard (multivector_files.py).

    `options` are the index's: `similarity`, `storage`, `pool_factor` and `pool`.
    """

    encode: Callable[[list[Document]], MultiVector]
    dim: int
    options: Mapping[str, Any]
    truncated: Callable[[], int] | None = None
    libraries: ClassVar[Sequence[str]] = ("numpy", "numba", "torch", "transformers", "sentence-transformers")

    @property
    def storage(self) -> str:
        """How numbers are kept."""
        return str(self.options["storage"])

    def write(self, folder: Path, documents: list[Document], advance: Advance) -> Mapping[str, int]:
        before = self.truncated() if self.truncated else 0
        counts = self._write(folder, self._encoded(documents, advance))
        return counts | ({"truncated_texts": self.truncated() - before} if self.truncated else {})

    def finish(self, folder: Path, shards: list[Path]) -> Mapping[str, int]:
        return self._finish(folder, shards, shards, 0.0)

    def extend(self, folder: Path, before: Path, shards: list[Path], new: list[Path]) -> Mapping[str, int]:
        return self._finish(folder, shards, new, float(np.load(before / LARGEST)[0]))

    def rewrite(self, folder: Path, pieces: list[tuple[Path, np.ndarray]]) -> Mapping[str, int]:
        def parts() -> Iterator[StoredTokens]:
            for shard, rows in pieces:
                opened = TokenShard.open(shard, self.storage)
                for start in range(0, len(rows), _ENCODED_AT_ONCE):
                    yield opened.kept(rows[start : start + _ENCODED_AT_ONCE])

        self._write(folder, parts())
        return summed(self.counts_of(shard, rows) for shard, rows in pieces)

    def counts_of(self, shard: Path, rows: np.ndarray) -> Mapping[str, int]:
        sizes = np.diff(np.load(shard / OFFSETS))[rows]
        return {"tokens": int(sizes.sum()), "without_tokens": int((sizes == 0).sum())}

    def _finish(self, folder: Path, shards: list[Path], new: list[Path], largest: float) -> Mapping[str, int]:
        documents = write_ranks(folder)
        for shard in new:
            for vectors, _ in TokenShard.open(shard, self.storage).batches(_NORMED_AT_ONCE):
                norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
                largest = max(largest, float(norms.max(initial=0)))
        write_array(folder / LARGEST, [np.array([largest])], 1, (), np.float64)
        written = sum((shard / name).stat().st_size for shard in shards for name in (TOKENS, OFFSETS))
        written += sum((shard / SCALES).stat().st_size for shard in shards if self.storage == "int8")
        return {"vector_bytes_per_document": -(-written // documents)}

    def _write(self, folder: Path, parts: Iterator[StoredTokens]) -> dict[str, int]:
        sizes = [np.zeros(1, np.int64)]
        with ExitStack() as files:
            tokens = files.enter_context(GrowingArray(folder / TOKENS, DTYPES[self.storage], (self.dim,)))
            scales = None
            if self.storage == "int8":
                scales = files.enter_context(GrowingArray(folder / SCALES, np.float32))
            for part in parts:
                tokens.append(part.numbers)
                if scales is not None:
                    scales.append(part.scales)
                sizes.append(part.sizes)
        lengths = np.concatenate(sizes)
        write_array(folder / OFFSETS, [np.cumsum(lengths)], len(lengths), (), np.int64)
        return {"tokens": int(lengths.sum()), "without_tokens": int((lengths[1:] == 0).sum())}

    def _encoded(self, documents: list[Document], advance: Advance) -> Iterator[StoredTokens]:
        for start in range(0, len(documents), _ENCODED_AT_ONCE):
            batch = documents[start : start + _ENCODED_AT_ONCE]
            vectors = encoded(self.encode, batch, self.dim, self.options)
            values = unit_length(vectors.tokens)[0] if self.options["similarity"] == "cosine" else vectors.tokens
            numbers, scales = stored(values, self.storage)
            fine = np.isfinite(values).all(axis=1) & np.isfinite(numbers).all(axis=1)
            if not fine.all():
                row = int(np.flatnonzero(~fine)[0])
                document = batch[int(np.searchsorted(vectors.offsets, row, side="right")) - 1]
                raise InputError(
                    f"a token vector of document {document.id!r} holds NaN or infinity, or overflows {self.storage}: check "
                    f"the model's dtype, or use storage=float32"
                )
            yield StoredTokens(numbers, scales, np.diff(vectors.offsets))
            advance(len(batch))
