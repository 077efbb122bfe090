"""What a build of a ColBERTer index writes into each shard and over all of them."""

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
from ..vectors import BagVectors
from .colberter_files import CLS, CLS_SCALES, NO_WORDS, WORDS, ColberterShard, Shards, StoredBags
from .colberter_postings import write_postings
from .durable import write_array
from .growing import GrowingArray
from .id_ranks import write_ranks
from .multivector_files import DTYPES, OFFSETS, SCALES, TOKENS, StoredTokens, stored
from .shards import summed

#: Documents that are encoded, and whose vectors are held, at a time.
_ENCODED_AT_ONCE = 256

#: Word vectors whose norms are taken at a time.
_NORMED_AT_ONCE = 1 << 15

#: Over all shards: the largest norms of a [CLS] and of a word vector.
LARGEST = "max_norm.npy"


@dataclass
class ColberterWriter:
    """Encodes documents and writes the shards of colberter_files.py and, where only equal words match, their postings.

    `widths` are the dimensions of [CLS] and word vectors, `storage` how numbers are kept.
    """

    encode: Callable[[list[Document]], BagVectors]
    widths: tuple[int, int]
    storage: str
    exact_match: bool
    truncated: Callable[[], int] | None = None
    libraries: ClassVar[Sequence[str]] = ("numpy", "numba", "torch", "transformers")

    def write(self, folder: Path, documents: list[Document], advance: Advance) -> Mapping[str, int]:
        before = self.truncated() if self.truncated else 0
        counts = self._write(folder, self._encoded(documents, advance))
        return counts | ({"truncated_texts": self.truncated() - before} if self.truncated else {})

    def finish(self, folder: Path, shards: list[Path]) -> Mapping[str, int]:
        return self._finish(folder, shards, shards, np.zeros(2))

    def extend(self, folder: Path, before: Path, shards: list[Path], new: list[Path]) -> Mapping[str, int]:
        return self._finish(folder, shards, new, np.load(before / LARGEST))

    def rewrite(self, folder: Path, pieces: list[tuple[Path, np.ndarray]]) -> Mapping[str, int]:
        def parts() -> Iterator[StoredBags]:
            for shard, rows in pieces:
                opened = self._open(shard)
                for start in range(0, len(rows), _ENCODED_AT_ONCE):
                    yield opened.kept(rows[start : start + _ENCODED_AT_ONCE])

        self._write(folder, parts())
        return summed(self.counts_of(shard, rows) for shard, rows in pieces)

    def counts_of(self, shard: Path, rows: np.ndarray) -> Mapping[str, int]:
        sizes = np.diff(np.load(shard / OFFSETS))[rows]
        return {"word_vectors": int(sizes.sum()), "without_words": int((sizes == 0).sum())}

    def _open(self, shard: Path) -> ColberterShard:
        return ColberterShard.open(shard, self.storage, self.exact_match)

    def _finish(self, folder: Path, shards: list[Path], new: list[Path], largest: np.ndarray) -> dict[str, int]:
        documents = write_ranks(folder)
        for shard in new:
            opened = self._open(shard)
            for i, part in enumerate((opened.cls, opened.bags)):
                for vectors, _ in part.batches(_NORMED_AT_ONCE):
                    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
                    largest[i] = max(largest[i], float(norms.max(initial=0)))
        write_array(folder / LARGEST, [largest], 2, (), np.float64)
        names = (CLS, CLS_SCALES, TOKENS, OFFSETS, SCALES, WORDS)
        written = sum(path.stat().st_size for shard in shards for name in names if (path := shard / name).exists())
        counts = {"vector_bytes_per_document": -(-written // documents)}
        if self.exact_match:
            size = write_postings(folder, Shards(shards, self.storage, exact_match=True), documents)
            counts["proposal_bytes_per_document"] = -(-size // documents)
        return counts

    def _write(self, folder: Path, parts: Iterator[StoredBags]) -> dict[str, int]:
        sizes = [np.zeros(1, np.int64)]
        dtype, scaled = DTYPES[self.storage], self.storage == "int8"
        with ExitStack() as files:

            def growing(name: str, kind: Any, *row: int) -> GrowingArray:
                return files.enter_context(GrowingArray(folder / name, kind, row))

            cls, tokens = growing(CLS, dtype, self.widths[0]), growing(TOKENS, dtype, self.widths[1])
            scales = (growing(CLS_SCALES, np.float32), growing(SCALES, np.float32)) if scaled else None
            words = growing(WORDS, np.uint32) if self.exact_match else None
            for part in parts:
                cls.append(part.cls)
                tokens.append(part.bags.numbers)
                sizes.append(part.bags.sizes)
                if scales:
                    scales[0].append(part.cls_scales)
                    scales[1].append(part.bags.scales)
                if words:
                    words.append(part.words)
        lengths = np.concatenate(sizes)
        write_array(folder / OFFSETS, [np.cumsum(lengths)], len(lengths), (), np.int64)
        return {"word_vectors": int(lengths.sum()), "without_words": int((lengths[1:] == 0).sum())}

    def _encoded(self, documents: list[Document], advance: Advance) -> Iterator[StoredBags]:
        for start in range(0, len(documents), _ENCODED_AT_ONCE):
            batch = documents[start : start + _ENCODED_AT_ONCE]
            vectors = self.encode(batch)
            widths = vectors.cls.shape[1], vectors.bags.tokens.shape[1]
            if len(vectors) != len(batch) or len(vectors.bags) != len(batch) or widths != self.widths:
                raise InputError(
                    f"the encoder gave {len(vectors)} vectors of {widths[0]} and {widths[1]} dimensions for {len(batch)} "
                    f"documents, expected {len(batch)} of {self.widths[0]} and {self.widths[1]}: check its spec"
                )
            yield self._stored(batch, vectors)
            advance(len(batch))

    def _stored(self, batch: list[Document], vectors: BagVectors) -> StoredBags:
        sizes = np.diff(vectors.bags.offsets)
        rows = np.repeat(np.arange(len(batch)), sizes)
        order = np.lexsort((vectors.words, rows)) if self.exact_match else slice(None)
        cls, cls_scales = stored(vectors.cls, self.storage)
        numbers, scales = stored(vectors.bags.tokens[order], self.storage)
        for what, given, kept, document in (
            ("vector", vectors.cls, cls, np.arange(len(batch))),
            ("word vector", vectors.bags.tokens[order], numbers, rows),
        ):
            fine = np.isfinite(given).all(axis=1) & np.isfinite(kept).all(axis=1)
            if not fine.all():
                at = document[int(np.flatnonzero(~fine)[0])]
                raise InputError(
                    f"a {what} of document {batch[at].id!r} holds NaN or infinity, or overflows {self.storage}: check the "
                    f"model's dtype, or use storage=float32"
                )
        words = vectors.words[order] if self.exact_match else NO_WORDS
        return StoredBags(cls, cls_scales, StoredTokens(numbers, scales, sizes), words)
