"""A pipeline as a search model of mteb 2 (its SearchProtocol), so that `mteb.evaluate` runs whole pipelines.

mteb hands over a corpus (`index`), then queries (`search`), and scores what comes back by its own rules. An object with a
method `predict` would be taken for a cross-encoder, so this has none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..corpora.dataset import Dataset
from ..errors import UsageError, require
from ..records import Document, Query, Run
from ..stage import Context, Reranker, Stage

#: Languages, sizes and the like that only the maker of a model knows; mteb wants each named.
_UNKNOWN = (
    "loader",
    "release_date",
    "languages",
    "n_parameters",
    "memory_usage_mb",
    "max_tokens",
    "embed_dim",
    "license",
    "open_weights",
    "public_training_code",
    "public_training_data",
    "similarity_fn_name",
    "use_instructions",
    "training_datasets",
)


class MtebSearch:
    """mteb's SearchProtocol over a pipeline. `build` makes the pipeline for a corpus: it gets a dataset with documents only,
    as `lambda data: BM25.build(data, folder) >> MaxSim(depth=50)` takes it; a reranker alone works on tasks that bring candidates.

    `name` is `organisation/model`, as mteb names models. `facts` are fields of mteb's ModelMeta, such as languages or n_parameters.
    """

    def __init__(
        self,
        build: Callable[[Dataset], Stage],
        name: str,
        *,
        revision: str = "none",
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        if name.count("/") != 1 or not all(name.split("/")):
            raise UsageError(f"name {name!r}: mteb names models organisation/model, e.g. cribble/bm25")
        self._build, self._name, self._revision, self._facts = build, name, revision, dict(facts or {})
        self._dataset: Dataset | None = None
        self._pipeline: Stage | None = None

    def index(self, corpus: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, **_: Any) -> None:
        """Take in a corpus (rows with id, text, perhaps title) and build the pipeline for it."""
        self._dataset = corpus_dataset(corpus, f"mteb:{task_metadata.name}/{hf_subset}/{hf_split}")
        self._pipeline = self._build(self._dataset)

    def search(
        self,
        queries: Any,
        *,
        top_k: int,
        top_ranked: Mapping[str, list[str]] | None = None,
        **_: Any,
    ) -> dict[str, dict[str, float]]:
        """The best `top_k` documents of each query with their scores; of `top_ranked` only, where that is given."""
        if self._pipeline is None or self._dataset is None:
            raise UsageError("search before index: mteb calls index first")
        asked = [Query(str(row["id"]), query_text(row)) for row in queries]
        if top_ranked is None:
            run = self._pipeline(asked, texts=self._pipeline.texts() or self._dataset)
        else:
            candidates = {str(q): [str(d) for d in ids] for q, ids in top_ranked.items()}
            run = rank_candidates(self._pipeline, self._dataset, asked, candidates)
        return run.top(top_k).to_dict()

    @property
    def mteb_model_meta(self) -> Any:
        """mteb's ModelMeta: the given name and facts; what is not given is said to be unknown."""
        return model_meta(self._name, self._revision, self._facts)


def model_meta(name: str, revision: str, facts: Mapping[str, Any] | None = None) -> Any:
    """mteb's ModelMeta with these facts and all else unknown."""
    require("mteb", "an mteb model")
    from mteb.models.model_meta import ModelMeta

    fields: dict[str, Any] = dict.fromkeys(_UNKNOWN) | {"framework": [], "name": name, "revision": revision}
    return ModelMeta(**(fields | dict(facts or {})))


def rank_candidates(
    pipeline: Stage, dataset: Dataset, queries: list[Query], candidates: Mapping[str, list[str]]
) -> Run:
    """Each query's own candidates by the pipeline: a reranker gets them as its run; a retriever searches with all other
    documents excluded, query by query, so that any pipeline honours the list.
    """
    if isinstance(pipeline, Reranker):
        listed = [(query.id, candidates.get(query.id, [])) for query in queries]
        rankings = [(query_id, ids, -np.arange(len(ids), dtype=np.float64)) for query_id, ids in listed]
        return pipeline(queries, Run.from_rankings(rankings, name="candidates", score_kind="rank"), texts=dataset)
    everything = frozenset(document.id for document in dataset.documents())
    texts = pipeline.texts() or dataset
    found = []
    for query in queries:
        others = everything.difference(candidates.get(query.id, ()))
        run = pipeline.transform([query], None, Context(texts, {query.id: others}))
        found.append((query.id, *run[query.id]))
    return Run.from_rankings(found, name=pipeline.label, score_kind=pipeline.score_kind)


def query_text(row: Mapping[str, Any]) -> str:
    """A query's text; with its instruction behind a space where the task has one, as mteb's own encoders read it."""
    text, instruction = row["text"], row.get("instruction")
    if not isinstance(text, str):  # a conversation, a list of turns
        text = "; ".join(turn["content"] if isinstance(turn, Mapping) else str(turn) for turn in text)
    return f"{text} {instruction}" if instruction else text


def corpus_dataset(corpus: Any, name: str) -> Dataset:
    """mteb's corpus as a dataset of documents. Its version is a hash of ids and texts, so that indexes are told apart."""

    def documents() -> Iterator[Document]:
        for row in corpus:
            text = row.get("text", row.get("body"))
            if not isinstance(text, str):
                raise UsageError(f"{name}: document {row.get('id')!r} has no text: only tasks of texts can be searched")
            yield Document(str(row["id"]), text, row.get("title") or "")

    digest = hashlib.sha256()
    for document in documents():
        digest.update("\0".join(document).encode("utf-8", "replace") + b"\1")
    return Dataset(name, [], open_documents=documents, num_documents=len(corpus), version=digest.hexdigest()[:16])
