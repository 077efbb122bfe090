"""Exact search over one vector per document, by FAISS on a CPU and torch on a GPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa

from ..errors import InputError, SetupError, UsageError, suggest
from ..ids import order_descending
from ..records import Document, Ranking
from ..registry import register
from ..vectors import Dense, EncoderSpec
from . import scan, scan_loading
from .build import build_index
from .codes import DIM_STEP, read_codes
from .exact import (
    SIMILARITIES,
    Nearest,
    at_least,
    candidates,
    exact_scores,
    faiss_nearest,
    scan_error,
    torch_nearest,
    unit_length,
)
from .filtering import selected_rows
from .flat_writer import FlatWriter
from .manifest import Manifest, Plan, check_index
from .of_encoder import OfEncoder
from .texts import TextStore

logger = logging.getLogger("cribble")

STORAGE = ("float32", "float16")

DEVICES = ("auto", "cpu", "cuda", "torch:cpu")

#: Many queries with long lists are faster over fewer, larger blocks: shards are then copied together to this many rows.
_JOINED_ROWS = 1 << 17

#: Candidates of one batch of queries: 12 bytes each.
_BATCH_CANDIDATES = 1 << 22

#: Mapped files cost a file descriptor each; so many shards stay open at once.
_OPEN_SHARDS = 128


#: Vectors that were cut and scaled again are copies, of which a few are kept.
_KEPT_CUTS = 4


def _open_vectors(folders: list[Path], number: int) -> np.ndarray:
    """The vectors of a shard. No method: an index that is dropped should go at once, with what it holds."""
    # Copy-on-write, as torch warns of arrays that it may not write to; nothing is written.
    vectors: np.ndarray = np.load(folders[number] / "vectors.npy", mmap_mode="c")
    return vectors


def _open_cut(folders: list[Path], dim: int, unit: bool, number: int) -> np.ndarray:
    """The first `dim` dimensions of a shard's vectors, of length 1 again where `unit`."""
    cut = _open_vectors(folders, number)[:, :dim]
    return unit_length(cut)[0] if unit else np.ascontiguousarray(cut)


def _open_codes(folders: list[Path], there: bool, number: int) -> tuple[np.ndarray, np.ndarray] | None:
    return read_codes(folders[number]) if there else None


def checked_similarity(name: str, spec: EncoderSpec, similarity: str | None, storage: str) -> str:
    """What vectors of the encoder `spec` are compared with: `similarity`, or the spec's. Raises for an unknown one, an
    unknown `storage`, and a spec without width."""
    chosen = spec.similarity if similarity is None else similarity
    if chosen not in SIMILARITIES:
        raise UsageError(f"{name} index: similarity {chosen!r} is unknown: {suggest(chosen, SIMILARITIES)}")
    if storage not in STORAGE:
        raise UsageError(f"{name} index: storage {storage!r} is unknown: {suggest(storage, STORAGE)}")
    if spec.dim < 1:
        raise InputError(f"{name} index: the encoder spec of {spec.model!r} has dim {spec.dim}, expected its width")
    return chosen


def warn_of_zero_vectors(path: str | Path, manifest: Manifest) -> None:
    if zero := manifest.counts["zero_vectors"]:
        logger.warning("%s: %d documents have a zero vector: their cosine with anything is 0", path, zero)


