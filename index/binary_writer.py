"""What a build of packed codes writes: the vectors as `flat` does, the codes, and lists or a graph over all of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..errors import SetupError, UsageError
from ..progress import Advance
from ..records import Document
from ..vectors import Dense
from .binary_files import DESCRIPTION, Run, read_runs, require_compatible, row_bytes, same_binariser, write_runs
from .binary_graph import extend_graph, write_graph
from .binary_lists import extend_lists, write_lists
from .binary_options import training_size
from .binary_rotations import Binariser, Rotation, check_itq, learnt_rotation, random_rotation, signs
from .durable import write_array
from .faiss_files import fast_distances, mapped, sampled
from .flat_writer import FlatWriter
from .shards import summed

#: Vectors whose codes are made at a time.
_CODED = 4096


@dataclass(frozen=True)
class WithCodes:
    """An encode function of documents, and the binariser of its vectors, for kinds that bring their own (bebr).

    `dim` is the width of the vectors where it may differ from that of the encoder which an index records: one without
    stored vectors takes documents of a newer encoder, by a binariser that is compatible.
    """

    encode: Callable[[list[Document]], Dense]
    binariser: Binariser
    dim: int | None = None

    def __call__(self, documents: list[Document]) -> Dense:
        return self.encode(documents)


@dataclass
class BinaryWriter(FlatWriter):
    """Writes vectors (unless they are left out) and codes per shard; codes of `itq` over all shards, as it learns from all."""

    kind: str = "sign"
    options: Mapping[str, Any] = field(default_factory=dict)
    libraries: ClassVar[Sequence[str]] = (*FlatWriter.libraries, "numba")

    @cached_property
    def binariser(self) -> Binariser:
        if self.kind == "sign":
            return signs(self.dim)
        if self.kind == "lsh":
            return random_rotation(self.dim, self.options["bits"], self.options["seed"])
        if not isinstance(self.encode, WithCodes):
            raise UsageError(f"{self.kind} index: nothing says how vectors become codes: name a binariser")
        return self.encode.binariser

    @property
    def _learns(self) -> bool:
        """Whether codes are made when all vectors are there."""
        return self.kind == "itq"

    @property
    def _stores_vectors(self) -> bool:
        return bool(self.options["vectors"])

    def write(self, folder: Path, documents: list[Document], advance: Advance) -> Mapping[str, int]:
        if self._stores_vectors:
            counts: Mapping[str, int] = super().write(folder, documents, advance)
            blocks = _blocks(mapped(folder))
        else:
            counts = {"zero_vectors": 0}
            before = self.truncated() if self.truncated else 0
            blocks = self._vectors(documents, counts, advance)
        if not self._learns:
            codes = (self.binariser.codes(np.asarray(block, np.float32)) for block in blocks)
            write_runs(folder, [(self.binariser.identity, len(documents), codes)])
        if not self._stores_vectors and self.truncated:
            counts = {**counts, "truncated_texts": self.truncated() - before}
        return counts

    def finish(self, folder: Path, shards: list[Path]) -> Mapping[str, int]:
        self._write_norm(folder, shards, 0.0)
        if self._learns:
            self._learn(folder, shards)
        elif self.kind == "lsh":
            self._rotation.save(folder)
        runs = all_runs(folder, shards)
        if self.options["structure"] == "ivf":
            write_lists(folder, runs, self.options["nlist"], self.options["training_vectors"], self.options["seed"])
        elif self.options["structure"] == "hnsw":
            write_graph(folder, runs, self.options["links"], self.options["ef_construction"])
        return self._bytes_per_document(runs)

    def extend(self, folder: Path, before: Path, shards: list[Path], new: list[Path]) -> Mapping[str, int]:
        self._write_norm(folder, new, float(np.load(before / "max_norm.npy")[0]))
        if self._learns:
            self._encode_more(folder, before, new)
        elif self.kind == "lsh":
            self._refuse_another_rotation(before)
            self._rotation.save(folder)
        runs = all_runs(folder, shards)
        if self.kind == "bebr":
            require_compatible(self.binariser, (run.binariser for run in runs), before.parent)
        if self.options["structure"] == "ivf":
            extend_lists(folder, before, runs)
        elif self.options["structure"] == "hnsw":
            extend_graph(folder, before, runs)
        return self._bytes_per_document(runs)

    def rewrite(self, folder: Path, pieces: list[tuple[Path, np.ndarray]]) -> Mapping[str, int]:
        if self._stores_vectors:
            super().rewrite(folder, pieces)
        if not self._learns:
            kept = [part for shard, rows in pieces for part in _rows_of(read_runs(shard), rows)]
            write_runs(folder, _joined(kept))
        return summed(self.counts_of(shard, rows) for shard, rows in pieces)

    def counts_of(self, shard: Path, rows: np.ndarray) -> Mapping[str, int]:
        return super().counts_of(shard, rows) if self._stores_vectors else {}

    # ---- over all shards --------------------------------------------------------------------------------------------

    @property
    def _rotation(self) -> Rotation:
        made = self.binariser
        if not isinstance(made, Rotation):
            raise TypeError(f"{self.kind}: {made!r} is no rotation")
        return made

    def _write_norm(self, folder: Path, shards: list[Path], largest: float) -> None:
        if self._stores_vectors:
            self._write_largest_norm(folder, shards, largest)
        else:
            write_array(folder / "max_norm.npy", [np.zeros(1)], 1, (), np.float64)

    def _learn(self, folder: Path, shards: list[Path]) -> None:
        rows = sum(len(mapped(shard)) for shard in shards)
        size = min(rows, training_size(self.dim, self.options["training_vectors"]))
        sample = sampled(shards, rows, self.dim, size, self.options["seed"])
        with fast_distances():
            rotation = learnt_rotation(sample, check_itq(self.dim, self.options["bits"]), self.options["seed"])
        rotation.save(folder)
        write_runs(folder, [(rotation.identity, rows, _coded(rotation, shards))])

    def _encode_more(self, folder: Path, before: Path, new: list[Path]) -> None:
        rotation = Rotation.load(self.kind, self.dim, before)
        rotation.save(folder)
        (old,) = read_runs(before)
        rows = len(old.codes) + sum(len(mapped(shard)) for shard in new)

        def blocks() -> Iterator[np.ndarray]:
            yield old.codes
            yield from _coded(rotation, new)

        write_runs(folder, [(rotation.identity, rows, blocks())])

    def _refuse_another_rotation(self, before: Path) -> None:
        recorded = Rotation.load(self.kind, self.dim, before).identity["sha256"]
        made = self._rotation.identity["sha256"]
        if made != recorded:
            raise SetupError(
                f"{before.parent}: this FAISS draws another rotation from the seed {self.options['seed']} (SHA-256 {made}, "
                f"expected {recorded}): build the index again with overwrite"
            )

    def _bytes_per_document(self, runs: list[Run]) -> dict[str, int]:
        counts = {"code_bytes_per_document": max(row_bytes(run.binariser) for run in runs)}
        if self._stores_vectors:
            counts["vector_bytes_per_document"] = self.dim * np.dtype(self.storage).itemsize
        return counts


def all_runs(whole: Path, shards: Sequence[Path]) -> list[Run]:
    """The codes of all rows, in row order: those in the folder `whole`, or of shard after shard."""
    if (whole / DESCRIPTION).exists():
        return read_runs(whole)
    return [run for shard in shards for run in read_runs(shard)]


def _blocks(vectors: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(vectors), _CODED):
        yield vectors[start : start + _CODED]


def _coded(rotation: Rotation, shards: Sequence[Path]) -> Iterator[np.ndarray]:
    for shard in shards:
        for block in _blocks(mapped(shard)):
            yield rotation.codes(np.asarray(block, np.float32))


def _rows_of(runs: list[Run], rows: np.ndarray) -> Iterator[Run]:
    """The codes of `rows` (m,), ascending, of a shard, in runs."""
    first = 0
    for run in runs:
        here = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + len(run.codes))] - first
        if len(here):
            yield Run(np.asarray(run.codes[here]), run.binariser)
        first += len(run.codes)


def _joined(runs: list[Run]) -> Iterator[tuple[Mapping[str, Any], int, list[np.ndarray]]]:
    """Neighbours by the same binariser as one run."""
    for start, run in enumerate(runs):
        if start and same_binariser(run.binariser, runs[start - 1].binariser):
            continue
        codes = [r.codes for r in itertools.takewhile(partial(_same, run), runs[start:])]
        yield run.binariser, sum(map(len, codes)), codes


def _same(one: Run, other: Run) -> bool:
    return same_binariser(one.binariser, other.binariser)
