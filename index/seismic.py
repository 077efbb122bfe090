"""Sparse vectors in a Seismic index (pyseismic-lsr): approximate, by clustered lists of the heaviest postings."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from ..errors import InputError, UsageError, require
from ..ids import order_descending
from ..records import Document, Ranking
from ..registry import register
from ..vectors import EncoderSpec, Sparse
from .build import build_index
from .filtering import selected_rows
from .inverted_writer import InvertedWriter, read_vectors
from .manifest import Manifest, Plan
from .of_encoder import OfEncoder
from .texts import TextStore

logger = logging.getLogger("cribble")

#: Seismic's file in `whole/`; it adds the ending itself.
_STEM = "lists"
_FILE = f"{_STEM}.index.seismic"

#: Components are 16-bit numbers up to here; a larger vocabulary needs its other classes.
_SMALL_TERMS = 1 << 16

#: Its builds' options and what Seismic's own defaults are.
DEFAULTS: dict[str, Any] = {
    "n_postings": 3500,
    "centroid_fraction": 0.1,
    "min_cluster_size": 2,
    "summary_energy": 0.4,
    "max_fraction": 1.5,
    "doc_cut": 15,
}


def _seismic() -> Any:
    return require("seismic", "the engine seismic")


@contextmanager
def _without_output() -> Iterator[None]:
    """Seismic reports on standard output, where `--json` has one object and nothing else: to nowhere with it."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


@dataclass
class SeismicWriter(InvertedWriter):
    """Writes what `InvertedWriter` writes into shards, and Seismic's lists over all of them. Holds all vectors then."""

    options: dict[str, Any] = field(default_factory=dict)
    libraries: ClassVar = (*InvertedWriter.libraries, "pyseismic-lsr")

    def finish(self, folder: Path, shards: list[Path]) -> dict[str, int]:
        seismic = _seismic()
        large = self.terms > _SMALL_TERMS
        dataset = (seismic.SeismicDatasetLV if large else seismic.SeismicDataset)()
        first, postings = 0, 0
        for shard in shards:
            vectors = read_vectors(shard, self.terms)
            ids = [str(row) for row in range(first, first + len(vectors))]
            dataset.add_documents_by_id(ids, vectors.ids.astype(np.int64), vectors.weights, vectors.indptr)
            first, postings = first + len(vectors), postings + len(vectors.ids)
        kind = seismic.SeismicIndexLV if large else seismic.SeismicIndex
        with _without_output():
            kind.build_from_dataset(dataset, **self.options).save(str(folder / _STEM))
        return {"postings": postings}


