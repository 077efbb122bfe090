"""What every reranker shares: the candidates to a depth with their texts, and a run in which all others stand beneath."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError
from ..records import Document, Query, Run, TextSource
from ..stage import Context, Reranker

_log = logging.getLogger("cribble")


@dataclass(frozen=True)
class Candidates:
    """The documents that one query's reranking looks at: those of its best `depth` that have a text, best first."""

    query: Query
    documents: list[Document]


class TextReranker(Reranker):
    """A reranker of the best `depth` candidates of each query by their texts; the others keep their order beneath.

    A subclass implements `open` (load the model) and `score`. Documents without a text are not dropped: they stand in
    their given order with those below the depth, and are counted in a warning and in the run's provenance.
    """

    depth: int

    def open(self) -> None:
        """Load what the stage needs, so that a wrong option or path fails before any work."""
        raise NotImplementedError

    def score(self, candidates: Sequence[Candidates]) -> list[np.ndarray]:
        """Scores (n,) of each query's documents, higher is better."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """What the provenance says of the model: no bare numbers, as a pipeline adds those of its batches up."""
        return {}

    def counts(self) -> dict[str, int]:
        """What the last batch cost and what was odd in it; a pipeline adds the numbers of its batches up."""
        return {}

    @property
    def truncated(self) -> int:
        """Texts cut at the model's maximum length so far."""
        return 0

    def check_depth(self) -> None:
        if not isinstance(self.depth, int) or isinstance(self.depth, bool) or self.depth < 1:
            raise UsageError(f"{self.label}: depth is {self.depth!r}, expected a whole number of documents >= 1")

    def transform(self, queries: list[Query], run: Run | None, context: Context) -> Run:
        if run is not None and not queries:
            self.open()
        return super().transform(queries, run, context)

    def rerank(self, queries: list[Query], run: Run, texts: TextSource) -> Run:
        before = self.truncated
        candidates, lacking = with_texts(queries, run.top(self.depth), texts)
        scored, without_text = sum(len(c.documents) for c in candidates), len(lacking)
        self._warn(lacking)
        scores = self.score(candidates)
        rankings = [_ranking(run, c, s) for c, s in zip(candidates, scores, strict=True)]
        counts = {"reranked": scored, "without_text": without_text, "truncated": self.truncated - before}
        provenance = {**run.provenance, **counts, **self.counts(), self.label: self.facts()}
        return Run.from_rankings(rankings, name=self.label, score_kind=self.score_kind, provenance=provenance)

    def _warn(self, without_text: list[str]) -> None:
        """Say which documents lack a text: the first time, and then when ten times as many do."""
        before, warned_at = self.__dict__.get("_without_text", (0, 0))
        total = before + len(without_text)
        if without_text and total >= 10 * warned_at:
            _log.warning(
                "%s: %d candidates so far have no text (%r is one); they stay in their order beneath the reranked ones",
                self.label, total, without_text[0],
            )  # fmt: skip
            warned_at = total
        self.__dict__["_without_text"] = (total, warned_at)


def with_texts(queries: list[Query], head: Run, texts: TextSource) -> tuple[list[Candidates], list[str]]:
    """The candidates of each query that have a text, and the ids of those (once per query) that have none."""
    ids = head.doc_ids.to_pylist()
    found = texts.get_many(set(ids)) if ids else {}
    found = {doc_id: document for doc_id, document in found.items() if document.full_text.strip()}
    candidates = [Candidates(query, [found[i] for i in head.ids(query.id) if i in found]) for query in queries]
    return candidates, [doc_id for doc_id in ids if doc_id not in found]


def _ranking(run: Run, candidates: Candidates, scores: np.ndarray) -> tuple[str, list[str], np.ndarray]:
    query_id = candidates.query.id
    ids = [document.id for document in candidates.documents]
    placed = set(ids)
    rest = [doc_id for doc_id in run.ids(query_id) if doc_id not in placed]
    return query_id, ids + rest, place_beneath(np.asarray(scores, np.float64), len(rest))


def place_beneath(scores: np.ndarray, rest: int) -> np.ndarray:
    """`scores` (n,) followed by `rest` scores below all of them, strictly falling: (n + rest,) float64.

    The steps are so wide that float32, in which trec_eval compares, keeps all of them apart.
    """
    lowest = float(scores.min()) if len(scores) else 0.0
    # float32 has 24 bits: steps of 2**-22 of the largest magnitude stay distinct after rounding.
    step = 2.0 ** max(0, np.ceil(np.log2(abs(lowest) + rest + 1)) - 22) if np.isfinite(lowest) else 1.0
    return np.concatenate([scores, lowest - step * np.arange(1, rest + 1)])


def distinct(candidates: Sequence[Candidates]) -> Mapping[str, Document]:
    """Every document once, in the order of first occurrence: candidates of different queries repeat."""
    return {document.id: document for c in candidates for document in c.documents}
