"""Reciprocal rank of the first relevant document."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined
from ..measure import Measure


@register("RR")
@dataclass(frozen=True, repr=False)
class ReciprocalRank(Measure):
    """Reciprocal rank of the first relevant document; 0 where none is found (within the cutoff).

    Without a cutoff it is trec_eval's recip_rank; RR@10 is MS MARCO's measure, with trec_eval's tie rule here.
    `rel` is the lowest label that counts as relevant; `judged_only` drops documents without judgement first.
    """

    aliases = ("MRR", "recip_rank")
    rel: int = 1
    judged_only: bool = False

    def values(self, joined: Joined) -> np.ndarray:
        view = joined.condensed if self.judged_only else joined
        query, rank = view.relevant(self.rel, self.cutoff)
        values = np.zeros(len(view.query_ids))
        with_hit, first = np.unique(query, return_index=True)
        values[with_hit] = 1.0 / rank[first]
        return values
