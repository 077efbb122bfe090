"""`Reranker(model).rank(query, documents)`: reranking a list of texts inside other people's programs.

The surface is the one that users of the package `rerankers` know: `rank`, `rank_async`, `top_k`, `get_score_by_docid`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, UsageError
from ..records import Document, Query, Run
from ..registry import make
from .candidates import TextReranker
from .cards import Card, find_card

#: Judge and strategy of a model card → the reranker of that name. A card with another pair is `llm`, which takes any; one
#: that names no strategy means the first of its judge.
_NAMED = {
    ("first", "sliding"): "first",
    ("generate", "sliding"): "rankgpt",
    ("generate", "single"): "fullrank",
    ("generate", "tournament"): "tourrank",
    ("prp", "allpair"): "prp-allpair",
    ("prp", "heapsort"): "prp-heapsort",
    ("prp", "bubble"): "prp-sliding",
    ("duot5", "allpair"): "duot5",
    ("setwise", "setwise-heapsort"): "setwise",
    ("rank-r1", "setwise-heapsort"): "rank-r1",
    ("yes-no", "pointwise"): "yes-no",
    ("monot5", "pointwise"): "monot5",
    ("rankt5", "pointwise"): "rankt5",
    ("rank1", "pointwise"): "rank1",
    ("query-likelihood", "pointwise"): "query-likelihood",
    ("icr", "single"): "icr",
}


class Reranker:
    """A reranker of texts by any model: a Hub name, a local folder, a server's model.

    `kind` names the reranker (`cribble list rerankers`); None takes what the model's card says, or a cross-encoder for a
    model without a card. `options` are the reranker's. The model is loaded by the first `rank`.
    """

    def __init__(self, model: str | Path | None = None, kind: str | None = None, **options: Any) -> None:
        name = str(model) if model is not None else None
        kind = kind or _kind(find_card(name, options.get("card")))
        self.stage: TextReranker = make("rerankers", kind, {"model": name} | options)

    def rank(
        self,
        query: str,
        docs: Any,
        doc_ids: Sequence[str | int] | None = None,
        metadata: Sequence[Mapping[str, Any]] | None = None,
    ) -> RankedResults:
        """Rank `docs` for `query`: a text, or a list of texts, `Document`s, or mappings with `text` (and `doc_id`, `title`).

        Ids are `doc_ids`, or the documents' own, or their positions. Equal texts keep their ids apart. Documents beyond
        the reranker's `depth` and those without any text keep their order beneath.
        """
        documents = _documents(docs, doc_ids, metadata)
        if not isinstance(query, str) or not query.strip():
            raise InputError(f"rank: the query is {query!r}, expected a text")
        # Positions stand for the documents: other people's ids may repeat or be of other types.
        ids = [str(i) for i in range(len(documents))]
        given = Run.from_dict({"query": {i: float(len(ids) - n) for n, i in enumerate(ids)}})
        texts = {i: Document(i, d.text, d.title) for i, d in zip(ids, documents, strict=True)}
        run = self.stage([Query("query", query)], given, texts=_Texts(texts))
        ranking = run["query"]
        results = [
            Result(documents[int(i)], float(score), rank)
            for rank, (i, score) in enumerate(zip(ranking.ids.tolist(), ranking.scores, strict=True), 1)
        ]
        positions = [int(i) for i in ranking.ids.tolist()]
        return RankedResults(results, query, run.score_kind != "rank", positions, dict(run.provenance))

    async def rank_async(self, query: str, docs: Any, **rest: Any) -> RankedResults:
        """`rank` in a thread of its own."""
        return await asyncio.to_thread(self.rank, query, docs, **rest)


@dataclass(frozen=True)
class RankedDocument:
    """A document as it was handed in: `doc_id` keeps its type, `metadata` travels along."""

    text: str
    doc_id: str | int
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """One ranked document; `rank` counts from 1. Of listwise rerankers `score` only tells the order."""

    document: RankedDocument
    score: float
    rank: int

    @property
    def doc_id(self) -> str | int:
        return self.document.doc_id

    @property
    def text(self) -> str:
        return self.document.text


@dataclass(frozen=True)
class RankedResults:
    """The ranked documents, best first. `has_scores` is False where scores are made from the order only; `positions`
    are the documents' places in the input, from 0; `provenance` holds the counts of the reranker."""

    results: list[Result]
    query: str
    has_scores: bool
    positions: list[int]
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)

    def __getitem__(self, place: int) -> Result:
        return self.results[place]

    def results_count(self) -> int:
        return len(self.results)

    def top_k(self, k: int) -> list[Result]:
        """The best `k`."""
        if k < 0:
            raise UsageError(f"top_k({k}): expected a number of documents >= 0")
        return self.results[:k]

    def get_result_by_docid(self, doc_id: str | int) -> Result:
        """The best result of this id; an id that was not handed in is an `InputError`."""
        for result in self.results:
            if result.doc_id == doc_id:
                return result
        raise InputError(f"no document with the id {doc_id!r} was ranked ({len(self.results)} were)")

    def get_score_by_docid(self, doc_id: str | int) -> float:
        return self.get_result_by_docid(doc_id).score

    def to_cohere(self, *, return_documents: bool = True) -> dict[str, Any]:
        """As Cohere's rerank API answers: `results` with `index` (place in the input) and `relevance_score`."""
        rows: list[dict[str, Any]] = []
        for position, result in zip(self.positions, self.results, strict=True):
            row: dict[str, Any] = {"index": position, "relevance_score": result.score}
            rows.append(row | ({"document": {"text": result.text}} if return_documents else {}))
        return {"results": rows}


