"""Exact search of the inverted index: a query's lists are added up range by range, and ranges that can't matter are skipped.

Adding every posting of a range, in sums that stay in the first-level cache, beats skipping single documents where queries
have tens of terms: a posting costs 0.6 ns. What is skipped is a range, before it is begun or after its heaviest terms, when
no document in it can reach the k-th best so far (as block-max pruning does: Ding and Suel, SIGIR 2011; Mallia et al., SIGIR 2024).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, UsageError
from ..vectors import Sparse
from .lucene_lengths import LENGTHS
from .postings import Postings, frozen

#: Results that are held at a time.
_RESULTS = 1 << 20

#: Bits of a factor: 24 of the query's weight times 8 of the step.
_IMPACT_BITS = 32

#: w - w / (1 + x) in float32 is a multiple of 2^-26 times the power of two above w: where w / (1 + x) is below w / 4, and has
#: smaller bits, the difference is above w / 2, and is rounded to larger ones.
_COUNT_BITS = 26

#: The inverse of a norm is at most this: k1 = 0 makes norms 0.
_LARGEST_INVERSE = np.float32(1e30)


@dataclass(frozen=True)
class Bm25:
    """Lucene's BM25 over counts: `k1` at least 0, `b` from 0 to 1."""

    k1: float = 0.9
    b: float = 0.4

    def __post_init__(self) -> None:
        if not (self.k1 >= 0 and np.isfinite(self.k1)):
            raise UsageError(f"k1 is {self.k1}, expected a number of at least 0")
        if not 0 <= self.b <= 1:
            raise UsageError(f"b is {self.b}, expected a number from 0 to 1")

    def inverses(self, postings: Postings) -> np.ndarray:
        """1 / (k1 · (1 - b + b · length / average length)) for each length byte: (256,) float32, as Lucene computes it."""
        average = np.float32(postings.total_length / postings.filled if postings.filled else 1)
        k1, b, one = np.float32(self.k1), np.float32(self.b), np.float32(1)
        norms = k1 * ((one - b) + b * LENGTHS.astype(np.float32) / average)
        with np.errstate(divide="ignore"):
            inverses: np.ndarray = np.minimum(one / norms, _LARGEST_INVERSE)
        return inverses

    def factors(self, postings: Postings, terms: np.ndarray, boosts: np.ndarray) -> np.ndarray:
        """Boost times idf of each term (t,), float32 numbers as float64: idf = ln(1 + (N - df + .5) / (df + .5))."""
        frequencies = postings.frequencies[terms].astype(np.float64)
        idf = np.log(1 + (postings.filled - frequencies + 0.5) / (frequencies + 0.5)).astype(np.float32)
        return (boosts.astype(np.float32) * idf).astype(np.float64)


def search(
    postings: Postings,
    queries: Sparse,
    k: int,
    *,
    weighting: Bm25 | None = None,
    ranks: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    approx: float = 0.0,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Per query the best `k` rows: scores (m,) float64 and rows (m,) int32, best first; only rows that share a term.

    Without `weighting` a score is the sum over common terms, ascending, of query weight times stored weight, in float64.
    With `Bm25`, which counts need, it is the float64 sum of Lucene's float32 terms, rounded to float32; query weights are
    boosts. Equal scores go by `ranks` (documents,) int32 descending, by row without. `mask` (documents,) bool limits the rows.

    `approx` from 0 to below 1 leaves out the query's weakest terms: those whose largest possible scores are together at
    most this share of all terms'.
    """
    if k < 1:
        raise UsageError(f"k is {k}, expected at least 1")
    if not 0 <= approx < 1:
        raise UsageError(f"approx is {approx}, expected a number from 0 (exact) to below 1")
    if (postings.payload == "count") != (weighting is not None):
        raise UsageError(f"{postings.folder}: postings of {postings.payload}s, weighting is {weighting}")
    if queries.terms != postings.terms:
        raise InputError(
            f"{postings.folder}: queries have a vocabulary of {queries.terms:,} terms, the index {postings.terms:,}: use its encoder"
        )
    slots = postings.lists.slots[queries.ids]
    kept = slots != -1
    if weighting is None:
        factors, inverses = queries.weights.astype(np.float64) * postings.step, np.zeros(256, np.float32)
    else:
        factors, inverses = weighting.factors(postings, queries.ids, queries.weights), weighting.inverses(postings)
    bounds = factors if weighting else factors * postings.largest[queries.ids]
    if approx:
        kept &= _strong(bounds * kept, queries.indptr, approx)
    indptr = np.concatenate([[0], np.cumsum(kept)])[queries.indptr]
    slots, factors, bounds = slots[kept].astype(np.int64), factors[kept], bounds[kept]
    if postings.storage != "float32":
        order = _order(factors, bounds, indptr, _COUNT_BITS if weighting else _IMPACT_BITS)
        slots, factors = slots[order], factors[order]
    allowed = frozen(np.zeros(0, bool) if mask is None else np.ascontiguousarray(mask, bool))
    ranks = frozen(np.zeros(0, np.int32) if ranks is None else np.ascontiguousarray(ranks, np.int32))
    k = min(k, postings.documents)
    return _searched(postings, indptr, slots, factors, inverses, k, allowed, ranks)


def _order(factors: np.ndarray, bounds: np.ndarray, indptr: np.ndarray, bits: int) -> np.ndarray:
    """The order in which terms are added: of each query those with large bounds first, so that its threshold soon tells.

    That is allowed where all sums are exact, and do not depend on the order: all scores of a term are multiples of
    2^-bits times the power of two above its factor, and 53 bits must reach from the least of these to the largest sum.
    The other queries keep their terms ascending.
    """
    query = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    sums, least = np.zeros(len(indptr)), np.full(len(indptr), np.inf)
    np.add.at(sums, query, bounds)
    np.minimum.at(least, query, np.ldexp(1.0, np.frexp(factors)[1] - bits))
    exact = sums < 2.0**52 * least
    return np.lexsort((np.where(exact[query], -bounds, 0.0), query))


def _strong(bounds: np.ndarray, indptr: np.ndarray, approx: float) -> np.ndarray:
    """Which terms (t,) bool stay when each query's weakest, with at most the share `approx` of its bounds, go."""
    query = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    order = np.lexsort((bounds, query))
    sums = np.cumsum(bounds[order])
    before = np.concatenate([[0.0], sums])[indptr]
    strong = np.empty(len(bounds), bool)
    strong[order] = sums - before[query] > approx * (before[query + 1] - before[query])
    return strong


def _searched(
    postings: Postings, indptr: np.ndarray, slots: np.ndarray, factors: np.ndarray, inverses: np.ndarray, k: int,
    allowed: np.ndarray, ranks: np.ndarray,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    from .count_loops import search_counts
    from .impact_loops import search_impacts

    lists, documents = postings.lists, postings.documents
    step = max(1, _RESULTS // k)
    for first in range(0, len(indptr) - 1, step):
        batch = indptr[first : first + step + 1]
        rows = np.empty((len(batch) - 1, k), np.int32)
        scores, found = np.empty((len(batch) - 1, k)), np.empty(len(batch) - 1, np.int64)
        if postings.payload == "impact":
            search_impacts(lists, batch, slots, factors, k, documents, allowed, ranks, rows, scores, found)
        else:
            search_counts(
                lists, batch, slots, factors, inverses, *postings.length_span, k, documents, allowed, ranks, rows, scores, found
            )  # fmt: skip
        for i, count in enumerate(found.tolist()):
            yield scores[i, :count], rows[i, :count]
