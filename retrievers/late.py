"""One vector per token: an encoder of token vectors and an index of them, scored by MaxSim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import InputError, UsageError, suggest
from ..explanation import Explanation
from ..index import muvera_options, plaid_options, plaid_parameters
from ..index.manifest import read_manifest
from ..index.opening import find_kind
from ..models.multivector_options import TOKEN_ENCODING, make_token_encoder, token_encoder_of
from ..records import Document, Query, Run
from ..registry import register
from ..stage import Retriever
from .filtered import Ids
from .indexed import Indexed
from .own_scores import own_score
from .recorded import build_encoded, require_folder

if TYPE_CHECKING:
    from ..corpora.dataset import Dataset
    from ..models.multivector_options import TokenEncoder
    from ..vectors import MultiVector

#: Kinds of index: the options of building each that others lack, and what a search takes besides filters.
KINDS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "multivector-exact": ({"storage": str}, ()),
    "muvera": ({"storage": str, **muvera_options.OPTIONS}, ("candidates", "nprobe", "ef")),
    "plaid": (plaid_options.OPTIONS, plaid_parameters.PARAMETERS),
}


@register("late")
@dataclass
class LateRetriever(Indexed, Retriever):
    """Late interaction (ColBERT): the sum over the query's tokens of their best match among a document's tokens.

    `index` is a folder made by `LateRetriever.build` or `cribble index`. `model` is the encoder; by default the one that
    the index records, and another is refused. A checkpoint that was trained for late interaction (Stanford's, PyLate's,
    sentence-transformers' formats) gives the vectors that it was trained for, any other encoder its token states: without
    a model those of the embedded all-MiniLM-L6-v2. `device` is auto, cpu or cuda. The best `k` documents are found.

    Of a `muvera` index the `candidates` that its encodings propose are scored exactly (2 · k, at least 256); `nprobe` and
    `ef` are those of the structure that searches the encodings.

    A `plaid` index is searched by `mode` plaid: documents of the `ncells` best centroids of each query token, the best
    `ndocs` by their centroids that score `threshold` or more; warp: `nprobe` centroids a query token, and an estimate by
    `t_prime` of what is missing; or exhaustive. An index of another kind refuses what is not its own.
    """

    index: str | Path
    k: int = 1000
    model: str | None = None
    device: str = "auto"
    allow: Ids = None
    deny: Ids = None
    where: str | None = None
    candidates: int | None = None
    nprobe: int | None = None
    ef: int | None = None
    mode: str | None = None
    ncells: int | None = None
    threshold: float | None = None
    ndocs: int | None = None
    t_prime: int | None = None
    score_kind: str = field(default="maxsim", init=False)
    index_kinds: ClassVar[tuple[str, ...]] = tuple(KINDS)
    build_options: ClassVar[Mapping[str, Any]] = {
        "kind": str,
        **TOKEN_ENCODING,
        "similarity": str | None,
        "mean": bool | None,
        "pool_factor": float,
        "pool": str | None,
        **{name: kind for own, _ in KINDS.values() for name, kind in own.items()},
        "shard_documents": int,
    }
    shared_options: ClassVar[tuple[str, ...]] = ("model", "device")

    @classmethod
    def encoder_of(cls, options: dict[str, Any]) -> TokenEncoder:
        """The encoder that the options of a build name, which are taken out of them."""
        names = (*cls.shared_options, *TOKEN_ENCODING)
        encoding = {name: value for name in names if (value := options.pop(name, None)) is not None}
        return make_token_encoder(encoding.pop("model", None), **encoding)

    @classmethod
    def build_index(cls, dataset: Dataset, path: str | Path, *, overwrite: bool, options: dict[str, Any]) -> None:
        kind = options.pop("kind", "multivector-exact")
        if kind not in KINDS:
            raise UsageError(f"late index: kind {kind!r} is unknown: {suggest(kind, KINDS)}")
        for name in options:
            if any(name in own for own, _ in KINDS.values()) and name not in KINDS[kind][0]:
                raise UsageError(f"{kind} index has no option {name!r}: leave it out")
        encoder = cls.encoder_of(options)
        given = {name: value for name, value in options.items() if value is not None}
        build_encoded(find_kind(kind), dataset, path, encoder, given, overwrite=overwrite)

    def open_index(self) -> Any:
        kind = read_manifest(self.index).kind
        if kind not in KINDS:
            raise InputError(
                f"{self.index}: an index of kind {kind!r}, expected one of token vectors: name another folder"
            )
        for name in self.parameters:
            if name not in KINDS[kind][1]:
                raise UsageError(f"late: {name} has no effect: {self.index} is an index of kind {kind}")
        if kind == "plaid":  # on the CPU, wherever queries are encoded
            plaid_parameters.checked_parameters(self.mode, {n: v for n, v in self.parameters.items() if n != "mode"})
            return find_kind(kind).open(self.index)
        return find_kind(kind).open(self.index, device=self.device)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of an approximate search that are given."""
        names = dict.fromkeys(name for _, names in KINDS.values() for name in names)
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @cached_property
    def encoder(self) -> TokenEncoder:
        """The encoder that the index records, which encodes queries and adds documents."""
        spec = self.opened.manifest.encoder
        if self.model is None:
            require_folder(self.index, spec)
        return token_encoder_of(spec, self.model, device=self.device)

    def query_vectors(self, queries: list[Query]) -> MultiVector:
        """The token vectors of the queries; raises `InputError` where the index is of another encoder."""
        self.opened.refuse_other_encoder(self.encoder.spec)
        return self.encoder.encode_queries([query.text for query in queries])

    def search_vectors(self, queries: list[Query], vectors: MultiVector, k: int) -> Run:
        """The best `k` documents for each query by its token vectors, whoever made them."""
        found = self.opened.search(vectors, k, **self.filters, **self.parameters)
        rankings = [(query.id, ids, scores) for query, (ids, scores) in zip(queries, found, strict=True)]
        return Run.from_rankings(rankings, name=self.label, score_kind=self.score_kind)

    def explain_match(self, query: str, document: Document) -> Explanation:
        """What each token of `query` matched in `document`, whose vectors are made anew: the index may keep them pooled or
        compressed, which the explanation says, with the index's own score of the document beside."""
        from ..models.late_explanation import explain_tokens

        options = self.opened.manifest.options
        return explain_tokens(
            self.encoder,
            query,
            document,
            stage=self.label,
            similarity=options.get("similarity", "cosine"),
            mean=bool(options.get("mean", False)),
            stage_score=own_score(self, query, document.id, self.parameters),
            notes=_losses(self.opened.manifest.kind, options, self.parameters.get("mode")),
        )

    def retrieve(self, queries: list[Query], k: int) -> Run:
        self.check_filters()
        if not queries:
            self.opened.refuse_other_encoder(self.encoder.spec)
            return Run.from_rankings([], name=self.label, score_kind=self.score_kind)
        return self.search_vectors(queries, self.query_vectors(queries), k)


def _losses(kind: str, options: Mapping[str, Any], mode: str | None) -> list[str]:
    """What the index keeps of a document's token vectors, where that is not all, and what its search does not look at."""
    kept = []
    if (factor := options.get("pool_factor", 1.0)) > 1:
        kept.append(f"one vector for about {factor:g} tokens")
    if "bits" in options:
        kept.append(f"{options['bits']} bits a dimension")
    elif (storage := options.get("storage", "float32")) != "float32":
        kept.append(f"{storage} numbers")
    notes = (
        ["the stage's score (warp) estimates matches with tokens that it does not look at"] if mode == "warp" else []
    )
    if not kept:
        return notes
    return [
        *notes,
        f"the {kind} index keeps {' of '.join(reversed(kept))}; the matches are of the token vectors before that",
    ]
