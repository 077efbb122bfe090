"""Two levels: small codes in memory propose, whole vectors on the disk decide.

After BiDR (Xiao et al., WWW 2022, arXiv 2201.05409), with codes learnt from the vectors as they are. The final score is
the inner product plus `pq_weight` times the code's, as in the authors' post-verification (its default 0.3, their
`sparse_weight`); 0 is pure verification. Unlike theirs, scores and ids stay side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ..records import Ranking
from ..registry import register
from ..vectors import Dense
from .ann import AnnIndex
from .ann_rules import Kind

CANDIDATES = 1000

PQ_WEIGHT = 0.3


@register("two-level")
class TwoLevel(AnnIndex):
    """Product-quantised codes in memory propose, whole vectors on the disk decide (BiDR)."""

    kind: ClassVar[Kind] = Kind("{opq}PQ{m}x{bits}np", ("m", "bits", "opq"), ("candidates", "pq_weight"))

    @classmethod
    def scores_are(cls, similarity: str, **parameters: Any) -> str:
        """A cosine plus a weighted one is the inner product with a sum of vectors: `dot`."""
        return "dot" if similarity == "cosine" and _weight(parameters) else similarity

    def _found(
        self, values: np.ndarray, k: int, mask: np.ndarray | None, available: int, parameters: Mapping[str, Any]
    ) -> list[Ranking]:
        wanted = min(available, max(parameters.get("candidates") or CANDIDATES, k + k // 10 + 16))
        weight = _weight(parameters)
        found: list[Ranking] = []
        step = self._step(wanted)
        for start in range(0, len(values), step):
            batch = values[start : start + step]
            scores, rows = self.proposer.propose(batch, wanted, mask)
            found += self._verified(batch, rows, k, np.float32(weight) * scores if weight else None)
        return found

    def _few(self, queries: Dense, k: int, mask: np.ndarray, parameters: Mapping[str, Any]) -> list[Ranking]:
        """The candidates are the best by their vectors alone; their codes' scores are added."""
        weight = _weight(parameters)
        if not weight:
            return self._exact(queries, k, mask)
        wanted = max(parameters.get("candidates") or CANDIDATES, k)
        found = []
        for query, (ids, _) in zip(self._prepared(queries), self._exact(queries, wanted, mask), strict=True):
            rows = self.texts.rows_of(ids)
            codes = self.proposer.scores(query, rows)
            found += self._verified(query[None], rows[None], k, np.float32(weight) * codes[None])
        return found


def _weight(parameters: Mapping[str, Any]) -> float:
    weight = parameters.get("pq_weight")
    return PQ_WEIGHT if weight is None else float(weight)
