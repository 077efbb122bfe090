"""INQUIRE's average precision, which reads equal scores as one threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import UsageError, suggest
from ...registry import register
from ..engine import Joined, divide, place
from ..measure import Measure

_POOLS = ("judged", "list")


@register("InquireAP")
@dataclass(frozen=True, repr=False)
class InquireAP(Measure):
    """INQUIRE's AP@k (Vendrow et al. 2024): scikit-learn's average precision of the best k, times the relevant documents
    found over min(R, k). Documents of equal score are one threshold: their order does not count.

    `pool` says what R counts: 'judged', all relevant documents (its full rank task), or 'list', those in the list (its
    rerank task of 100 candidates). A shorter list has its own length as k. `rel` is the lowest relevant label.
    """

    takes_cutoff = "required"
    pool: str = "judged"
    rel: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pool("InquireAP", self.pool)

    def values(self, joined: Joined) -> np.ndarray:
        groups = tie_groups(joined, self.rel, self.cutoff)
        hits_through = _through(groups.query, groups.hits)
        precision = hits_through / np.maximum(groups.end, 1)
        most = most_relevant(joined, groups, self.rel, self.cutoff, self.pool)
        return divide(joined.total(groups.query, groups.hits * precision), most)


@dataclass(frozen=True, eq=False)
class TieGroups:
    """Runs of equal scores in the best k of each query, best first: `query`, ranks `start` and `end`, relevant `hits` (g,)."""

    query: np.ndarray
    start: np.ndarray
    end: np.ndarray
    hits: np.ndarray


def check_pool(measure: str, pool: str) -> None:
    if pool not in _POOLS:
        raise UsageError(f"{measure}(pool={pool!r}): {suggest(str(pool), _POOLS)}")


def tie_groups(joined: Joined, rel: int, cutoff: int | None) -> TieGroups:
    """The groups of equal scores, in the precision that the evaluation compares scores in."""
    query, row = joined.listed(cutoff)
    with np.errstate(over="ignore"):
        score = joined.run.scores[row].astype(joined.ties)
    rank = place(query)
    hit = np.zeros(joined.run.num_rows + 1, bool)
    hit[joined.row[joined.label >= rel]] = True
    new = np.append(True, (query[1:] != query[:-1]) | (score[1:] != score[:-1]))[: len(query)]
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(query)) - 1 if len(first) else first
    hits = np.add.reduceat(hit[row].astype(np.int64), first) if len(first) else first
    return TieGroups(query[first], rank[first], rank[last], hits)


def most_relevant(joined: Joined, groups: TieGroups, rel: int, cutoff: int | None, pool: str) -> np.ndarray:
    """min(R, k) of each query (q,), with R as `pool` has it and k the length of the list."""
    found = joined.total(groups.query, groups.hits)
    relevant = joined.num_relevant(rel) if pool == "judged" else found
    return np.minimum(relevant, np.minimum(joined.retrieved, cutoff or 0))


def _through(query: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """Hits of a query's groups down to and with each (g,)."""
    total = np.cumsum(hits)
    first = np.flatnonzero(np.append(True, query[1:] != query[:-1])[: len(query)])
    before = (total - hits)[first]
    return total - np.repeat(before, np.diff(np.append(first, len(query))))
