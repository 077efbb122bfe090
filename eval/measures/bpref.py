"""Binary preference: judged non-relevant documents above relevant ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined, divide, place
from ..measure import Measure


@register("Bpref")
@dataclass(frozen=True, repr=False)
class BinaryPreference(Measure):
    """Binary preference: how seldom judged non-relevant documents stand above relevant ones (Buckley & Voorhees 2004).

    With R relevant and N judged non-relevant documents, each relevant one found adds 1 - min(n, R) / min(N, R), n being
    the non-relevant ones above it, or 1 where n = 0; the sum is divided by R (trec_eval's bpref). Documents without
    judgement, or with a negative label, do not count. `rel` is the lowest label that counts as relevant.
    """

    takes_cutoff = "none"
    rel: int = 1

    def values(self, joined: Joined) -> np.ndarray:
        relevant = joined.num_relevant(self.rel)
        not_relevant = joined.num_relevant(0) - relevant
        rows = joined.condensed
        hit = rows.label >= self.rel
        query = rows.query[hit]
        above = rows.rank[hit] - place(query)
        limit = np.minimum(not_relevant, relevant)[query]
        lost = divide(np.minimum(above, relevant[query]), limit)
        return divide(joined.total(query, 1.0 - lost), relevant)
