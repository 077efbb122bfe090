"""How much each document, or source, of a corpus is worth to a validation set (Lyu et al. 2023, arXiv 2307.03027).

A query retrieves items i = 1 … M with utilities c. If only the items of S are there, the query is worth
u(S) = (1 / K) Σ of the utilities of the first K of S. With item i there by chance, with probability w_i and on its own,
U(w) is the mean of E[u(S)] over queries (the multilinear extension), and the importance of an item is ∂U / ∂w_i.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, UsageError

#: Numbers in the table of a block of queries: 64 MiB.
_BLOCK = 8 << 20


@dataclass(frozen=True, eq=False)
class Retrievals:
    """What queries retrieved: `item` (n,) int64 positions in `names`, best first within a query, `utility` (n,) float64 of
    each there, and `offsets` (q + 1,) where each query's begin. `query_ids` are theirs."""

    names: tuple[str, ...]
    query_ids: tuple[str, ...]
    offsets: np.ndarray
    item: np.ndarray
    utility: np.ndarray

    def __post_init__(self) -> None:
        if not np.isfinite(self.utility).all():
            raise InputError("a utility is not finite")
        if not len(self.query_ids):
            raise InputError("no query retrieved anything: importance needs retrieved items with utilities")

    def __len__(self) -> int:
        return len(self.query_ids)

    @classmethod
    def of(cls, rows: Sequence[tuple[str, Sequence[str], Sequence[float]]]) -> Retrievals:
        """From (query id, item names, utilities) triples, items best first. An item that a query has twice is refused."""
        names: dict[str, int] = {}
        item: list[int] = []
        for query, items, utilities in rows:
            if len(items) != len(utilities):
                raise InputError(f"query {query!r} has {len(items)} items and {len(utilities)} utilities")
            if len(set(items)) < len(items):
                raise InputError(f"query {query!r} has an item twice: each can be there once")
            item += [names.setdefault(name, len(names)) for name in items]
        offsets = np.cumsum([0, *(len(items) for _, items, _ in rows)])
        utility = np.array([value for _, _, utilities in rows for value in utilities], np.float64)
        return cls(tuple(names), tuple(q for q, _, _ in rows), offsets, np.array(item, np.int64), utility)

    def select(self, queries: Sequence[int] | np.ndarray) -> Retrievals:
        """Only these queries, by position; all items keep their positions."""
        parts = [np.arange(self.offsets[q], self.offsets[q + 1]) for q in queries]
        rows = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        offsets = np.cumsum([0, *map(len, parts)])
        ids = tuple(self.query_ids[q] for q in queries)
        return Retrievals(self.names, ids, offsets, self.item[rows], self.utility[rows])


def expected_utility(retrievals: Retrievals, weights: np.ndarray, k: int) -> float:
    """U(w) for `weights` (items,) from 0 to 1."""
    check_k(k)
    total = 0.0
    for p, c in _blocks(retrievals, weights, k):
        before = np.zeros((len(p), k))
        before[:, 0] = 1.0
        for i in range(p.shape[1]):
            total += float((p[:, i] * c[:, i]) @ before.sum(1))
            before = _with_item(before, p[:, i])
    return total / (k * len(retrievals))


def importance(retrievals: Retrievals, weights: np.ndarray, k: int, *, epsilon: float = 0.0) -> np.ndarray:
    """∂U / ∂w (items,) float64, exactly for `epsilon` 0.

    ∂u / ∂w_i = (1 / K) Σ_{j < K} P(j of the items before i are there) · (c_i - t), t being the expected utility of item
    number K - j of those after i, which i pushes out of the first K, and 0 where there are fewer. The paper's two terms
    summed: no table over distinct utilities is needed, and a query costs M · K.

    With `epsilon` a query ends after the first m items of which at most K are there with that probability or less: each
    derivative is off by no more than epsilon · max |c| / K, twice that for items beyond m, which are left at 0.
    """
    check_k(k)
    if not 0 <= epsilon < 1:
        raise UsageError(f"epsilon is {epsilon}, expected a probability from 0 to less than 1")
    gradient = np.zeros(len(retrievals.names))
    shared = retrievals if not epsilon else shortened(retrievals, weights, k, epsilon)
    row = 0
    for p, c in _blocks(shared, weights, k):
        lengths = np.diff(shared.offsets[row : row + len(p) + 1])
        inside = np.arange(p.shape[1]) < lengths[:, None]
        items = shared.item[shared.offsets[row] : shared.offsets[row + len(p)]]
        gradient += np.bincount(items, _derivatives(p, c, k)[inside], len(gradient))
        row += len(p)
    return gradient / (k * len(retrievals))


