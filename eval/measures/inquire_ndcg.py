"""INQUIRE's nDCG, the mean over all orders of equal scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined, divide
from ..measure import Measure
from .inquire_ap import check_pool, most_relevant, tie_groups


@register("InquireNDCG")
@dataclass(frozen=True, repr=False)
class InquireNDCG(Measure):
    """INQUIRE's nDCG@k (Vendrow et al. 2024): scikit-learn's nDCG of the best k with the missed relevant documents put
    beneath. Labels count as relevant or not; documents of equal score share the mean of their places' discounts.

    `pool` says which relevant documents there are: 'judged', all, or 'list', those in the list. `rel` is the lowest
    relevant label. INQUIRE's MRR is RR where no scores are equal; equal ones it leaves to an unstable sort.
    """

    takes_cutoff = "required"
    pool: str = "judged"
    rel: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pool("InquireNDCG", self.pool)

    def values(self, joined: Joined) -> np.ndarray:
        groups = tie_groups(joined, self.rel, self.cutoff)
        most = most_relevant(joined, groups, self.rel, self.cutoff, self.pool).astype(np.int64)
        longest = int(max(groups.end.max(initial=0), most.max(initial=0)))
        discounts = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, longest + 2)))])
        share = (discounts[groups.end] - discounts[groups.start - 1]) / (groups.end - groups.start + 1)
        return divide(joined.total(groups.query, groups.hits * share), discounts[most])
