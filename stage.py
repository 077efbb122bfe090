"""A stage maps queries (and candidates) to a run; stages combine with `>>`, `%`, `+`, `*` and `|` into pipelines.

    bm25 >> maxsim          retrieve, then rerank
    bm25 % 100 >> maxsim    rerank the best 100 only, and return no others
    rrf(bm25, dense)        fuse by reciprocal rank
    0.7 * a + 0.3 * b       weighted sum; refused when score kinds differ, unless `a.normalised("min-max")`
    a | b                   candidates of a, then those that only b found

Building a stage is free: nothing is loaded before the first call or `check()`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .errors import InputError, UsageError
from .explanation import Explanation, PipelineExplanation, Trace
from .fusion import NORMALISATIONS, fuse, normalise
from .queries import as_queries
from .records import Document, Query, Run, TextSource


@dataclass(frozen=True)
class Context:
    """What a pipeline's stages share: the texts of documents, the documents that a query must not return, and the texts
    that retrievers search with instead of a query's own."""

    texts: TextSource | None = None
    exclude: Mapping[str, frozenset[str]] = field(default_factory=dict)
    search_texts: Mapping[str, str] = field(default_factory=dict)

    def searched(self, queries: list[Query]) -> list[Query]:
        """The queries as retrievers see them."""
        if not self.search_texts:
            return queries
        return [Query(query.id, self.search_texts.get(query.id, query.text)) for query in queries]


class Hit(NamedTuple):
    """One answer of `search`: rank from 1, the document (its text is empty where no text store is at hand)."""

    rank: int
    score: float
    document: Document