class _Texts:
    def __init__(self, texts: Mapping[str, Document]) -> None:
        self.texts = texts

    def get_many(self, ids: Any) -> dict[str, Document]:
        return {i: self.texts[i] for i in ids if i in self.texts}


def _kind(card: Card) -> str:
    """The named reranker of a model card."""
    if not card.judge:
        return "cross-encoder"
    judge, strategy = str(card.judge.get("use")), card.strategy.get("use")
    if strategy is None:
        return next((name for (known, _), name in _NAMED.items() if known == judge), "llm")
    return _NAMED.get((judge, str(strategy)), "llm")


def _documents(
    docs: Any, doc_ids: Sequence[str | int] | None, metadata: Sequence[Mapping[str, Any]] | None
) -> list[RankedDocument]:
    single = isinstance(docs, str | Mapping | Document)
    if not single and not isinstance(docs, Iterable):
        raise InputError(f"rank: docs is {docs!r}, expected a text or several of them")
    items = [docs] if single else list(docs)
    for what, values in (("doc_ids", doc_ids), ("metadata", metadata)):
        if values is not None and len(values) != len(items):
            raise InputError(f"rank: {len(items)} documents and {len(values)} {what}: expected one for each")
    found = []
    for i, item in enumerate(items):
        text, own, title = _parts(item, i)
        doc_id = doc_ids[i] if doc_ids is not None else own
        found.append(RankedDocument(text, i if doc_id is None else doc_id, title, metadata[i] if metadata else {}))
    return found


def _parts(item: Any, i: int) -> tuple[str, Any, str]:
    """Text, own id or None, title of one document in any of the forms that `rank` takes."""
    if isinstance(item, str):
        return item, None, ""
    if isinstance(item, Mapping):
        text = item.get("text", item.get("content"))
        own, title = item.get("doc_id", item.get("id", item.get("_id"))), item.get("title") or ""
    else:
        text = getattr(item, "text", None)
        own, title = getattr(item, "doc_id", getattr(item, "id", None)), getattr(item, "title", "") or ""
    if not isinstance(text, str):
        raise InputError(f"rank: document {i} is {item!r:.80}, expected a text, a Document or a mapping with `text`")
    return text, own, str(title)
