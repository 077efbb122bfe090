"""What the feedback retrievers share: search by the query's vector, learn a better vector from what was found, search again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UsageError
from ..records import Query, Run
from ..stage import Context, Retriever, Stage

if TYPE_CHECKING:
    from ..vectors import Dense


@dataclass(frozen=True)
class Found:
    """What the first search found for one query, best first: `vectors` (n, d) float64 as the index stores them, `ids`
    their documents, `scores` (n,) float64 by the query's vector `query` (d,) float64.
    """

    query: np.ndarray
    ids: list[str]
    scores: np.ndarray
    vectors: np.ndarray


class Feedback(Retriever):
    """A dense retriever whose query vectors are changed by what a first search with them found.

    `of` may itself be a feedback retriever: its learned vectors are then where this one starts. Documents that a query
    must not return are not learned from either.
    """

    of: Stage

    def improve(self, queries: list[Query], first: Run, found: list[Found], context: Context) -> Improved:
        """The new vectors (n, d) from the first search, whose run is `first`; and what to count in the provenance."""
        raise NotImplementedError

    @property
    def first_depth(self) -> int:
        """Documents that the first search gives."""
        raise NotImplementedError

    def check_of(self) -> None:
        """Refuse what has no query vectors."""
        if not isinstance(self.of, Feedback) and not hasattr(self.of, "search_vectors"):
            name = self.of.label if isinstance(self.of, Stage) else repr(self.of)
            raise UsageError(
                f"{self.registered_name} changes the query vectors of a dense retriever, and {name} has none: "
                "give it of: {use: dense}"
            )

    @property
    def label(self) -> str:
        return f"{self.registered_name}({', '.join(child.label for child in self.children())})"

    @property
    def dense(self) -> Any:
        """The dense retriever beneath."""
        return self.of.dense if isinstance(self.of, Feedback) else self.of

    @property
    def _limit(self) -> int:
        """The least `k` of this and of what it is around."""
        return min(self.k, self.of._limit if isinstance(self.of, Feedback) else self.dense.k)

    def children(self) -> Sequence[Stage]:
        return (self.of,)

    def retrieve(self, queries: list[Query], k: int) -> Run:
        return self.retrieve_in(queries, k, Context(self.texts()))

    def retrieve_in(self, queries: list[Query], k: int, context: Context) -> Run:
        if not queries:
            return self.of.transform([], None, context).renamed(self.label)
        learned = self.learned(queries, context)
        run: Run = self.dense.search_vectors(queries, learned.vectors, self._limit + k - self.k)
        run = run.drop(context.exclude).top(self._limit)
        facts = run.facts(name=self.label, provenance={**run.provenance, **learned.provenance})
        return Run(run.query_ids, run.offsets, run.doc_ids, run.scores, **facts)

    def learned(self, queries: list[Query], context: Context) -> Improved:
        """The queries' vectors after feedback."""
        from ..vectors import Dense

        if isinstance(self.of, Feedback):
            start = self.of.learned(queries, context)
        else:
            start = Improved(self.dense.query_vectors(queries), {})
        extra = max((len(context.exclude.get(query.id, ())) for query in queries), default=0)
        first: Run = self.dense.search_vectors(queries, start.vectors, self.first_depth + extra)
        first = first.drop(context.exclude).top(self.first_depth)
        done = self.improve(queries, first, self._found(queries, first, start.vectors), context)
        values = np.asarray(done.vectors.values, np.float32)
        return Improved(Dense(values), {**start.provenance, **done.provenance})

    def _found(self, queries: list[Query], first: Run, vectors: Dense) -> list[Found]:
        index = self.dense.opened
        stored = index.vectors(index.texts.rows_of(first.doc_ids)).astype(np.float64)
        values = vectors.values.astype(np.float64)
        if index.score_kind == "cosine":  # as the search compares them; the stored ones have unit length
            lengths = np.linalg.norm(values, axis=1, keepdims=True)
            values /= np.where(lengths == 0, 1.0, lengths)
        found = []
        for query, vector in zip(queries, values, strict=True):
            rows = first.rows(query.id)
            found.append(Found(vector, first.ids(query.id), first.scores[rows], stored[rows]))
        return found


@dataclass(frozen=True)
class Improved:
    """New query vectors, and what is to be said of how they were made: counts, and the reranker's provenance."""

    vectors: Dense
    provenance: dict[str, Any]
