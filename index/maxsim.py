"""MaxSim of queries' and documents' token vectors (Khattab and Zaharia, SIGIR 2020, eq. 3), without padding.

The tokens of all documents lie one after another. Nothing is padded, so no padding can win: where all similarities are
negative, so is the score.
"""

from __future__ import annotations

import numpy as np

from ..vectors import MultiVector
from .maxsim_blocks import NOTHING, QuerySide, blocks, check_pair, prepared, token_bias
from .maxsim_stored import StoredQueries


def maxsim(
    query: np.ndarray,
    tokens: np.ndarray,
    offsets: np.ndarray,
    *,
    similarity: str = "dot",
    mean: bool = False,
    query_mask: np.ndarray | None = None,
    token_mask: np.ndarray | None = None,
) -> np.ndarray:
    """Sum over query tokens of their best match among a document's tokens: (n,) float32, summed in float64.

    `query` is (t, d) float32, document i has the rows `offsets[i]:offsets[i + 1]` of `tokens` (T, d) float32. A match is
    the inner product (`dot`), the `cosine`, or minus the squared distance (`l2`). `mean` divides by t. `query_mask` (t,)
    and `token_mask` (T,) bool say which tokens count. A document of no tokens has nothing that could match: it gets t
    times the least that unit vectors can give (-1, or -4 for `l2`), so that it comes after all others.
    """
    queries = MultiVector(query, np.array([0, len(query)]))
    documents = MultiVector(tokens, offsets)
    return maxsim_all(
        queries, documents, similarity=similarity, mean=mean, query_mask=query_mask, token_mask=token_mask
    )[0]


def maxsim_all(
    queries: MultiVector,
    documents: MultiVector,
    *,
    similarity: str = "dot",
    mean: bool = False,
    query_mask: np.ndarray | None = None,
    token_mask: np.ndarray | None = None,
) -> np.ndarray:
    """`maxsim` of every query and every document: (queries, documents) float32. Masks are over all tokens of a side."""
    check_pair(queries.tokens, documents.tokens, similarity)
    values, starts = queries.tokens, queries.offsets
    if query_mask is not None:
        starts = np.concatenate([[0], np.cumsum(query_mask)])[starts]
        values = values[query_mask]
    scores = np.empty((len(queries), len(documents)), np.float32)
    if similarity == "dot" and token_mask is None:
        stored = StoredQueries.of(values, starts, "float32")
        tokens = np.asarray(documents.tokens, np.float32)
        stored.score(tokens, NOTHING, np.ascontiguousarray(documents.offsets, np.int64), scores, 0)
    else:
        sides = QuerySide.of(values, starts, similarity)
        _score_in_blocks(sides, documents, similarity, token_mask, scores)
    if mean:
        scores /= np.maximum(np.diff(starts), 1)[:, None].astype(np.float32)
    return scores


def _score_in_blocks(
    sides: QuerySide, documents: MultiVector, similarity: str, token_mask: np.ndarray | None, scores: np.ndarray
) -> None:
    for first, last in blocks(documents.offsets, sides.block_tokens):
        begin, end = documents.offsets[first], documents.offsets[last]
        rows = prepared(documents.tokens[begin:end], similarity)
        bias = token_bias(rows, similarity)
        if token_mask is not None:
            out = np.where(token_mask[begin:end], 0, -np.inf).astype(np.float32)
            bias = bias + out if len(bias) else out
        sides.score(rows, NOTHING, bias, documents.offsets[first : last + 1] - begin, scores, first)
