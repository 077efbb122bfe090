"""Pseudo-relevance feedback on vectors: the query moves towards the documents that it finds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import UsageError
from ..records import Query, Run
from ..registry import register
from ..stage import Context, Stage
from ..vectors import Dense
from .feedback import Feedback, Found, Improved

METHODS = ("average", "rocchio")


@register("dense-prf")
@dataclass
class DensePRF(Feedback):
    """Vector pseudo-relevance feedback (Li et al., arXiv 2108.11044), as Pyserini's `--prf-method avg` and `rocchio`.

    `of` is the dense retriever (or another feedback around one). Its best `depth` documents count as relevant:
    `method` average takes the mean of the query's vector and theirs; rocchio takes `alpha` times the query's (0.9)
    plus `beta` times the documents' mean (0.1), minus `gamma` times (0.1) the mean of the last `negatives` of the
    `depth`, which then do not count as relevant. The paper's Rocchio is depth 5, alpha 0.4, beta 0.6. The best `k`
    documents for the new vector are found, no more than `of` gives by itself.
    """

    of: Stage
    k: int = 1000
    method: str = "average"
    depth: int = 3
    alpha: float | None = None
    beta: float | None = None
    gamma: float | None = None
    negatives: int = 0
    score_kind: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.check_of()
        if self.method not in METHODS:
            raise UsageError(f"dense-prf: method is {self.method!r}, expected {' or '.join(METHODS)}")
        if self.depth < 1:
            raise UsageError(f"dense-prf: depth is {self.depth}, expected at least 1 document")
        if not 0 <= self.negatives < self.depth:
            raise UsageError(
                f"dense-prf: negatives is {self.negatives}, expected 0 to {self.depth - 1}, below the depth"
            )
        for name in ("alpha", "beta", "gamma"):
            value = getattr(self, name)
            if value is not None and not np.isfinite(value):
                raise UsageError(f"dense-prf: {name} is {value}, expected a finite number")
        if self.method == "average":
            for name in ("alpha", "beta", "gamma", "negatives"):
                if getattr(self, name):
                    raise UsageError(f"dense-prf: {name} has no effect on method=average: use method=rocchio")
        elif self.gamma is not None and not self.negatives:
            raise UsageError("dense-prf: gamma weighs the negatives, and there are none: set negatives")

    @property
    def first_depth(self) -> int:
        return self.depth

    def improve(self, queries: list[Query], first: Run, found: list[Found], context: Context) -> Improved:
        values = np.stack([self._moved(one) for one in found])
        return Improved(Dense(values), {"feedback_documents": first.num_rows})

    def _moved(self, found: Found) -> np.ndarray:
        """The new vector (d,); the old one where nothing was found."""
        if not len(found.vectors):
            return found.query
        if self.method == "average":
            mean: np.ndarray = np.vstack([found.query, found.vectors]).mean(axis=0)
            return mean
        alpha, beta, gamma = (
            default if value is None else value
            for value, default in ((self.alpha, 0.9), (self.beta, 0.1), (self.gamma, 0.1))
        )
        positive = found.vectors[: self.depth - self.negatives]
        moved: np.ndarray = alpha * found.query + beta * positive.mean(axis=0)
        negative = found.vectors[self.depth - self.negatives :]
        return moved - gamma * negative.mean(axis=0) if len(negative) else moved
