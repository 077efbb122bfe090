"""PLAID's stages (Santhanam et al. 2022, arXiv 2205.09707, §4): which documents have their tokens decoded and scored.

1  the documents that have a token of one of the `ncells` best centroids of a query token (more where these are too few)
2  of these the best `ndocs`, by MaxSim over those of their centroids that score `threshold` or more with some query token
3  of these the best by MaxSim over all of their centroids
4  their MaxSim over decoded tokens
"""

from __future__ import annotations

import numpy as np

from .best import sort_descending
from .plaid_files import Postings
from .plaid_kernels import best_centroids, mark_documents, scoring_at_least
from .plaid_parameters import Stages
from .plaid_tokens import PlaidTokens


def staged(
    query: np.ndarray,
    tokens: PlaidTokens,
    postings: Postings,
    ranks: np.ndarray,
    stages: Stages,
    findable: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """The documents that reach the last stage for `query` (t, d), t >= 1: rows (m,) ascending and scores (m,) float64."""
    terms = len(query)
    scores = tokens.centroid_scores(query)
    rows = _enough(scores, terms, tokens, postings, stages, findable)
    kept = np.empty(len(scores), np.uint8)
    if len(rows) > stages.ndocs:
        scoring_at_least(scores, terms, stages.threshold, kept)
        rows = _best(rows, tokens.centroid_sums(rows, scores, terms, kept), ranks, stages.ndocs)
    if len(rows) > stages.scored:
        kept[:] = 1
        rows = _best(rows, tokens.centroid_sums(rows, scores, terms, kept), ranks, stages.scored)
    return rows, tokens.maxsim(query, rows)


def _enough(
    scores: np.ndarray,
    terms: int,
    tokens: PlaidTokens,
    postings: Postings,
    stages: Stages,
    findable: np.ndarray | None,
) -> np.ndarray:
    """The candidates of so many cells as give `stages.least` of them, or all that may be found."""
    documents, ncells = len(tokens.filled), stages.ncells
    wanted = min(stages.least, documents if findable is None else len(findable))
    while True:
        cells, _ = probed(scores, terms, ncells)
        rows = candidates(cells, postings, documents, findable, stages.ndocs)
        if len(rows) >= wanted or ncells >= len(scores):
            return rows
        ncells *= 2


def probed(scores: np.ndarray, terms: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` best centroids (t, count) int32 of each of `terms` query tokens, best first, and their scores."""
    count = min(count, len(scores))
    cells, values = np.empty((terms, count), np.int32), np.empty((terms, count), np.float32)
    best_centroids(scores, cells, values)
    return cells, values


def candidates(
    cells: np.ndarray, postings: Postings, documents: int, findable: np.ndarray | None, few: int
) -> np.ndarray:
    """The documents among the rows `findable`, all `documents` where it is None, that have a token of a centroid of `cells`:
    rows (m,) ascending. Where no more may be found than the centroids' postings hold, or `few`, these are all.
    """
    cells = np.unique(cells)
    listed = int((postings.offsets[cells + 1] - postings.offsets[cells]).sum())
    available = documents if findable is None else len(findable)
    if available <= max(listed, few):
        return np.arange(documents) if findable is None else findable
    seen = np.zeros(documents, bool)
    mark_documents(cells, postings.rows, postings.offsets, seen)
    return np.flatnonzero(seen) if findable is None else findable[seen[findable]]


def _best(rows: np.ndarray, values: np.ndarray, ranks: np.ndarray, count: int) -> np.ndarray:
    """The best `count` of `rows` by `values`, ascending."""
    best, _ = np.empty(count, np.int64), np.empty(count)
    sort_descending(rows, values, ranks, best, _)
    return np.sort(best)
