"""ColBERTer: an encoder of single vectors and bags of whole words, and an index that searches through either or both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import InputError, UsageError, suggest
from ..explanation import Explanation
from ..index.colberter_options import check_search
from ..index.manifest import read_manifest
from ..index.opening import find_kind
from ..models.colberter import SETTINGS, ColberterEncoder
from ..records import Document, Query, Run
from ..registry import register
from ..stage import Retriever
from .filtered import Ids
from .indexed import Indexed
from .own_scores import own_score
from .recorded import build_encoded, require_folder

if TYPE_CHECKING:
    from ..corpora.dataset import Dataset
    from ..vectors import BagVectors

KIND = "colberter"


@register("colberter")
@dataclass
class ColberterRetriever(Indexed, Retriever):
    """ColBERTer and Uni-ColBERTer: a learned mix of one vector a text and of vectors of its whole words.

    `index` is a folder made by `ColberterRetriever.build` or `cribble index`. `model` is the encoder, a ColBERTer checkpoint;
    by default the one that the index records, and another is refused. `backbone` is a folder or Hub name with the
    configuration and the tokenizer of its transformer, where the place that the checkpoint names is not to be had. `device`
    is auto, cpu or cuda. The best `k` documents are found.

    `mode` says what proposes documents: the single vectors (cls-bow), the bags of words (bow-cls) or both (hybrid), each
    the exact best `candidates` (2 · k, at least 1,000), which both parts then rank; `cls` and `bow` rank all by one part.
    """

    index: str | Path
    k: int = 1000
    model: str | None = None
    backbone: str | None = None
    device: str = "auto"
    allow: Ids = None
    deny: Ids = None
    where: str | None = None
    mode: str = "hybrid"
    candidates: int | None = None
    score_kind: str = field(default="dot", init=False)
    index_kinds: ClassVar[tuple[str, ...]] = (KIND,)
    build_options: ClassVar[Mapping[str, Any]] = {
        "kind": str,
        **{name: kind for name, kind in SETTINGS.items() if name != "backbone"},
        "dtype": str,
        "token_budget": int,
        "storage": str,
        "shard_documents": int,
    }
    shared_options: ClassVar[tuple[str, ...]] = ("model", "backbone", "device")

    @classmethod
    def build_index(cls, dataset: Dataset, path: str | Path, *, overwrite: bool, options: dict[str, Any]) -> None:
        kind = options.pop("kind", KIND)
        if kind != KIND:
            raise UsageError(f"colberter index: kind {kind!r} is unknown: {suggest(kind, [KIND])}")
        given = {name: value for name, value in options.items() if value is not None}
        model = given.pop("model", None)
        if model is None:
            raise UsageError(
                "colberter index: no model is named: name a ColBERTer checkpoint as model, such as "
                "sebastian-hofstaetter/colberter-128-32-msmarco"
            )
        names = (*SETTINGS, "dtype", "token_budget", "device")
        encoder = ColberterEncoder(model, **{name: given.pop(name) for name in names if name in given})
        build_encoded(find_kind(KIND), dataset, path, encoder, given, overwrite=overwrite)

    def open_index(self) -> Any:
        if (kind := read_manifest(self.index).kind) != KIND:
            raise InputError(f"{self.index}: an index of kind {kind!r}, expected {KIND}: name another folder")
        return find_kind(KIND).open(self.index)

    @cached_property
    def encoder(self) -> ColberterEncoder:
        """The encoder that the index records, which encodes queries and adds documents."""
        spec = self.opened.manifest.encoder
        if self.model is None:
            require_folder(self.index, spec)
        return ColberterEncoder.of_spec(spec, self.model, device=self.device, backbone=self.backbone)

    def query_vectors(self, queries: list[Query]) -> BagVectors:
        """The vectors of the queries; raises `InputError` where the index is of another encoder."""
        self.opened.refuse_other_encoder(self.encoder.spec)
        return self.encoder.encode_queries([query.text for query in queries])

    def search_vectors(self, queries: list[Query], vectors: BagVectors, k: int) -> Run:
        """The best `k` documents for each query by its vectors, whoever made them."""
        found = self.opened.search(vectors, k, **self.filters, mode=self.mode, candidates=self.candidates)
        rankings = [(query.id, ids, scores) for query, (ids, scores) in zip(queries, found, strict=True)]
        return Run.from_rankings(rankings, name=self.label, score_kind=self.score_kind)

    def explain_match(self, query: str, document: Document) -> Explanation:
        """What the single vectors give to the score of `document`, and each word of `query`, and which word that matched.

        The document's vectors are made anew; the index's own score of it, over vectors as they are stored, stands beside.
        """
        from ..models.colberter_explanation import explain_words

        return explain_words(
            self.encoder,
            query,
            document,
            mode=self.mode,
            stage=self.label,
            stage_score=own_score(self, query, document.id, {"mode": self.mode}),
        )

    def retrieve(self, queries: list[Query], k: int) -> Run:
        check_search(self.mode, self.candidates)
        self.check_filters()
        if not queries:
            self.opened.refuse_other_encoder(self.encoder.spec)
            return Run.from_rankings([], name=self.label, score_kind=self.score_kind)
        return self.search_vectors(queries, self.query_vectors(queries), k)