class Stage:
    """Base of everything that makes a run. A subclass is a dataclass whose fields are its options."""

    registered_name: ClassVar[str] = ""
    #: Kind of the scores that this stage gives (`records.SCORE_KINDS`); "" where it depends on the artifact.
    score_kind: str = ""

    def transform(self, queries: list[Query], run: Run | None, context: Context) -> Run:
        """The stage's work. `run` holds candidates, or None at a pipeline's start."""
        raise NotImplementedError

    def begin(self, queries: list[Query]) -> None:
        """Hears all the queries of a pipeline's run once, before `transform` gets them in batches."""

    # ---- using it ---------------------------------------------------------------------------------------------------

    def __call__(
        self,
        queries: Any,
        run: Run | None = None,
        *,
        texts: TextSource | None = None,
        exclude: Mapping[str, frozenset[str]] | None = None,
    ) -> Run:
        """Run the stage. `queries` is a dataset (its texts and exclusions are used), a list of `Query`, a mapping of id
        to text, or a list of texts (ids 1, 2, …)."""
        rewritten: Mapping[str, str] = {}
        if hasattr(queries, "queries"):
            texts = texts or self.texts() or (queries if queries.has_documents else None)
            exclude = exclude if exclude is not None else queries.exclusions()
            rewritten = getattr(queries, "search_texts", {})
            queries = queries.queries
        context = Context(texts or self.texts(), exclude or {}, rewritten)
        return self.transform(as_queries(queries), run, context)

    def search(self, text: str, k: int = 10) -> list[Hit]:
        """The best `k` documents for one query, with their texts where the pipeline's indexes hold them."""
        ranking = self([Query("query", text)]).top(k)["query"]
        store = self.texts()
        documents = store.get_many(ranking.ids.tolist()) if store else {}
        return [
            Hit(i, float(score), documents.get(doc_id, Document(doc_id, "")))
            for i, (doc_id, score) in enumerate(zip(ranking.ids.tolist(), ranking.scores, strict=True), 1)
        ]

    def explain(self, text: str, doc_id: str, *, texts: TextSource | None = None) -> PipelineExplanation:
        """Why the document `doc_id` is where it is for the query `text`: where it stood after each stage, and for the stages
        that score by late interaction what each query token matched in it. `texts` is where its text is, the pipeline's
        indexes by default; a document that is not there raises `InputError`, an empty query `UsageError`."""
        if not text.strip():
            raise UsageError("the query to explain is empty")
        context = Context(texts or self.texts())
        document = None if context.texts is None else context.texts.get_many([doc_id]).get(doc_id)
        if document is None:
            where = "no texts are at hand: pass texts=" if context.texts is None else "no document has this id"
            raise InputError(f"{self.label}: document {doc_id!r} can't be explained, {where}")
        traces: list[Trace] = []
        self.traced(Query("query", text), doc_id, None, context, traces)
        matches = tuple(stage.explain_match(text, document) for stage in self.walk() if stage.explains)
        return PipelineExplanation(text, document, tuple(traces), matches)

    @property
    def explains(self) -> bool:
        """Whether this stage itself has `explain_match`."""
        return type(self).explain_match is not Stage.explain_match

    def explain_match(self, query: str, document: Document) -> Explanation:
        """What each token of `query` gives to the score of `document`. A stage whose score is such a sum implements it."""
        raise UsageError(
            f"{self.label} has no token vectors whose matches could be shown: late interaction (late, colberter, maxsim) has"
        )

    def traced(self, query: Query, doc_id: str, run: Run | None, context: Context, traces: list[Trace]) -> Run:
        """`transform` for one query; where the document stood after this stage and those beneath is added to `traces`."""
        found = self._traced(query, doc_id, run, context, traces)
        ids = found.ids(query.id) if query.id in found else []
        rank = ids.index(doc_id) if doc_id in ids else None
        score = None if rank is None else float(found[query.id].scores[rank])
        traces.append(Trace(self.label, None if rank is None else rank + 1, score, len(ids)))
        return found

    def _traced(self, query: Query, doc_id: str, run: Run | None, context: Context, traces: list[Trace]) -> Run:
        return self.transform([query], run, context)

    def check(self) -> Run:
        """Run on zero queries: opens indexes and models, so that a wrong path or option fails at once."""
        return self([])

    # ---- identity ---------------------------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        """Short name for tables."""
        return self.registered_name or type(self).__name__.lower()

    def children(self) -> Sequence[Stage]:
        return ()

    def walk(self) -> Iterator[Stage]:
        """This stage and all beneath it."""
        yield self
        for child in self.children():
            yield from child.walk()

    def artifacts(self) -> dict[str, str]:
        """Hashes of what the result depends on beside the options: an index's manifest, a model's revision."""
        return {}

    def key(self) -> str:
        """Stable hash (16 hex digits) of class, options and artifacts: equal keys give equal runs."""
        content = {"stage": type(self).__name__, "options": self.options(), "artifacts": self.artifacts()}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def options(self) -> dict[str, Any]:
        """The stage's options as JSON-able values; a stage among them stands for its key."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.init} if is_dataclass(self) else {}

    def texts(self) -> TextSource | None:
        """The first text store found among the stage's indexes."""
        return next((store for child in self.children() if (store := child.texts()) is not None), None)

    # ---- algebra ----------------------------------------------------------------------------------------------------

    def __rshift__(self, other: Stage) -> Stage:
        return Then(self, _stage(other, ">>"))

    def __mod__(self, k: int) -> Stage:
        return Cut(self, k)

    def __or__(self, other: Stage) -> Stage:
        return Union(self, _stage(other, "|"))

    def __add__(self, other: Stage) -> Stage:
        left = self.parts if isinstance(self, WeightedSum) else (_scaled(self),)
        right = other.parts if isinstance(other, WeightedSum) else (_scaled(_stage(other, "+")),)
        return WeightedSum(left + right)

    def __mul__(self, weight: float) -> Stage:
        return Scaled(self, weight)

    __rmul__ = __mul__

    def normalised(self, method: str) -> Stage:
        """This stage with its scores normalised within each query: one of `fusion.NORMALISATIONS`."""
        return Normalised(self, method)


def _stage(value: object, operator: str) -> Stage:
    if not isinstance(value, Stage):
        raise UsageError(f"{operator} joins stages, got {value!r} of type {type(value).__name__}")
    return value


def _plain(value: Any) -> Any:
    """An option as a JSON-able value; a stage stands for its key."""
    if isinstance(value, Stage):
        return value.key()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


class Retriever(Stage):
    """queries → candidates. A subclass has a field `k` and implements `retrieve`."""

    k: int

    def retrieve(self, queries: list[Query], k: int) -> Run:
        """The best `k` documents of each query; every query is in the run, perhaps with none."""
        raise NotImplementedError

    def retrieve_in(self, queries: list[Query], k: int, context: Context) -> Run:
        """`retrieve`, for a retriever that needs the pipeline's texts or exclusions."""
        return self.retrieve(queries, k)

    def transform(self, queries: list[Query], run: Run | None, context: Context) -> Run:
        if run is not None:
            raise UsageError(f"{self.label} retrieves from the whole index and takes no candidates: put it first")
        if self.k < 1:
            raise UsageError(f"{self.label}: k is {self.k}, expected at least 1")
        # Excluded documents are dropped before the cut, so that a query still gets its k.
        extra = max((len(context.exclude.get(query.id, ())) for query in queries), default=0)
        found = self.retrieve_in(context.searched(queries), self.k + extra, context)
        return found.drop(context.exclude).top(self.k) if context.exclude else found.top(self.k)


