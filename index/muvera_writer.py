"""What a build of a MUVERA index writes: token vectors, an encoding per document, and what searches the encodings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..registry import find
from ..vectors import MultiVector
from .ann_rules import Kind, recipe
from .durable import write_array
from .faiss_files import extend_faiss, make_faiss, mapped
from .multivector_files import OFFSETS, StoredTokens, TokenShard
from .multivector_writer import MultivectorWriter
from .muvera_encoding import FixedDimensional

#: Tokens that are encoded at a time.
_TOKENS = 1 << 14


@dataclass
class MuveraWriter(MultivectorWriter):
    """Writes what a multivector-exact index has, `vectors.npy` (n, width) per shard, and a FAISS index over all of them.

    Encodings are of the token vectors as they are stored, so that a change makes the same ones.
    """

    encoding: FixedDimensional = field(kw_only=True)

    def _write(self, folder: Path, parts: Iterator[StoredTokens]) -> dict[str, int]:
        counts = super()._write(folder, parts)
        documents = len(np.load(folder / OFFSETS, mmap_mode="r")) - 1
        batches = TokenShard.open(folder, self.storage).batches(_TOKENS)
        encodings = (self.encoding.documents(MultiVector(vectors, offsets)) for vectors, offsets in batches)
        write_array(
            folder / "vectors.npy", encodings, documents, (self.encoding.width,), self.options["encoding_storage"]
        )
        return counts

    def finish(self, folder: Path, shards: list[Path]) -> Mapping[str, int]:
        counts = super().finish(folder, shards)
        rows = sum(len(mapped(shard)) for shard in shards)
        size = 0
        if (kind := structure_kind(self.options)) is not None:
            plan = recipe(kind, rows, self.encoding.width, self.options)
            size = make_faiss(folder, shards, self.encoding.width, "dot", plan)
        return {**counts, **self._bytes(shards, size)}

    def extend(self, folder: Path, before: Path, shards: list[Path], new: list[Path]) -> Mapping[str, int]:
        counts = super().extend(folder, before, shards, new)
        size = extend_faiss(before, folder, new) if structure_kind(self.options) is not None else 0
        return {**counts, **self._bytes(shards, size)}

    def _bytes(self, shards: list[Path], faiss_bytes: int) -> dict[str, int]:
        """What proposing reads a document: its encoding, or its share of the FAISS index."""
        rows = sum(len(mapped(shard)) for shard in shards)
        itemsize = np.dtype(self.options["encoding_storage"]).itemsize
        return {"proposal_bytes_per_document": -(-faiss_bytes // rows) or self.encoding.width * itemsize}


def structure_kind(options: Mapping[str, Any]) -> Kind | None:
    """The approximate kind that searches the encodings; None where they are scanned."""
    kind: Kind | None = None if options["structure"] == "flat" else find("index", options["structure"]).kind
    return kind
