"""Exact late interaction: all token vectors of every document, memory-mapped, scored by MaxSim.

A scan of the tokens as they are stored gives every document a score that errs by a known bound: in float32, or of a query
in two parts where the CPU does that faster (maxsim_stored.py). What could be among the best `k` by that bound is scored
again in float64, in one order of additions; so results depend on the stored vectors and the query alone, whatever the
batch, the block and the machine. This is the ground truth of the approximate kinds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from ..errors import InputError, SetupError, UsageError, suggest
from ..records import Document, Ranking
from ..registry import register
from ..vectors import EncoderSpec, MultiVector
from .build import build_index
from .id_ranks import open_ranks
from .manifest import Manifest, Plan, check_index
from .maxsim_blocks import SIMILARITIES, QuerySide, blocks, product, token_bias
from .maxsim_kernel import exact_sum_of_best
from .maxsim_stored import StoredQueries
from .multivector_files import STORAGE, TokenShard, token_places
from .multivector_pooling import POOLINGS
from .multivector_writer import LARGEST, MultivectorWriter
from .of_encoder import OfEncoder
from .texts import TextStore
from .token_search import best_of, checked_queries, findable_rows

logger = logging.getLogger("cribble")

#: Query tokens that a block of document tokens is multiplied with at once.
_QUERY_TOKENS = 512

#: Scores of one batch of queries, 4 bytes each.
_SCORES = 1 << 25

#: Document tokens that go to a GPU at a time, and those whose scores are settled at a time.
_DEVICE_TOKENS = 1 << 17
_SETTLED_TOKENS = 1 << 13

#: Stored tokens of selected documents that are gathered at a time, for a core's second cache.
_GATHERED_TOKENS = 1 << 12

DEVICES = ("auto", "cpu", "cuda", "torch:cpu")


class _Part(NamedTuple):
    """Tokens of documents at the positions from `first` on: `rows` (T, d) float32, `scales` (T,), `offsets`."""

    first: int
    rows: np.ndarray
    scales: np.ndarray
    offsets: np.ndarray


@register("multivector-exact")
class MultivectorIndex(OfEncoder):
    """All token vectors of every document, searched exactly by MaxSim.

    A score is the sum over a query's tokens of their best match in a document (`mean`: divided by their number), in
    float64 over the vectors as they are stored; equal scores order by document id descending, also at the cut. A document
    without token vectors is not found, and a query without any finds nothing.
    """

    def __init__(self, path: Path, manifest: Manifest, device: str) -> None:
        self.path, self.manifest, self.device = path, manifest, device
        self.texts = TextStore(path, manifest)
        self.dim = manifest.encoder.dim if manifest.encoder else 0
        self.similarity: str = manifest.options["similarity"]
        self.mean: bool = manifest.options["mean"]
        self.score_kind = "maxsim"
        folders = manifest.shard_folders(path)
        self._storage: str = manifest.options["storage"]
        self._shards = [TokenShard.open(folder, self._storage) for folder in folders]
        self._starts = np.concatenate([[0], np.cumsum(manifest.shards)]).astype(np.int64)
        self._filled = np.concatenate([np.diff(shard.offsets) > 0 for shard in self._shards])
        whole = manifest.whole_folder(path)
        self._largest = float(np.load(whole / LARGEST)[0])
        self._ranks = open_ranks(whole)

    @classmethod
    def build(
        cls,
        path: str | Path,
        documents: Iterable[Document],
        encode: Callable[[list[Document]], MultiVector],
        *,
        spec: EncoderSpec,
        corpus: str,
        total: int | None = None,
        shard_documents: int = 4096,
        similarity: str | None = None,
        storage: str = "float16",
        mean: bool | None = None,
        pool_factor: float = 1.0,
        pool: str | None = None,
        truncated: Callable[[], int] | None = None,
        overwrite: bool = False,
    ) -> Self:
        """Encode `documents` into the folder `path`, or go on with a build that was interrupted there (see build.py).

        `spec` is the identity of `encode`; `similarity` of two tokens is dot, cosine or l2, the spec's by default, `mean`
        its too. `storage` is float32, float16, bfloat16 or int8 (a scale a token). With a `pool_factor` above 1 only that
        part of a document's tokens stays, by the convention `pool` (multivector_pooling.py). `truncated` returns the
        encoder's running count of cut texts. Memory holds a shard's texts and the vectors of 256 documents.
        Errors: those of `build_index`; `InputError` for vectors that do not fit; `UsageError` for an unknown option.
        """
        options = token_options(cls.registered_name, spec, similarity, storage, mean, pool_factor, pool)
        writer = MultivectorWriter(encode, spec.dim, options, truncated)
        plan = Plan(cls.registered_name, corpus, shard_documents, options, spec)
        manifest = build_index(path, documents, writer, plan, total=total, overwrite=overwrite)
        warn_of_empty(path, manifest)
        return cls.open(path, verify=False)

    @classmethod
    def open(
        cls, path: str | Path, *, spec: EncoderSpec | None = None, verify: bool | None = None, device: str = "cpu"
    ) -> Self:
        """Open a whole index; vectors are mapped, and read as they are searched (`verify`: see `check_index`).

        `spec` is the encoder that queries will come from; another one than recorded raises `InputError`. `device` scans:
        cpu, cuda, or auto (cuda where there is one).
        """
        if device not in DEVICES and not device.startswith("cuda:"):
            raise UsageError(f"{path}: device {device!r} is unknown: {suggest(device, DEVICES)}")
        manifest = check_index(path, kind=cls.registered_name, verify=verify)
        return cls(Path(path), manifest, device).fitting(spec)

    @classmethod
    def change_writer(
        cls,
        manifest: Manifest,
        encode: Callable[[list[Document]], MultiVector],
        truncated: Callable[[], int] | None = None,
    ) -> MultivectorWriter:
        """What adds to, deletes from and compacts the index of this `manifest` (changes.py)."""
        dim = manifest.encoder.dim if manifest.encoder else 0
        return MultivectorWriter(encode, dim, manifest.options, truncated)

    def search(
        self,
        queries: MultiVector,
        k: int,
        *,
        allow: Collection[str] | None = None,
        deny: Collection[str] | None = None,
        where: str | None = None,
    ) -> list[Ranking]:
        """Per query the best `k` documents: ids (m,) str objects and scores (m,) float64, best first, m <= k.

        `allow`, `deny` and `where` limit the search, see `filtering.selected_rows`.
        """
        queries = self._checked(queries, k)
        return self._exact(queries, k, self._selection(allow, deny, where))

    def vectors(self, rows: np.ndarray) -> MultiVector:
        """The token vectors, as scores see them, of the documents in `rows` (n,), ascending."""
        parts = list(self._parts(np.asarray(rows, np.int64), _SETTLED_TOKENS))
        matrices = [part.rows * part.scales[:, None] if len(part.scales) else part.rows for part in parts]
        sizes = [np.diff(part.offsets) for part in parts]
        tokens = np.concatenate([np.zeros((0, self.dim), np.float32), *matrices])
        return MultiVector(tokens, np.concatenate([[0], np.cumsum(np.concatenate([np.zeros(0, np.int64), *sizes]))]))

    # ---- what is searched -------------------------------------------------------------------------------------------

    def _checked(self, queries: MultiVector, k: int) -> MultiVector:
        return checked_queries(self.path, queries, k, self.dim, self.similarity)

    def _selection(
        self, allow: Collection[str] | None, deny: Collection[str] | None, where: str | None
    ) -> np.ndarray | None:
        return findable_rows(self.texts, self._filled, allow, deny, where)

    def _exact(self, queries: MultiVector, k: int, selection: np.ndarray | None) -> list[Ranking]:
        """The exact best `k` among the rows of `selection`, of all where it is None."""
        available = len(self._filled) if selection is None else len(selection)
        found: list[Ranking] = []
        for part in batches(queries, max(1, _SCORES // max(1, available))):
            scores, errors = self._scan(part, selection, available)
            found += [self._settled(part[i], scores[i], errors[i], selection, k) for i in range(len(part))]
        return found

    def _scan(
        self, queries: MultiVector, selection: np.ndarray | None, available: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores (queries, available) float32, and by how much those of each query may err (queries,)."""
        scores = np.empty((len(queries), available), np.float32)
        if not self._on_torch and self._pairwise == "dot":
            return scores, self._scan_stored(queries, selection, scores)
        side = QuerySide.of(queries.tokens, queries.offsets, self._pairwise)
        for part in self._parts(selection, _DEVICE_TOKENS if self._on_torch else side.block_tokens):
            if self._on_torch:
                from .maxsim_torch import maxsim_torch

                rows = part.rows * part.scales[:, None] if len(part.scales) else part.rows
                documents = MultiVector(rows, part.offsets)
                device = "cuda" if self.device == "auto" else self.device.removeprefix("torch:")
                last = part.first + len(documents)
                scores[:, part.first : last] = maxsim_torch(
                    queries, documents, device=device, similarity=self._pairwise
                )
            else:
                side.score(part.rows, part.scales, self._bias(part), part.offsets, scores, part.first)
        return scores, self._summed(queries, self._errors(queries.tokens))

    def _scan_stored(self, queries: MultiVector, selection: np.ndarray | None, scores: np.ndarray) -> np.ndarray:
        """The same from tokens as they are stored, written to `scores`; what they may err by."""
        side = StoredQueries.of(queries.tokens, queries.offsets, self._storage)
        done = 0
        for number, shard in enumerate(self._shards):
            if selection is None:
                side.score(shard.numbers, shard.scales, shard.offsets, scores, done)
                done += len(shard)
                continue
            own = self._of_shard(selection, number)
            _, offsets = token_places(shard.offsets, own)
            for first, last in blocks(offsets, _GATHERED_TOKENS):
                kept = shard.kept(own[first:last])
                starts = np.concatenate([[0], np.cumsum(kept.sizes)])
                side.score(kept.numbers, kept.scales, starts, scores, done + first)
            done += len(own)
        return self._summed(queries, side.errors(self.dim, self._largest))

    def _settled(
        self, query: np.ndarray, scores: np.ndarray, error: float, selection: np.ndarray | None, k: int
    ) -> Ranking:
        """The best `k` by their exact scores, which only documents near the best are given; `scores` err by `error`."""
        if not len(query):
            return Ranking(np.empty(0, object), np.empty(0))
        positions = np.arange(len(scores))
        if len(scores) > k:
            bound = float(np.partition(scores, -k)[-k]) - 2 * error
            positions = np.flatnonzero(scores >= bound)
        rows = positions if selection is None else selection[positions]
        return self._ranked(query, rows, k)

    def _ranked(self, query: np.ndarray, rows: np.ndarray, k: int) -> Ranking:
        """The best `k` of `rows` (m,), ascending, by their exact scores."""
        values = self._exact_scores(query, rows)
        if self.mean:
            values /= len(query)
        return best_of(self.texts, self._ranks, rows, values, k)

    def _exact_scores(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores (m,) float64 of the documents in `rows` (m,), ascending, all with tokens, for one `query` (t, d)."""
        side = QuerySide.of(query, np.array([0, len(query)]), self._pairwise)
        errors = self._errors(query).astype(np.float32)
        values = np.empty(len(rows))
        for part in self._parts(np.asarray(rows, np.int64), _SETTLED_TOKENS):
            out = values[part.first : part.first + len(part.offsets) - 1]
            similarities = product(part.rows, side.factors)
            bias, l2 = self._bias(part), self.similarity == "l2"
            rows32 = part.rows * part.scales[:, None] if l2 and len(part.scales) else part.rows
            exact_sum_of_best(query, rows32, similarities, part.scales, bias, part.offsets, errors, l2, out)
        return values

    # ---- how it is scored -------------------------------------------------------------------------------------------

    @property
    def _pairwise(self) -> str:
        """Cosines are products here, as both sides have unit length before."""
        return "l2" if self.similarity == "l2" else "dot"

    def _bias(self, part: _Part) -> np.ndarray:
        rows = part.rows * part.scales[:, None] if self.similarity == "l2" and len(part.scales) else part.rows
        return token_bias(rows, self._pairwise)

    def _errors(self, tokens: np.ndarray) -> np.ndarray:
        """Bounds (t,) on what a float32 match of each query token can be off: n terms err by n · 2^-24 of their absolute
        sum (Higham, Accuracy and Stability of Numerical Algorithms, §3.1)."""
        norms = np.linalg.norm(tokens.astype(np.float64), axis=1)
        if self.similarity == "l2":
            return (2 * self.dim + 16) * 2.0**-24 * (norms + self._largest) ** 2
        errors: np.ndarray = (self.dim + 8) * 2.0**-24 * norms * self._largest
        return errors

    def _summed(self, queries: MultiVector, errors: np.ndarray) -> np.ndarray:
        """Bounds on the difference of queries' scores and the exact ones: the matches' `errors` (t,), and that of rounding
        their sum."""
        norms = np.linalg.norm(queries.tokens.astype(np.float64), axis=1)
        largest = (norms + self._largest) ** 2 if self.similarity == "l2" else norms * self._largest
        sums = np.concatenate([[0.0], np.cumsum(errors + 2.0**-23 * largest)])
        bounds: np.ndarray = (sums[queries.offsets[1:]] - sums[queries.offsets[:-1]]) * (1 + 1e-6) + 1e-12 * sums[-1]
        return bounds

    @property
    def _on_torch(self) -> bool:
        if self.device == "cpu":
            return False
        import torch

        if self.device.startswith("cuda") and not torch.cuda.is_available():
            raise SetupError(f"{self.path}: device is {self.device}, but torch finds no CUDA device: use device=cpu")
        return self.device != "auto" or torch.cuda.is_available()

    # ---- tokens in parts --------------------------------------------------------------------------------------------

    def _parts(self, rows: np.ndarray | None, tokens: int) -> Iterator[_Part]:
        """The tokens of all rows, or of ascending `rows`, about `tokens` at a time; whole shards are not copied."""
        done = 0
        for number, shard in enumerate(self._shards):
            if rows is None:
                for first, last in blocks(shard.offsets, tokens):
                    values, scales = shard.block(first, last)
                    yield _Part(
                        int(self._starts[number]) + first,
                        values,
                        scales,
                        shard.offsets[first : last + 1] - shard.offsets[first],
                    )
                continue
            own = self._of_shard(rows, number)
            _, offsets = token_places(shard.offsets, own)
            for first, last in blocks(offsets, tokens):
                values, scales, part_offsets = shard.gathered(own[first:last])
                yield _Part(done + first, values, scales, part_offsets)
            done += len(own)

    def _of_shard(self, rows: np.ndarray, number: int) -> np.ndarray:
        """Those of ascending `rows` that shard `number` has, counted from its first."""
        start, end = self._starts[number], self._starts[number + 1]
        own: np.ndarray = rows[slice(*np.searchsorted(rows, [start, end]))] - start
        return own


def batches(queries: MultiVector, most: int, tokens: int = _QUERY_TOKENS) -> Iterator[MultiVector]:
    """Consecutive queries of about so many `tokens` together, at most `most`."""
    first = 0
    while first < len(queries):
        last = int(np.searchsorted(queries.offsets, queries.offsets[first] + tokens, side="right")) - 1
        last = min(max(last, first + 1), first + most)
        begin = queries.offsets[first]
        yield MultiVector(queries.tokens[begin : queries.offsets[last]], queries.offsets[first : last + 1] - begin)
        first = last


def token_options(
    name: str,
    spec: EncoderSpec,
    similarity: str | None,
    storage: str,
    mean: bool | None,
    pool_factor: float,
    pool: str | None,
) -> dict[str, Any]:
    """The options of an index of token vectors, those not given as the encoder `spec` says. Raises for unknown values."""
    chosen = spec.similarity if similarity is None else similarity
    if chosen not in SIMILARITIES:
        raise UsageError(f"{name} index: similarity {chosen!r} is unknown: {suggest(chosen, SIMILARITIES)}")
    if storage not in STORAGE:
        raise UsageError(f"{name} index: storage {storage!r} is unknown: {suggest(storage, STORAGE)}")
    if spec.dim < 1:
        raise InputError(f"{name} index: the encoder spec of {spec.model!r} has dim {spec.dim}, expected its width")
    if not 1 <= pool_factor < float("inf"):
        raise UsageError(f"{name} index: pool_factor is {pool_factor}, expected 1 (no pooling) or more")
    if pool is not None and pool_factor == 1:
        raise UsageError(f"{name} index: pool={pool!r} has no effect without a pool_factor above 1")
    if pool is not None and pool not in POOLINGS:
        raise UsageError(f"{name} index: pool {pool!r} is unknown: {suggest(pool, POOLINGS)}")
    options: dict[str, Any] = {"similarity": chosen, "storage": storage, "mean": mean}
    if mean is None:
        options["mean"] = spec.extra.get("scores") == "meanmaxsim"
    pooling = {"pool_factor": float(pool_factor), "pool": (pool or POOLINGS[0]) if pool_factor > 1 else None}
    return options | pooling


def warn_of_empty(path: str | Path, manifest: Manifest) -> None:
    if empty := manifest.counts["without_tokens"]:
        logger.warning("%s: %d documents have no token vectors: no query finds them", path, empty)