@register("seismic")
class SeismicIndex(OfEncoder):
    """An approximate index of one bag of weighted terms per document (Bruch et al., SIGIR 2024).

    Seismic finds the documents by weights of 16 bits; they are scored again by the stored ones, so that scores are sums
    in float64 over common terms and equal ones order by document id descending. Under a filter the documents that are
    left are all scored. Lists are built with random choices that can't be seeded: two builds may find different documents.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        seismic = _seismic()
        self.path, self.manifest = path, manifest
        self.texts = TextStore(path, manifest)
        self.terms = manifest.encoder.dim if manifest.encoder else 0
        self.score_kind = "dot"
        kind = seismic.SeismicIndexLV if self.terms > _SMALL_TERMS else seismic.SeismicIndex
        self._lists = kind.load(str(manifest.whole_folder(path) / _FILE))
        self._string = seismic.get_seismic_string()
        self._shards = [
            tuple(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("indptr", "terms", "weights"))
            for folder in manifest.shard_folders(path)
        ]
        self._starts = np.concatenate([[0], np.cumsum(manifest.shards)]).astype(np.int64)

    @classmethod
    def build(
        cls,
        path: str | Path,
        documents: Iterable[Document],
        encode: Callable[[list[Document]], Sparse],
        *,
        spec: EncoderSpec,
        corpus: str,
        total: int | None = None,
        shard_documents: int = 4096,
        truncated: Callable[[], int] | None = None,
        overwrite: bool = False,
        **options: Any,
    ) -> Self:
        """As `InvertedIndex.build`; `options` are Seismic's (`DEFAULTS`). Its lists are made in memory, with all vectors."""
        _seismic()  # before the first document is encoded
        for name in options:
            if name not in DEFAULTS:
                raise UsageError(f"seismic index has no option {name!r}: known are {', '.join(DEFAULTS)}")
        if spec.dim < 1:
            raise InputError(f"seismic index: the encoder spec of {spec.model!r} has no vocabulary")
        chosen = DEFAULTS | options
        writer = SeismicWriter(encode, spec.dim, "float32", truncated, options=chosen)
        plan = Plan("seismic", corpus, shard_documents, chosen, spec)
        manifest = build_index(path, documents, writer, plan, total=total, overwrite=overwrite)
        if empty := manifest.counts["empty_vectors"]:
            logger.warning("%s: %d documents have no terms: no query finds them", path, empty)
        return cls.open(path, verify=False)

    def search(
        self,
        queries: Sparse,
        k: int,
        *,
        allow: Collection[str] | None = None,
        deny: Collection[str] | None = None,
        where: str | None = None,
        query_cut: int = 10,
        heap_factor: float = 0.8,
    ) -> list[Ranking]:
        """Per query up to `k` documents: ids (m,) str objects and scores (m,) float64, best first.

        The `query_cut` largest terms of a query choose the lists; a cluster of documents is looked at if its summary
        promises more than `heap_factor` of the k-th score so far: 0 looks at all, 1 and more at few.
        """
        for name, value, least in (("k", k, 1), ("query_cut", query_cut, 1), ("heap_factor", heap_factor, 0)):
            if not value >= least:
                raise UsageError(f"{name} is {value}, expected at least {least}")
        if queries.terms != self.terms:
            raise InputError(
                f"{self.path}: queries have a vocabulary of {queries.terms:,} terms, the index {self.terms:,}: use its encoder"
            )
        mask = selected_rows(self.texts, allow=allow, deny=deny, where=where)
        if mask is not None:
            rows = [np.flatnonzero(mask)] * len(queries)
        else:
            rows = self._proposed(queries, min(k, len(self)), query_cut, heap_factor)
        return [self._ranked(queries, i, rows[i], k) for i in range(len(queries))]

    def _proposed(self, queries: Sparse, k: int, query_cut: int, heap_factor: float) -> list[np.ndarray]:
        """Rows that Seismic finds for each query."""
        asked = [i for i in range(len(queries)) if queries.indptr[i] < queries.indptr[i + 1]]
        found: list[np.ndarray] = [np.zeros(0, np.int64)] * len(queries)
        if not asked:
            return found
        terms = [np.array([str(term) for term in queries.row(i)[0]], dtype=self._string) for i in asked]
        weights = [queries.row(i)[1] for i in asked]
        names = np.array([str(i) for i in asked], dtype=self._string)
        for hits in self._lists.batch_search(
            queries_ids=names,
            query_components=terms,
            query_values=weights,
            k=k,
            query_cut=query_cut,
            heap_factor=heap_factor,
            num_threads=1,
        ):
            if hits:
                found[int(hits[0][0])] = np.array([int(row) for _, _, row in hits], np.int64)
        return found

    def _ranked(self, queries: Sparse, i: int, rows: np.ndarray, k: int) -> Ranking:
        """The best `k` of `rows` by their stored vectors, those that share a term."""
        query = np.zeros(self.terms)
        terms, weights = queries.row(i)
        query[terms] = weights
        scores = self._scores(query, np.sort(rows))
        rows, scores = np.sort(rows)[scores > 0], scores[scores > 0]
        ids = self.texts.ids_at(rows)
        order = order_descending(self.texts.ids.take(rows), np.unique(-scores, return_inverse=True)[1])[:k]
        return Ranking(ids[order], scores[order])

    def _scores(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Products (m,) float64 of `query` (terms,) with the stored vectors of `rows` (m,), ascending."""
        parts = []
        for number, (indptr, terms, weights) in enumerate(self._shards):
            first, last = np.searchsorted(rows, self._starts[number : number + 2])
            own = rows[first:last] - self._starts[number]
            starts, sizes = indptr[own], indptr[own + 1] - indptr[own]
            places = np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
            owners = np.repeat(np.arange(len(own)), sizes)
            parts.append(np.bincount(owners, query[terms[places]] * weights[places], minlength=len(own)))
        return np.concatenate(parts)
