from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..engine import Joined
from ..measure import Measure, register_measure


@register_measure("NumRet", "num_ret")
@dataclass(frozen=True, repr=False)
class NumRetrieved(Measure):
    """Documents retrieved; summed over queries (trec_eval's num_ret)."""

    takes_cutoff = "none"
    aggregate = "sum"

    def values(self, joined: Joined) -> np.ndarray:
        return joined.retrieved.astype(np.float64)


@register_measure("NumRel", "num_rel")
@dataclass(frozen=True, repr=False)
class NumRelevant(Measure):
    """Relevant documents that the judgements know; summed over queries (trec_eval's num_rel)."""

    takes_cutoff = "none"
    aggregate = "sum"
    rel: int = 1

    def values(self, joined: Joined) -> np.ndarray:
        return joined.num_relevant(self.rel).astype(np.float64)


@register_measure("NumRelRet", "num_rel_ret")
@dataclass(frozen=True, repr=False)
class NumRelevantRetrieved(Measure):
    """Relevant documents retrieved; summed over queries (trec_eval's num_rel_ret)."""

    takes_cutoff = "none"
    aggregate = "sum"
    rel: int = 1

    def values(self, joined: Joined) -> np.ndarray:
        return joined.count(joined.relevant(self.rel)[0]).astype(np.float64)