@register("flat")
class FlatIndex(OfEncoder):
    """An index of one vector per document that is searched exactly.

    `score_kind` says what scores are: `dot`, `cosine`, or `l2`, which is minus the squared Euclidean distance. Higher
    is better. Scores are float64 sums over the stored vectors rounded to float32, alike on every machine and for every
    batch size; equal scores order by document id descending, also at the cut.
    """

    def __init__(self, path: Path, manifest: Manifest, device: str, truncate_dim: int | None = None) -> None:
        self.path = path
        self.manifest = manifest
        self.device = device
        self.texts = TextStore(path, manifest)
        self.score_kind: str = manifest.options["similarity"]
        self.dim = manifest.encoder.dim if manifest.encoder else 0
        self._max_norm = float(np.load(manifest.whole_folder(path) / "max_norm.npy")[0])
        self._starts = np.concatenate([[0], np.cumsum(manifest.shards)]).astype(np.int64)
        self._shard = lru_cache(maxsize=_OPEN_SHARDS)(partial(_open_vectors, manifest.shard_folders(path)))
        self._nearest: Nearest | None = None
        self._has_codes: bool = manifest.options.get("codes", False)
        self.truncate_dim = truncate_dim
        self._stored = self._shard
        if truncate_dim is not None:
            cut = partial(_open_cut, manifest.shard_folders(path), truncate_dim, self.score_kind == "cosine")
            self._shard, self._has_codes = lru_cache(maxsize=_KEPT_CUTS)(cut), False
        self._codes = lru_cache(maxsize=_OPEN_SHARDS)(
            partial(_open_codes, manifest.shard_folders(path), self._has_codes)
        )
        #: auto, or always plain or int8: what the scan reads. Results are the same.
        self.scan = "auto"
        self._work = 0

    @classmethod
    def build(
        cls,
        path: str | Path,
        documents: Iterable[Document],
        encode: Callable[[list[Document]], Dense],
        *,
        spec: EncoderSpec,
        corpus: str,
        total: int | None = None,
        shard_documents: int = 4096,
        similarity: str | None = None,
        storage: str = "float32",
        codes: bool = False,
        truncated: Callable[[], int] | None = None,
        overwrite: bool = False,
    ) -> Self:
        """Encode `documents` into the folder `path`, or go on with a build that was interrupted there (see build.py).

        `spec` is the identity of `encode` and is recorded; `similarity` is dot, cosine or l2 (default: the spec's),
        `storage` float32 or float16. `codes` adds an 8-bit copy, dim + 16 bytes a document, which searches scan first:
        the same results in less time. `truncated` returns the encoder's running count of cut texts. Memory holds one
        shard of texts and 4,096 vectors. Errors: those of `build_index`; `InputError` for vectors that do not fit.
        """
        similarity = checked_similarity("flat", spec, similarity, storage)
        if codes and spec.dim % DIM_STEP:
            raise UsageError(
                f"flat index: codes need a dimension that {DIM_STEP} divides, the encoder has {spec.dim}: build without"
            )
        if codes:
            scan_loading.start()  # what compiles now, searches find in numba's cache
        writer = FlatWriter(encode, spec.dim, similarity, storage, truncated, codes)
        options = {"similarity": similarity, "storage": storage, "codes": codes}
        plan = Plan("flat", corpus, shard_documents, options, spec)
        manifest = build_index(path, documents, writer, plan, total=total, overwrite=overwrite)
        warn_of_zero_vectors(path, manifest)
        return cls.open(path, verify=False)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        spec: EncoderSpec | None = None,
        verify: bool | None = None,
        device: str = "auto",
        truncate_dim: int | None = None,
    ) -> Self:
        """Open a whole index; nothing is read but its manifest and what `verify` asks for (see `check_index`).

        `spec` is the encoder that queries will come from; another one than recorded raises `InputError`. `device` is
        auto (cuda where there is one), cpu, cuda, cuda:1, …, or `torch:cpu` for torch's search on the CPU. With
        `truncate_dim` only the first dimensions of queries and documents count (Matryoshka models), of length 1 again
        where scores are cosines: a view, nothing is built.
        """
        if device not in DEVICES and not device.removeprefix("cuda:").isdecimal():
            raise UsageError(f"flat index: device {device!r} is unknown: {suggest(device, DEVICES)}")
        manifest = check_index(path, kind="flat", verify=verify)
        dim = manifest.encoder.dim if manifest.encoder else 0
        if truncate_dim is not None and not 0 < truncate_dim < dim:
            raise UsageError(f"{path}: truncate_dim is {truncate_dim}, expected 1 to {dim - 1} of its {dim} dimensions")
        return cls(Path(path), manifest, device, truncate_dim).fitting(spec)

    @classmethod
    def change_writer(
        cls,
        manifest: Manifest,
        encode: Callable[[list[Document]], Dense],
        truncated: Callable[[], int] | None = None,
    ) -> FlatWriter:
        """What adds to, deletes from and compacts the index of this `manifest` (changes.py)."""
        if cls is not FlatIndex:
            raise UsageError(f"an index of the kind {manifest.kind!r} can't be changed: build it again")
        dim = manifest.encoder.dim if manifest.encoder else 0
        options = manifest.options
        return FlatWriter(
            encode, dim, options["similarity"], options["storage"], truncated, options.get("codes", False)
        )

    def search(
        self,
        queries: Dense,
        k: int,
        *,
        allow: Collection[str] | None = None,
        deny: Collection[str] | None = None,
        where: str | None = None,
    ) -> list[Ranking]:
        """Per query the best `k` documents: ids (m,) str objects and scores (m,) float64, best first, m <= k.

        `allow` (only these ids), `deny` (not these) and `where` (a condition on metadata) say which documents are
        ranked; ids that the index does not have are counted in a warning. See `filtering.selected_rows`.
        """
        self._check(queries, k)
        return self._exact(queries, k, selected_rows(self.texts, allow=allow, deny=deny, where=where))

    def _check(self, queries: Dense, k: int) -> None:
        if k < 1:
            raise UsageError(f"k is {k}, expected at least 1")
        if len(queries) and queries.dim != self.dim:
            raise InputError(
                f"{self.path}: queries have {queries.dim} dimensions, the index {self.dim}: use its encoder"
            )

    def _exact(self, queries: Dense, k: int, mask: np.ndarray | None) -> list[Ranking]:
        """The exact best `k` of the rows that `mask` (rows,) bool has, of all rows where it is None."""
        if not len(queries) or (mask is not None and not mask.any()):
            return [Ranking(np.empty(0, object), np.empty(0)) for _ in range(len(queries))]
        return self._rankings(self._prepared(queries), k, mask)

    def _rankings(self, values: np.ndarray, k: int, mask: np.ndarray | None) -> list[Ranking]:
        """By the low-precision scan where it pays and by the plain one else: the results are the same."""
        if not self._low_precision(values, k, mask):
            return self._plain_rankings(values, k, mask)
        shards = scan.Shards(self._starts, self._shard, self._codes, self.score_kind)
        answers = scan.search(shards, values, min(k, len(self)), mask, scan.threads())
        return [
            self._plain_rankings(query[None], k, mask)[0] if answer is None else self._ranked(*answer, k)
            for query, answer in zip(values, answers, strict=True)
        ]

    def _plain_rankings(self, values: np.ndarray, k: int, mask: np.ndarray | None) -> list[Ranking]:
        selection = None if mask is None else np.flatnonzero(mask)
        available = len(self) if selection is None else len(selection)
        wanted = min(k + k // 10 + 16, available)
        step = max(1, _BATCH_CANDIDATES // wanted)
        found: list[Ranking] = []
        for start in range(0, len(values), step):
            batch = values[start : start + step]
            joined = _JOINED_ROWS if self._on_torch or len(batch) * wanted >= 1 << 15 else 1
            scores, positions = candidates(self._scan, batch, self._blocks(selection, joined), wanted)
            found += [
                self._settled(*row, selection, k, available) for row in zip(batch, scores, positions, strict=True)
            ]
        return found

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        """The stored vectors (n, d) float32 of `rows` (n,), in their order, whole; of unit length where scores are cosines."""
        distinct, places = np.unique(np.asarray(rows, np.int64), return_inverse=True)
        if not len(distinct):
            return np.empty((0, self.dim), np.float32)
        if distinct[0] < 0 or distinct[-1] >= self._starts[-1]:
            raise IndexError(f"{self.path}: rows {distinct[0]} to {distinct[-1]} of {self._starts[-1]}")
        return np.concatenate(list(self._pieces(distinct, self._stored))).astype(np.float32, copy=False)[places]

    # ---- candidates → exact order -----------------------------------------------------------------------------------

    def _settled(
        self, query: np.ndarray, scan: np.ndarray, positions: np.ndarray, selection: np.ndarray | None, k: int, n: int
    ) -> Ranking:
        positions = np.sort(positions)
        scores = exact_scores(self.score_kind, query, self._gather(self._rows(positions, selection)))
        if len(positions) < n:
            bound = float(np.partition(scores, -k)[-k])
            if float(scan.min()) + scan_error(self.score_kind, query, self._max_norm) >= bound:
                scores, positions = at_least(self.score_kind, query, self._blocks(selection, 1), bound)
        return self._ranked(scores, self._rows(positions, selection), k)

    def _ranked(self, scores: np.ndarray, rows: np.ndarray, k: int) -> Ranking:
        """Score descending, id descending; ids are compared only where scores are equal."""
        order = np.argsort(-scores, kind="stable")
        scores, rows = scores[order], rows[order]
        if len(rows) > k:
            last = int(np.searchsorted(-scores, -scores[k - 1], side="right"))
            scores, rows = scores[:last], rows[:last]
        groups = np.concatenate([[0], np.cumsum(scores[1:] != scores[:-1])])
        if groups[-1] < len(rows) - 1:
            rows = rows[order_descending(self.texts.ids.take(pa.array(rows)), groups)]
        return Ranking(self.texts.ids_at(rows[:k]), scores[:k].astype(np.float64))

    def _prepared(self, queries: Dense) -> np.ndarray:
        values = np.ascontiguousarray(queries.values[:, : self.truncate_dim], np.float32)
        if self.score_kind != "cosine":
            return values
        values, zero = unit_length(values)
        if zero:
            logger.warning("%s: %d queries have a zero vector: their cosine with anything is 0", self.path, zero)
        return values

    # ---- vectors in blocks ------------------------------------------------------------------------------------------

    @staticmethod
    def _rows(positions: np.ndarray, selection: np.ndarray | None) -> np.ndarray:
        return positions if selection is None else selection[positions]

    def _pieces(
        self, rows: np.ndarray | None, shard: Callable[[int], np.ndarray] | None = None
    ) -> Iterator[np.ndarray]:
        """The vectors of all rows, or of sorted `rows`, each once, shard by shard; whole shards are not copied."""
        shard = shard or self._shard
        for number in range(len(self._starts) - 1):
            if rows is None:
                yield shard(number)
                continue
            first, last = np.searchsorted(rows, self._starts[number : number + 2])
            if last - first == self._starts[number + 1] - self._starts[number]:
                yield shard(number)
            elif first < last:
                yield shard(number)[rows[first:last] - self._starts[number]]

    def _blocks(self, selection: np.ndarray | None, at_least_rows: int) -> Iterator[tuple[int, np.ndarray]]:
        """The pieces joined until a block has `at_least_rows`, each with the position of its first row."""
        first, pieces, held = 0, [], 0
        for piece in self._pieces(selection):
            pieces.append(piece)
            held += len(piece)
            if held >= at_least_rows:
                yield first, pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
                first, pieces, held = first + held, [], 0
        if pieces:
            yield first, np.concatenate(pieces)

    def _gather(self, rows: np.ndarray) -> np.ndarray:
        return np.concatenate(list(self._pieces(rows)))

    # ---- the engine -------------------------------------------------------------------------------------------------

    @property
    def _on_torch(self) -> bool:
        if self.device == "cpu":
            return False
        import torch

        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise SetupError(f"{self.path}: device is {self.device}, but torch finds no CUDA device: use device=cpu")
        return self.device != "auto" or torch.cuda.is_available()

    def _low_precision(self, values: np.ndarray, k: int, mask: np.ndarray | None) -> bool:
        """Whether to scan codes: the CPU can (`scan_loading.available`), the numbers are in range (`scan.suits`), and it pays.

        Loading the compiled loops takes a second: plain searches go on until they have cost as much. Making codes
        on the fly pays for some queries at once over most of the rows; reading them from files pays for any.
        """
        if self.scan == "plain" or self._on_torch or not scan.suits(values.shape[1], self._max_norm, values):
            return False
        if self.scan == "int8":
            return True
        rows = int(self._starts[-1] if mask is None else np.count_nonzero(mask))
        least = scan.FEW_ROWS if self._has_codes else scan.MOST_ROWS
        if rows < max(least * self._starts[-1], scan.ROWS_PER_WANTED * k):
            return False
        if len(values) < scan.FEW_QUERIES and not self._has_codes:
            return False
        self._work += len(values) * rows * self.dim
        return self._work >= scan.LOADING_WORK and scan_loading.ready()

    @property
    def _scan(self) -> Nearest:
        if self._nearest is None:
            device = "cuda" if self.device == "auto" else self.device.removeprefix("torch:")
            on_torch = self._on_torch
            self._nearest = torch_nearest(self.score_kind, device) if on_torch else faiss_nearest(self.score_kind)
        return self._nearest
