"""Normalised discounted cumulative gain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import UsageError, suggest
from ...registry import register
from ..engine import Joined, divide, place
from ..measure import Measure

_GAINS = {"log2": lambda label: label.astype(np.float64), "exp-log2": lambda label: np.exp2(label) - 1.0}


@register("nDCG")
@dataclass(frozen=True, repr=False)
class NormalisedDCG(Measure):
    """Normalised discounted cumulative gain: gain / log2(rank + 1), over the ideal order of all judgements.

    `dcg` names the gain: 'log2' takes the label itself (Järvelin & Kekäläinen 2002; trec_eval's ndcg and ndcg_cut),
    'exp-log2' takes 2^label - 1 (Burges et al. 2005; gdeval). Labels below 1 gain nothing. A query without a relevant
    document has 0. `judged_only` drops documents without judgement first.
    """

    aliases = ("ndcg_cut",)
    dcg: str = "log2"
    judged_only: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dcg not in _GAINS:
            raise UsageError(f"nDCG(dcg={self.dcg!r}): {suggest(str(self.dcg), _GAINS)}")

    def values(self, joined: Joined) -> np.ndarray:
        view = joined.condensed if self.judged_only else joined
        found = self._dcg(joined, view.query, view.rank, view.label)
        order = np.lexsort((-joined.pool_label, joined.pool_query))
        query = joined.pool_query[order]
        return divide(found, self._dcg(joined, query, place(query), joined.pool_label[order]))

    def _dcg(self, joined: Joined, query: np.ndarray, rank: np.ndarray, label: np.ndarray) -> np.ndarray:
        keep = label > 0
        if self.cutoff is not None:
            keep &= rank <= self.cutoff
        return joined.total(query[keep], _GAINS[self.dcg](label[keep]) / np.log2(rank[keep] + 1.0))
