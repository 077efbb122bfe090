"""WARP's way of searching a PLAID index (Scheerer et al. 2025, arXiv 2501.17788): no token is decoded.

For each query token only the document tokens of its `nprobe` best centroids are read. Such a match is the centroid's score
and, for each byte of the packed residual, a number of a table that is made for the query: query times bucket weights. What
a document lacks among these counts as the score of the centroid at which the best clusters have held t′ tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiling import compiled
from .plaid_files import Postings
from .plaid_parameters import Probing
from .plaid_stages import candidates, probed
from .plaid_tokens import PlaidTokens

#: Documents whose matches are gathered before they are added up.
_TOGETHER = 1024


def estimated(
    query: np.ndarray,
    tokens: PlaidTokens,
    postings: Postings,
    probing: Probing,
    findable: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The documents with tokens of the probed centroids for `query` (t, d), t >= 1: rows (m,) ascending and scores (m,)
    float64. Where few may be found, these are all of them.
    """
    scores = tokens.centroid_scores(query)
    cells, missing = selected(scores, len(query), postings.sizes, probing)
    rows = candidates(cells, postings, len(tokens.filled), findable, 0)
    slots, starts, terms = _by_centroid(cells, len(scores))
    tables = byte_tables(query, tokens.codec.byte_weights)
    out = np.empty(len(rows))
    for shard, first, own in tokens.pieces(rows):
        part = out[first : first + len(own)]
        sum_of_matches(
            shard.codes, shard.residuals, shard.offsets, own, scores, slots, starts, terms, tables, missing, part
        )
    return rows, out


def selected(scores: np.ndarray, terms: int, sizes: np.ndarray, probing: Probing) -> tuple[np.ndarray, np.ndarray]:
    """WARP_SELECT: the probed centroids (t, nprobe) of each query token, and the estimate (t,) float32 for what is missing.

    `scores` (K, t or more) are the centroids', `sizes` (K,) their tokens. Where the best `bound` centroids hold fewer than
    t′ tokens together the last of them is the estimate.
    """
    cells, values = probed(scores, terms, probing.nprobe)
    held = np.cumsum(sizes[cells], axis=1, dtype=np.int64)
    if held[:, -1].min() < probing.t_prime and probing.bound > probing.nprobe:
        most, values = probed(scores, terms, probing.bound)
        held = np.cumsum(sizes[most], axis=1, dtype=np.int64)
    at = np.minimum((held < probing.t_prime).sum(axis=1), held.shape[1] - 1)
    return cells, values[np.arange(terms), at]


def byte_tables(query: np.ndarray, byte_weights: np.ndarray) -> np.ndarray:
    """What each byte of a packed residual adds to a match: (t, bytes, 256) float32, of `query` (t, d) and the codec's
    `byte_weights` (256, dimensions a byte).
    """
    each = byte_weights.shape[1]
    padded = np.pad(query, ((0, 0), (0, -query.shape[1] % each)))
    tables: np.ndarray = padded.reshape(len(query), -1, each) @ np.ascontiguousarray(byte_weights.T)
    return tables


def _by_centroid(cells: np.ndarray, centroids: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which query tokens probe a centroid: slots (K,) int32, 0 where none does; those of slot s are at
    `terms[starts[s - 1]:starts[s]]`.
    """
    order = np.argsort(cells, axis=None, kind="stable")
    found, first = np.unique(cells.ravel()[order], return_index=True)
    slots = np.zeros(centroids, np.int32)
    slots[found] = np.arange(1, len(found) + 1)
    return slots, np.append(first, len(order)), order // cells.shape[1]


@compiled
def _residual_match(table: Any, packed: Any) -> Any:
    """The sum of the table's numbers for the bytes of a packed residual, in float32."""
    one, two, three, four = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    whole = len(packed) // 4 * 4
    for p in range(0, whole, 4):
        one += table[p, packed[p]]
        two += table[p + 1, packed[p + 1]]
        three += table[p + 2, packed[p + 2]]
        four += table[p + 3, packed[p + 3]]
    for p in range(whole, len(packed)):
        one += table[p, packed[p]]
    return (one + two) + (three + four)


@compiled
def _pairs(codes: Any, offsets: Any, rows: Any, slots: Any, starts: Any, terms: Any, count: int) -> Any:
    """Which query token probes which document token: those of query token j are at `ends[j]:ends[j + 1]` of the documents
    and of the places in the shard that are returned, for `count` query tokens.
    """
    total = np.int64(0)
    for row in rows:
        total += offsets[row + 1] - offsets[row]
    places, owners, found = np.empty(total + 1, np.int64), np.empty(total + 1, np.int32), 0
    for i in range(len(rows)):
        for place in range(offsets[rows[i]], offsets[rows[i] + 1]):
            places[found], owners[found] = place, i  # without a branch, which could not be foreseen
            found += slots[codes[place]] > 0
    ends = np.zeros(count + 1, np.int64)
    for f in range(found):
        slot = slots[codes[places[f]]]
        for s in range(starts[slot - 1], starts[slot]):
            ends[terms[s] + 1] += 1
    for j in range(count):
        ends[j + 1] += ends[j]
    at, pair_owners, pair_places = ends.copy(), np.empty(ends[count], np.int32), np.empty(ends[count], np.int64)
    for f in range(found):
        slot = slots[codes[places[f]]]
        for s in range(starts[slot - 1], starts[slot]):
            j = terms[s]
            pair_owners[at[j]], pair_places[at[j]] = owners[f], places[f]
            at[j] += 1
    return ends, pair_owners, pair_places


@compiled
def sum_of_matches(
    codes: Any,
    residuals: Any,
    offsets: Any,
    rows: Any,
    scores: Any,
    slots: Any,
    starts: Any,
    terms: Any,
    tables: Any,
    missing: Any,
    out: Any,
) -> None:
    """Write into `out` (m,) float64 the sum over query tokens of their best match in each document `rows` (m,) of a shard,
    or of what is `missing` (t,); `slots`, `starts` and `terms` are as of `_by_centroid`, `tables` as of `byte_tables`.

    Matches of one query token come together, as its table just fits the first cache.
    """
    count = len(missing)
    best = np.empty((_TOGETHER, count), np.float32)
    for first in range(0, len(rows), _TOGETHER):
        own = rows[first : first + _TOGETHER]
        best[:] = -np.inf
        ends, owners, places = _pairs(codes, offsets, own, slots, starts, terms, count)
        for j in range(count):
            table = tables[j]
            for pair in range(ends[j], ends[j + 1]):
                place, i = places[pair], owners[pair]
                value = scores[codes[place], j] + _residual_match(table, residuals[place])
                best[i, j] = max(best[i, j], np.float32(value))
        for i in range(len(own)):
            total = 0.0
            for j in range(count):
                total += best[i, j] if best[i, j] > -np.inf else missing[j]
            out[first + i] = total
