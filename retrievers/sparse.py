"""One bag of weighted terms per text: a learned sparse encoder and an index of its terms."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import InputError, SetupError, UsageError, suggest
from ..index.manifest import read_manifest
from ..index.opening import find_kind
from ..models.sparse_files import largest_terms, read_query_vectors
from ..models.sparse_options import SPARSE_ENCODING, absolute, make_sparse_encoder, query_encoder, unrecorded
from ..records import Query, Run
from ..registry import register
from ..stage import Retriever
from ..vectors import Sparse
from .filtered import Ids
from .indexed import Indexed
from .recorded import build_encoded, require_folder

if TYPE_CHECKING:
    from ..corpora.dataset import Dataset
    from ..models.sparse_encoder import SparseEncoder

#: Engines by name: the kind of index that each is, and the options of its build that others lack.
ENGINES: dict[str, tuple[str, dict[str, Any]]] = {
    "inverted": ("inverted", {"storage": str}),
    "lucene": ("lucene-impact", {}),
    "seismic": (
        "seismic",
        {
            "n_postings": int,
            "centroid_fraction": float,
            "min_cluster_size": int,
            "summary_energy": float,
            "max_fraction": float,
            "doc_cut": int,
        },
    ),
}

#: What a search of each kind takes besides filters.
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "inverted": ("approx",),
    "lucene-impact": (),
    "seismic": ("query_cut", "heap_factor"),
}

#: Engines whose weights are whole numbers, and what makes them where neither options nor the model's card say.
_WHOLE = {"lucene": "naver"}


@register("sparse")
@dataclass
class SparseRetriever(Indexed, Retriever):
    """Sums of products of the terms that a query and a document share, by a learned sparse encoder (SPLADE and its kin).

    `index` is a folder made by `SparseRetriever.build` or `cribble index`. `model` is the encoder; by default the one that
    the index records, and another is refused. `query_model` encodes the queries instead, if its vocabulary is the
    documents' (a SPLADE-doc index with the queries of another SPLADE); `query_vectors` is a file of queries that were
    encoded elsewhere (see `models.sparse_files`). `query_terms` keeps so many of a query's largest weights. `device` is
    auto, cpu or cuda. The best `k` documents are found.

    The engine is chosen at the build: `inverted` (default, exact), `lucene` or `seismic`. Of an `inverted` index `approx`,
    from 0 (exact) to below 1, leaves out terms of a query that together make at most this share of a score. Of a
    `seismic` one `query_cut` (10) terms of a query choose lists, and blocks of documents are skipped unless `heap_factor`
    (.8) of their bound is above what was found. An engine that has no such thing refuses it.
    """

    index: str | Path
    k: int = 1000
    model: str | None = None
    query_model: str | None = None
    query_vectors: str | Path | None = None
    query_terms: int | None = None
    device: str = "auto"
    allow: Ids = None
    deny: Ids = None
    where: str | None = None
    approx: float | None = None
    query_cut: int | None = None
    heap_factor: float | None = None
    score_kind: str = field(default="dot", init=False)
    index_kinds: ClassVar[tuple[str, ...]] = tuple(kind for kind, _ in ENGINES.values())
    build_options: ClassVar[Mapping[str, Any]] = {
        "engine": str,
        **SPARSE_ENCODING,
        **{name: kind for _, own in ENGINES.values() for name, kind in own.items()},
        "shard_documents": int,
    }
    shared_options: ClassVar[tuple[str, ...]] = ("model", "device", "query_model", "query_terms")

    def __post_init__(self) -> None:
        if self.query_terms is not None and self.query_terms < 1:
            raise UsageError(f"sparse: query_terms is {self.query_terms}, expected at least 1")
        if self.query_vectors is not None and self.query_model is not None:
            raise UsageError("sparse: query_model has no effect with query_vectors: leave one of them out")

    @classmethod
    def encoder_of(cls, options: dict[str, Any], engine: str = "inverted") -> SparseEncoder:
        """The encoder that the options of a build name, which are taken out of them; of whole weights where `engine` has no
        others."""
        names = (*cls.shared_options, *SPARSE_ENCODING)
        encoding = {name: options.pop(name) for name in names if options.get(name) is not None}
        encoder = make_sparse_encoder(**encoding)
        if engine in _WHOLE and encoder.settings.quantise is None:
            rule = encoder.card.settings.quantise or _WHOLE[engine]
            encoder = make_sparse_encoder(**encoding | {"quantise": rule})
        return encoder

    @classmethod
    def build_index(cls, dataset: Dataset, path: str | Path, *, overwrite: bool, options: dict[str, Any]) -> None:
        engine = options.pop("engine", "inverted")
        if engine not in ENGINES:
            raise UsageError(f"sparse index: engine {engine!r} is unknown: {suggest(engine, ENGINES)}")
        kind, own = ENGINES[engine]
        for name in options:
            if any(name in others for _, others in ENGINES.values()) and name not in own:
                raise UsageError(f"sparse index: the engine {engine} has no option {name!r}: leave it out")
        index = find_kind(kind)
        encoder = cls.encoder_of(options, engine)
        given = {name: value for name, value in options.items() if value is not None}
        build_encoded(index, dataset, path, encoder, given, overwrite=overwrite)

    @classmethod
    def _refuse_another(cls, dataset: Dataset, path: Path, options: Mapping[str, Any]) -> None:
        """As for other retrievers; also for another engine, and for what is only recorded where it was set."""
        manifest = read_manifest(path)
        lines = []
        if (engine := options.get("engine")) is not None and ENGINES.get(engine, ("",))[0] != manifest.kind:
            lines.append(f"engine: {engine!r} asked for, an index of kind {manifest.kind} is there")
        if manifest.encoder is not None:
            lines += unrecorded(manifest.encoder, options)
        if lines:
            raise SetupError(
                f"{path}: another index is here already ({'; '.join(lines)}): choose another folder, or build with overwrite"
            )
        compared = {name: value for name, value in options.items() if value not in ("none", "card")}
        if compared.get("query_model"):
            compared["query_model"] = absolute(compared["query_model"])
        super()._refuse_another(dataset, path, compared)

    def open_index(self) -> Any:
        kind = read_manifest(self.index).kind
        if kind not in self.index_kinds:
            raise InputError(
                f"{self.index}: an index of kind {kind!r}, expected one of sparse vectors: name another folder"
            )
        for name in self.parameters:
            if name not in _PARAMETERS[kind]:
                raise UsageError(f"sparse: {name} has no effect: {self.index} is an index of kind {kind}")
        return find_kind(kind).open(self.index)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the engine's search that are given."""
        names = [name for names in _PARAMETERS.values() for name in names]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def encoder(self) -> SparseEncoder:
        """The encoder of documents that the index records, which adds to it."""
        from ..models.sparse_encoder import SparseEncoder

        return SparseEncoder.of_spec(self.opened.manifest.encoder, self._model(), device=self.device)

    @cached_property
    def query_encoder(self) -> SparseEncoder:
        """The encoder of the queries; raises `InputError` where the index is of another encoder or vocabulary."""
        return query_encoder(
            self.opened.manifest.encoder,
            self.opened.refuse_other_encoder,
            model=self.model or self._model(),
            query_model=self.query_model,
            query_terms=self.query_terms,
            device=self.device,
        )

    def _model(self) -> str | None:
        """The given model, or None for the recorded one, whose folder must then be there."""
        if self.model is None:
            require_folder(self.index, self.opened.manifest.encoder)
        return self.model

    def artifacts(self) -> dict[str, str]:
        """Also the SHA-256 of the file of query vectors."""
        file = self.query_vectors and Path(self.query_vectors)
        digest = {"query_vectors": hashlib.sha256(file.read_bytes()).hexdigest()} if file and file.is_file() else {}
        return super().artifacts() | digest

    def encode(self, queries: list[Query]) -> Sparse:
        """The terms of the queries, over the index's vocabulary."""
        terms = self.opened.manifest.encoder.dim
        if self.query_vectors is None:
            found = self.query_encoder.encode_queries([query.text for query in queries])
            return Sparse(found.indptr, found.ids, found.weights, terms)
        encoder = self.encoder
        self.opened.refuse_other_encoder(encoder.spec)
        found = read_query_vectors(self.query_vectors, queries, encoder.network.tokenizer.get_vocab(), terms)
        return largest_terms(found, self.query_terms) if self.query_terms is not None else found

    def search_vectors(self, queries: list[Query], vectors: Sparse, k: int) -> Run:
        """The best `k` documents for each query by its vector in `vectors`, whoever made it."""
        found = self.opened.search(vectors, k, **self.filters, **self.parameters)
        rankings = [(query.id, ids, scores) for query, (ids, scores) in zip(queries, found, strict=True)]
        return Run.from_rankings(rankings, name=self.label, score_kind=self.score_kind)

    def retrieve(self, queries: list[Query], k: int) -> Run:
        self.check_filters()
        vectors = self.encode(queries)
        if not queries:
            return Run.from_rankings([], name=self.label, score_kind=self.score_kind)
        return self.search_vectors(queries, vectors, k)