class Reranker(Stage):
    """queries + candidates + texts → a better order. A subclass has a field `depth` and implements `rerank`."""

    def rerank(self, queries: list[Query], run: Run, texts: TextSource) -> Run:
        raise NotImplementedError

    def transform(self, queries: list[Query], run: Run | None, context: Context) -> Run:
        if run is None:
            raise UsageError(f"{self.label} reorders candidates: put a retriever before it (bm25 >> {self.label})")
        if context.texts is None:
            if queries:
                raise InputError(f"{self.label} needs document texts: pass texts=, a dataset or an index that has them")
            return Run.from_rankings([], name=self.label, score_kind=self.score_kind)
        return self.rerank(queries, run.select([query.id for query in queries]), context.texts)


# ---- the nodes of the algebra ---------------------------------------------------------------------------------------


@dataclass
class Then(Stage):
    """`first >> second`: what the first returns are the candidates of the second."""

    first: Stage
    second: Stage

    def __post_init__(self) -> None:
        if isinstance(_head(self.second), Retriever):
            raise UsageError(f"{_head(self.second).label} is a retriever and takes no candidates: it can't follow >>")

    @property
    def label(self) -> str:
        return f"{self.first.label} >> {self.second.label}"

    @property
    def score_kind(self) -> str:  # type: ignore[override]
        return self.second.score_kind

    def children(self) -> Sequence[Stage]:
        return (self.first, self.second)

    def transform(self, queries: list[Query], run: Run | None, context: Context) -> Run:
        return self.second.transform(queries, self.first.transform(queries, run, context), context)

    def traced(self, query: Query, doc_id: str, run: Run | None, context: Context, traces: list[Trace]) -> Run:
        between = self.first.traced(query, doc_id, run, context, traces)
        return self.second.traced(query, doc_id, between, context, traces)


def _head(stage: Stage) -> Stage:
    """The stage that gets the candidates first."""
    while True:
        if isinstance(stage, Then):
            stage = stage.first
        elif isinstance(stage, Cut | Scaled | Normalised):
            stage = stage.inner
        else:
            return stage


class Wrapper(Stage):
    """A stage around one other, whose run it changes by `apply`."""

    inner: Stage

    def apply(self, run: Run) -> Run:
        raise NotImplementedError

    def transform(self, queries: list[Query], run: Run | None, context: Context) -> Run:
        return self.apply(self.inner.transform(queries, run, context))

    def _traced(self, query: Query, doc_id: str, run: Run | None, context: Context, traces: list[Trace]) -> Run:
        return self.apply(self.inner.traced(query, doc_id, run, context, traces))

    @property
    def label(self) -> str:
        return self.inner.label

    @property
    def score_kind(self) -> str:  # type: ignore[override]
        return self.inner.score_kind

    def children(self) -> Sequence[Stage]:
        return (self.inner,)


@dataclass
class Cut(Wrapper):
    """`stage % k`: the best k of each query."""

    inner: Stage
    k: int

    def __post_init__(self) -> None:
        if not isinstance(self.k, int) or isinstance(self.k, bool) or self.k < 1:
            raise UsageError(f"{self.inner.label} % {self.k!r}: expected a whole number of documents >= 1")

    @property
    def label(self) -> str:
        return f"{self.inner.label} % {self.k}"

    def apply(self, run: Run) -> Run:
        return run.top(self.k)

    def transform(self, queries: list[Query], run: Run | None, context: Context) -> Run:
        inner = self.inner
        if isinstance(inner, Retriever) and is_dataclass(inner):  # ask the index for no more than is kept
            inner = replace(inner, k=min(self.k, inner.k))
        return self.apply(inner.transform(queries, run, context))


