"""One vector per text: an encoder and an index of its vectors, exact or by FAISS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import InputError, UsageError, suggest
from ..index.ann_rules import BUILD_OPTIONS
from ..index.manifest import read_manifest
from ..index.opening import find_kind
from ..models.encoders import ENCODING_OPTIONS, make_encoder
from ..records import Query, Run
from ..registry import register
from ..stage import Retriever
from .filtered import Ids
from .indexed import Indexed
from .recorded import build_encoded, recorded_encoder

if TYPE_CHECKING:
    from ..corpora.dataset import Dataset
    from ..models.encoder import Encoder
    from ..models.remote_encoder import RemoteEncoder
    from ..vectors import Dense


#: What a search takes besides filters, where the index's kind has it.
_SEARCH = ("nprobe", "ef", "verify", "candidates", "pq_weight")


@register("dense")
@dataclass
class DenseRetriever(Indexed, Retriever):
    """Nearest neighbours of the query's vector, exactly or by an approximate index.

    `index` is a folder made by `DenseRetriever.build` or `cribble index`. `model` is the encoder; by default the one
    that the index records. One whose model, revision, prompts, pooling, dimension, dtype or normalisation differs from
    the recorded one is refused. `device` is auto, cpu or cuda; a build takes several as well (`cuda:0,cuda:1` or
    `cuda:all`, a process each), of which searches use the first. The best `k` documents are found. `truncate_dim` looks at
    the first dimensions of the vectors in a flat index only (Matryoshka models), without building another.

    An approximate index is built as `kind` says (flat by default) and searched by rule where these are not given, each
    refused by a kind that has no such thing: `nprobe` inverted lists are scanned; HNSW keeps `ef` nodes; the stored
    vectors of `verify` candidates (true: 10 · k, at most 1,000) are scored exactly; of a two-level index
    `candidates` are verified, and `pq_weight` is what their codes' scores count beside the exact ones.
    """

    index: str | Path
    k: int = 1000
    model: str | None = None
    device: str = "auto"
    truncate_dim: int | None = None
    allow: Ids = None
    deny: Ids = None
    where: str | None = None
    nprobe: int | None = None
    ef: int | None = None
    verify: int | bool | None = None
    candidates: int | None = None
    pq_weight: float | None = None
    score_kind: str = field(default="", init=False)
    index_kinds: ClassVar[tuple[str, ...]] = (
        "flat",
        "ivf-flat",
        "hnsw",
        "pq",
        "ivf-pq",
        "opq-ivf-pq",
        "sq8",
        "sq4",
        "fp16",
        "bf16",
        "two-level",
        "factory",
    )
    build_options: ClassVar[Mapping[str, Any]] = {
        "kind": str,
        **ENCODING_OPTIONS,
        **BUILD_OPTIONS,
        "similarity": str | None,
        "storage": str,
        "codes": bool,
        "shard_documents": int,
    }
    shared_options: ClassVar[tuple[str, ...]] = ("model", "device")

    @classmethod
    def build_index(cls, dataset: Dataset, path: str | Path, *, overwrite: bool, options: dict[str, Any]) -> None:
        kind = options.pop("kind", "flat")
        if kind not in cls.index_kinds:
            raise UsageError(f"dense index: kind {kind!r} is unknown: {suggest(kind, cls.index_kinds)}")
        if kind == "flat" and (odd := [name for name in options if name in BUILD_OPTIONS]):
            raise UsageError(f"flat index has no option {odd[0]!r}: name an approximate kind")
        if kind != "flat" and "codes" in options:
            raise UsageError(f"{kind} index has no option 'codes': only a flat index's exact scan reads them")
        encoding = {name: options.pop(name) for name in (*cls.shared_options, *ENCODING_OPTIONS) if name in options}
        encoder = make_encoder(**encoding)
        build_encoded(find_kind(kind), dataset, path, encoder, options, overwrite=overwrite)

    def open_index(self) -> Any:
        kind = read_manifest(self.index).kind
        if kind not in self.index_kinds:
            raise InputError(f"{self.index}: an index of kind {kind!r}, expected one of vectors: name another folder")
        if kind == "flat" and self.parameters:
            raise UsageError(f"dense: {next(iter(self.parameters))} has no effect: {self.index} is searched exactly")
        index = find_kind(kind)
        if kind != "flat":
            index.check_parameters(self.parameters)
        return index.open(self.index, device=self._first_device, truncate_dim=self.truncate_dim)

    @property
    def _first_device(self) -> str:
        return "cuda:0" if self.device == "cuda:all" else self.device.partition(",")[0]

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of an approximate search that are given."""
        return {name: getattr(self, name) for name in _SEARCH if getattr(self, name) is not None}

    def _scores_are(self) -> str:
        index = self.opened
        kind: str = index.score_kind
        return index.scores_are(kind, **self.parameters) if index.manifest.kind != "flat" else kind

    @cached_property
    def encoder(self) -> Encoder | RemoteEncoder:
        """The encoder of the queries, with the prompts and lengths that the index records."""
        return recorded_encoder(self.index, self.opened.manifest.encoder, self.model, self._first_device)

    def query_vectors(self, queries: list[Query]) -> Dense:
        """The encoder's vectors (n, d) of the queries; raises `InputError` where the index is of another encoder."""
        self.opened.refuse_other_encoder(self.encoder.spec)
        return self.encoder.encode_queries([query.text for query in queries])

    def search_vectors(self, queries: list[Query], vectors: Dense, k: int) -> Run:
        """The best `k` documents for each query by its vector in `vectors`, whoever made it."""
        found = self.opened.search(vectors, k, **self.filters, **self.parameters)
        rankings = [(query.id, ids, scores) for query, (ids, scores) in zip(queries, found, strict=True)]
        return Run.from_rankings(rankings, name=self.label, score_kind=self._scores_are())

    def retrieve(self, queries: list[Query], k: int) -> Run:
        self.check_filters()
        if not queries:
            self.opened.refuse_other_encoder(self.encoder.spec)
            return Run.from_rankings([], name=self.label, score_kind=self._scores_are())
        return self.search_vectors(queries, self.query_vectors(queries), k)
