"""Up to k documents, possibly none: calibrated scores and one threshold for all queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError
from ..index.exact import unit_length
from ..records import Query, Run
from ..registry import register
from ..stage import Context, Retriever, Stage
from .cosine_map import CosineMap, digest


@register("cosine-adapter")
@dataclass
class CosineAdapter(Retriever):
    """Maps a dense retriever's cosines to probabilities and cuts below a threshold (Cosine Adapter, arXiv 2408.04887).

    `of` is the dense retriever, of cosines; `adapter` the folder that `cribble fit cosine-adapter` wrote for its encoder
    (any other is refused). Documents with a probability below `threshold` are left out (by default the fitted one), so
    a query gives `k` documents at the most, no more than `of` gives by itself, and none where nothing is relevant. The
    order of those that stay is never changed.
    """

    of: Stage
    adapter: str | Path
    k: int = 1000
    threshold: float | None = None
    score_kind: str = field(default="prob", init=False)

    def __post_init__(self) -> None:
        if not hasattr(self.of, "search_vectors"):
            name = self.of.label if isinstance(self.of, Stage) else repr(self.of)
            raise UsageError(
                f"cosine-adapter maps the cosines of a dense retriever, and {name} is none: of: {{use: dense}}"
            )
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UsageError(f"cosine-adapter: threshold is {self.threshold}, expected a probability from 0 to 1")

    @property
    def label(self) -> str:
        return f"cosine-adapter({self.of.label})"

    def children(self) -> Sequence[Stage]:
        return (self.of,)

    def artifacts(self) -> dict[str, str]:
        return {"adapter": digest(self.adapter)}

    @cached_property
    def map(self) -> CosineMap:
        return CosineMap.load(self.adapter)

    def retrieve(self, queries: list[Query], k: int) -> Run:
        return self.retrieve_in(queries, k, Context())

    def retrieve_in(self, queries: list[Query], k: int, context: Context) -> Run:
        dense: Any = self.of
        dense.opened.refuse_other_encoder(self.map.encoder)
        if not queries:
            checked: Run = dense.transform([], None, Context())
            self._check_scores(checked)
            return Run.from_rankings([], **checked.facts(name=self.label, score_kind=self.score_kind))
        vectors = dense.query_vectors(queries)
        found: Run = dense.search_vectors(queries, vectors, min(k, dense.k + k - self.k))
        self._check_scores(found)
        found = found.drop(context.exclude).top(min(self.k, dense.k))
        parameters = self.map.parameters(unit_length(vectors.values)[0])
        threshold = self.map.threshold if self.threshold is None else self.threshold
        rankings = []
        for query, own in zip(queries, parameters, strict=True):
            ranking = found[query.id]
            probabilities = self.map.probabilities(own, ranking.scores)
            kept = int((probabilities >= threshold).sum())
            scores = keep_order(ranking.scores, probabilities)
            rankings.append((query.id, ranking.ids[:kept], scores[:kept]))
        cut = found.num_rows - sum(len(ids) for _, ids, _ in rankings)
        without = sum(not len(ids) for _, ids, _ in rankings)
        provenance = {**found.provenance, "filtered_out": cut, "queries_left_empty": without}
        return Run.from_rankings(rankings, name=self.label, score_kind=self.score_kind, provenance=provenance)

    def _check_scores(self, run: Run) -> None:
        if run.score_kind != "cosine":
            raise UsageError(
                f"cosine-adapter maps cosines, and {self.of.label} gives scores of the kind {run.score_kind}: build the index "
                "with similarity=cosine, and search a two-level one with pq_weight=0"
            )


def keep_order(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """`after` (n,) as float32 values that stand exactly as `before` (n,) does, which falls: where `before` falls `after`
    falls too, also at the ends where a probability rounds to 0 or 1, by the smallest steps; equal stays equal.
    """
    scores = np.asarray(after, np.float64).astype(np.float32)
    falls = np.diff(before) < 0
    if not len(scores) or (np.where(falls, np.diff(scores) < 0, np.diff(scores) == 0)).all():
        return scores.astype(np.float64)
    for i in range(1, len(scores)):
        lower = np.nextafter(scores[i - 1], np.float32(-1)) if falls[i - 1] else scores[i - 1]
        scores[i] = min(scores[i], lower) if falls[i - 1] else lower
    floor = np.float32(0)  # a probability is not negative: from the end upwards where the steps went below 0
    for i in range(len(scores) - 1, -1, -1):
        if scores[i] >= floor:
            break
        scores[i] = floor
        if i and falls[i - 1]:
            floor = np.nextafter(floor, np.float32(1))
    return scores.astype(np.float64)
