"""Feedback from a reranker: the query's vector learns the order that the reranker gives its candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import UsageError
from ..records import Query, Run
from ..registry import register
from ..stage import Context, Retriever, Stage
from ..vectors import Dense
from .feedback import Feedback, Found, Improved
from .query_learning import DEFAULTS, LOSSES, Learning, learned_vector

#: Kinds of scores that say no more than an order.
_ORDERS = ("rank", "votes")

_DEPTH = 100


@register("reranker-feedback")
@dataclass
class RerankerFeedback(Feedback):
    """Learns the query's vector from a reranker, and searches again (FIRST's relevance feedback, arXiv 2406.15657).

    `of` is the dense retriever (or another feedback around one), `reranker` a reranker or a pipeline of such. It gets
    the best `depth` documents (by default as many as it reranks); `steps` of Adam at `learning_rate` then change the
    vector under `loss`: kl, to the distribution of the reranker's scores (100 steps at 0.005), or ranknet, to its
    order (20 at 0.001). By default rerankers that give no more than an order get ranknet, others kl. The best `k`
    documents for the new vector are found, no more than `of` gives by itself, with the scores of the index; put the
    reranker behind to rank them by it.
    Chained as the authors do: `of` a feedback by a cross-encoder, `reranker` an LLM.
    """

    of: Stage
    reranker: Stage
    k: int = 1000
    depth: int | None = None
    loss: str | None = None
    steps: int | None = None
    learning_rate: float | None = None
    score_kind: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.check_of()
        self._check_reranker()
        if self.loss is not None and self.loss not in LOSSES:
            raise UsageError(f"reranker-feedback: loss is {self.loss!r}, expected {' or '.join(LOSSES)}")
        if self.loss == "kl" and self.reranker.score_kind in _ORDERS:
            raise UsageError(
                f"reranker-feedback: {self.reranker.label} gives an order and no scores, so there is no distribution for "
                "loss=kl: use loss=ranknet"
            )
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"reranker-feedback: steps is {self.steps}, expected at least 1")
        if self.learning_rate is not None and not (np.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError(f"reranker-feedback: learning_rate is {self.learning_rate}, expected a number > 0")

    def _check_reranker(self) -> None:
        if not isinstance(self.reranker, Stage) or any(isinstance(part, Retriever) for part in self.reranker.walk()):
            name = self.reranker.label if isinstance(self.reranker, Stage) else repr(self.reranker)
            raise UsageError(f"reranker-feedback learns from a reranker, and {name} is none: reranker: {{use: maxsim}}")
        if self.depth is not None and self.depth < 2:
            raise UsageError(f"reranker-feedback: depth is {self.depth}, expected at least 2 documents to put in order")
        reranks = self._reranks
        if self.depth is not None and reranks is not None and self.depth > reranks:
            raise UsageError(
                f"reranker-feedback: depth is {self.depth}, but {self.reranker.label} reranks the best {reranks} only: "
                "set its depth as well"
            )

    @property
    def _reranks(self) -> int | None:
        """How deep the reranker looks; None where it does not say."""
        depths = [depth for part in self.reranker.walk() if isinstance(depth := getattr(part, "depth", None), int)]
        return max(depths, default=None)

    @property
    def first_depth(self) -> int:
        return self.depth or self._reranks or _DEPTH

    def children(self) -> Sequence[Stage]:
        return (self.of, self.reranker)

    @property
    def learning(self) -> Learning:
        """What the options mean for this reranker."""
        loss = self.loss or ("ranknet" if self.reranker.score_kind in _ORDERS else "kl")
        steps, rate = DEFAULTS[loss]
        return Learning(loss, self.steps or steps, self.learning_rate or rate)

    def retrieve_in(self, queries: list[Query], k: int, context: Context) -> Run:
        run = super().retrieve_in(queries, k, context)
        if not queries:  # a check: the reranker opens as well
            self.reranker.transform([], Run.from_rankings([]), context)
        return run

    def improve(self, queries: list[Query], first: Run, found: list[Found], context: Context) -> Improved:
        reranked = self.reranker.transform(queries, first, context)
        values = np.stack([one.query for one in found])
        unchanged = 0
        for row, (query, one) in enumerate(zip(queries, found, strict=True)):
            learned = self._learned(one, reranked, query.id)
            if learned is None:
                unchanged += 1
            else:
                values[row] = learned
        counts = {"feedback_documents": first.num_rows, "queries_without_feedback": unchanged}
        return Improved(Dense(values), {**reranked.provenance, **counts})

    def _learned(self, found: Found, reranked: Run, query_id: str) -> np.ndarray | None:
        scores = dict(zip(reranked.ids(query_id), reranked.scores[reranked.rows(query_id)].tolist(), strict=True))
        kept = [i for i, doc_id in enumerate(found.ids) if doc_id in scores]
        targets = np.array([scores[found.ids[i]] for i in kept])
        if not len(kept):
            return None
        # An order's scores have no scale; the authors give its places the scores of the first search.
        spread = float(np.ptp(found.scores[kept] if self.reranker.score_kind in _ORDERS else targets))
        return learned_vector(
            found.query, found.vectors[kept], targets, spread, self.dense.opened.score_kind, self.learning
        )