@dataclass
class Scaled(Wrapper):
    """`weight * stage`: scores times a number > 0."""

    inner: Stage
    weight: float

    def __post_init__(self) -> None:
        if not isinstance(self.weight, int | float) or not np.isfinite(self.weight) or self.weight <= 0:
            raise UsageError(f"{self.weight!r} * {self.inner.label}: expected a finite weight > 0")

    def apply(self, run: Run) -> Run:
        return Run(run.query_ids, run.offsets, run.doc_ids, self.weight * run.scores, **run.facts())


@dataclass
class Normalised(Wrapper):
    """`stage.normalised(method)`: scores mapped within each query."""

    inner: Stage
    method: str
    score_kind: str = field(default="normalised", init=False)

    def __post_init__(self) -> None:
        if self.method not in NORMALISATIONS:
            raise UsageError(f"normalisation {self.method!r} is unknown: known are {', '.join(NORMALISATIONS)}")

    def apply(self, run: Run) -> Run:
        return normalise(run, self.method)


def _scaled(stage: Stage) -> tuple[Stage, float]:
    return (stage.inner, stage.weight) if isinstance(stage, Scaled) else (stage, 1.0)


class Fusion(Stage):
    """Runs of its children → one run, by `combine`."""

    def combine(self, runs: Sequence[Run]) -> Run:
        raise NotImplementedError

    def transform(self, queries: list[Query], run: Run | None, context: Context) -> Run:
        return self.combine([stage.transform(queries, run, context) for stage in self.children()])

    def _traced(self, query: Query, doc_id: str, run: Run | None, context: Context, traces: list[Trace]) -> Run:
        return self.combine([stage.traced(query, doc_id, run, context, traces) for stage in self.children()])


@dataclass
class WeightedSum(Fusion):
    """`0.7 * a + 0.3 * b`: sum of weighted scores; a document that one part lacks counts 0 there."""

    parts: tuple[tuple[Stage, float], ...]
    score_kind: str = field(default="fused", init=False)

    def __post_init__(self) -> None:
        kinds = sorted({stage.score_kind for stage, _ in self.parts if stage.score_kind})
        if len(kinds) > 1:
            raise UsageError(
                f"{self.label}: score kinds {' and '.join(kinds)} differ: normalise each part, "
                f"a.normalised('min-max') + b.normalised('min-max'), or use rrf(a, b)"
            )

    @property
    def label(self) -> str:
        return " + ".join(f"{weight:g} * {stage.label}" for stage, weight in self.parts)

    def children(self) -> Sequence[Stage]:
        return tuple(stage for stage, _ in self.parts)

    def combine(self, runs: Sequence[Run]) -> Run:
        return fuse(runs, "wsum", weights=[weight for _, weight in self.parts], name=self.label)


@dataclass
class Fuse(Fusion):
    """Fusion of stages by a method's name; see `fusion.fuse`."""

    stages: tuple[Stage, ...]
    method: str = "rrf"
    parameters: dict[str, Any] = field(default_factory=dict)
    score_kind: str = field(default="fused", init=False)

    @property
    def label(self) -> str:
        return f"{self.method}({', '.join(stage.label for stage in self.stages)})"

    def children(self) -> Sequence[Stage]:
        return self.stages

    def combine(self, runs: Sequence[Run]) -> Run:
        return fuse(runs, self.method, name=self.label, **self.parameters)


def rrf(*stages: Stage, k: int = 60, weights: Sequence[float] | None = None) -> Stage:
    """Reciprocal rank fusion of stages: sum of weight / (k + rank)."""
    if len(stages) < 2:
        raise UsageError(f"rrf fuses at least two stages, got {len(stages)}")
    return Fuse(tuple(_stage(stage, "rrf") for stage in stages), "rrf", {"k": k, "weights": weights})


@dataclass
class Union(Fusion):
    """`a | b`: the candidates of a in their order, then those that only b found; scores are ranks."""

    first: Stage
    second: Stage
    score_kind: str = field(default="rank", init=False)

    @property
    def label(self) -> str:
        return f"{self.first.label} | {self.second.label}"

    def children(self) -> Sequence[Stage]:
        return (self.first, self.second)

    def combine(self, runs: Sequence[Run]) -> Run:
        a, b = runs
        rankings = []
        for query_id in dict.fromkeys([*a, *b]):
            ids = [doc_id for run in (a, b) if query_id in run for doc_id in run.ids(query_id)]
            ids = list(dict.fromkeys(ids))
            rankings.append((query_id, ids, np.arange(len(ids), 0, -1, dtype=np.float64)))
        return Run.from_rankings(rankings, name=self.label, score_kind="rank")