def _derivatives(p: np.ndarray, c: np.ndarray, k: int) -> np.ndarray:
    """K ∂u / ∂w of a block: (q, m). Row `later[i, j]` (q,) is the expected utility of item number j + 1 from i on."""
    queries, m = p.shape
    there, gain = np.ascontiguousarray(p.T), np.ascontiguousarray(c.T)  # one item's of all queries lie together
    later = np.zeros((m + 1, k, queries))
    for i in range(m - 1, -1, -1):
        own, after = later[i], later[i + 1]
        np.subtract(gain[i], after[0], out=own[0])
        np.subtract(after[:-1], after[1:], out=own[1:])
        own *= there[i]
        own += after
    before = np.zeros((k, queries))
    before[0] = 1.0
    found = np.empty((m, queries))
    moved = np.empty((k, queries))
    for i in range(m):
        # With j items before it, the item pushes number K - j after it out: row K - j - 1.
        np.subtract(gain[i], later[i + 1, ::-1], out=moved)
        moved *= before
        found[i] = moved.sum(0)
        np.multiply(before, there[i], out=moved)
        before -= moved
        before[1:] += moved[:-1]
    return found.T


def _with_item(before: np.ndarray, p: np.ndarray) -> np.ndarray:
    """P(exactly j there) for j < K, after one more item that is there with probability p."""
    more: np.ndarray = before * (1 - p[:, None])
    more[:, 1:] += before[:, :-1] * p[:, None]
    return more


def shortened(retrievals: Retrievals, weights: np.ndarray, k: int, epsilon: float) -> Retrievals:
    """Every query cut after the first items of which more than K are there with probability 1 - epsilon or more."""
    kept = []
    for p, _ in _blocks(retrievals, weights, k):
        before = np.zeros((len(p), k + 1))
        before[:, 0] = 1.0
        enough = np.full(len(p), p.shape[1])
        for i in range(p.shape[1]):
            before = _with_item(before, p[:, i])
            enough = np.where((enough == p.shape[1]) & (before.sum(1) <= epsilon), i + 1, enough)
        kept.append(enough)
    lengths = np.minimum(np.diff(retrievals.offsets), np.concatenate(kept))
    starts = np.repeat(retrievals.offsets[:-1] - np.cumsum(lengths) + lengths, lengths)
    rows = starts + np.arange(len(starts))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Retrievals(retrievals.names, retrievals.query_ids, offsets, retrievals.item[rows], retrievals.utility[rows])


def _blocks(retrievals: Retrievals, weights: np.ndarray, k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Probabilities and utilities of some queries at a time: two (q, m), 0 beyond a query's own items."""
    weights = np.asarray(weights, np.float64)
    if weights.shape != (len(retrievals.names),) or not ((weights >= 0) & (weights <= 1)).all():
        raise UsageError(
            f"weights of shape {weights.shape}: expected one from 0 to 1 for each of {len(retrievals.names)} items"
        )
    lengths = np.diff(retrievals.offsets)
    step = max(1, _BLOCK // max(1, int(lengths.max(initial=1)) * (k + 1)))
    for first in range(0, len(retrievals), step):
        own = lengths[first : first + step]
        inside = np.arange(int(own.max(initial=0))) < own[:, None]
        rows = slice(int(retrievals.offsets[first]), int(retrievals.offsets[first + len(own)]))
        p, c = np.zeros(inside.shape), np.zeros(inside.shape)
        p[inside], c[inside] = weights[retrievals.item[rows]], retrievals.utility[rows]
        yield p, c


def check_k(k: int) -> None:
    if k < 1:
        raise UsageError(f"k is {k}, expected at least 1: how many of the retrieved items count")


# ---- learning ---------------------------------------------------------------------------------------------------------


def learn_weights(
    retrievals: Retrievals,
    k: int,
    *,
    groups: np.ndarray | None = None,
    epochs: int = 100,
    learning_rate: float = 10.0,
    epsilon: float = 0.0,
) -> np.ndarray:
    """Weights (items,) from 0 to 1 that raise U: projected gradient ascent from ½ everywhere.

    `groups` (items,) int64 ties the weights of a source's items: each step takes their mean.
    """
    if epochs < 1 or not learning_rate > 0:
        raise UsageError(f"epochs={epochs}, learning_rate={learning_rate}: expected at least 1, and more than 0")
    weights = np.full(len(retrievals.names), 0.5)
    sizes = None if groups is None else np.maximum(np.bincount(groups), 1)
    for _ in range(epochs):
        moved = weights + learning_rate * importance(retrievals, weights, k, epsilon=epsilon)
        weights = np.clip(moved, 0.0, 1.0)
        if groups is not None and sizes is not None:
            weights = (np.bincount(groups, weights, len(sizes)) / sizes)[groups]
    return weights
