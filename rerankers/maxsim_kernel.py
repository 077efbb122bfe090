"""MaxSim of a query's token vectors and many documents' (Khattab and Zaharia, SIGIR 2020, eq. 3), without padding."""

from __future__ import annotations

import numpy as np

#: Document tokens in one product. The scores of a block (query tokens × this, float32) stay in a core's cache.
_BLOCK = 4096


def maxsim(query: np.ndarray, tokens: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Sum over query tokens of the largest inner product with a token of the document: (n,) float32.

    `query` is (t, d) float32, document i has the rows `offsets[i]:offsets[i + 1]` of `tokens` (T, d) float32. A document
    of no tokens has nothing that could match: it gets -t, the least that unit vectors can give.
    """
    lengths = np.diff(offsets)
    scores = np.full(len(lengths), -float(len(query)), np.float32)
    filled = np.flatnonzero(lengths > 0)
    for block in _blocks(filled, offsets):
        first, last = int(offsets[block[0]]), int(offsets[block[-1] + 1])
        similarities = query @ tokens[first:last].T
        best = np.maximum.reduceat(similarities, offsets[block] - first, axis=1)
        scores[block] = best.sum(axis=0, dtype=np.float64)
    return scores


def _blocks(documents: np.ndarray, offsets: np.ndarray) -> list[np.ndarray]:
    """Runs of `documents` (positions that have tokens) with about `_BLOCK` tokens each."""
    if not len(documents):
        return []
    number = (offsets[documents] - offsets[documents[0]]) // _BLOCK
    return np.split(documents, np.flatnonzero(np.diff(number)) + 1)
