"""Fusion of any retrievers: reciprocal ranks, weighted sums, or ranx's methods by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError
from ..fusion import fuse
from ..records import Query, Run
from ..registry import register
from ..stage import Context, Fusion, Retriever, Stage


@register("hybrid")
@dataclass
class Hybrid(Fusion, Retriever):
    """The documents that several retrievers find, fused.

    `of` are the retrievers, each asked for its own `k`. `method` is `rrf` (with `rrf_k`, 60 by default), `wsum` or
    `sum` (with `norm`, needed when score kinds differ), or one of ranx's (`fusion.METHODS`) with `params`; `weights` go
    to rrf and wsum. The best `k` are kept.
    """

    of: Sequence[Stage]
    k: int = 1000
    method: str = "rrf"
    weights: Sequence[float] | None = None
    norm: str | None = None
    rrf_k: int | None = None
    params: dict[str, Any] | None = None
    score_kind: str = field(default="fused", init=False)

    def __post_init__(self) -> None:
        if len(self.of) < 2:
            raise UsageError(
                f"hybrid fuses at least two retrievers, got {len(self.of)}: of: [{{use: bm25}}, {{use: dense}}]"
            )
        self.of = tuple(self.of)

    @property
    def label(self) -> str:
        return f"{self.method}({', '.join(stage.label for stage in self.of)})"

    def children(self) -> Sequence[Stage]:
        return self.of

    def combine(self, runs: Sequence[Run]) -> Run:
        fused = fuse(
            runs,
            self.method,
            weights=self.weights,
            norm=self.norm,
            k=self.rrf_k,
            params=self.params,
            name=self.label,
        )
        return fused.top(self.k)

    def transform(self, queries: list[Query], run: Run | None, context: Context) -> Run:
        if self.k < 1:
            raise UsageError(f"{self.label}: k is {self.k}, expected at least 1")
        if run is not None:
            raise UsageError("hybrid retrieves from whole indexes and takes no candidates: put it first")
        return Fusion.transform(self, queries, None, context)
