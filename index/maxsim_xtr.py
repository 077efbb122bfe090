"""XTR's scores (Lee et al., NeurIPS 2023): only the best document tokens of each query token count."""

from __future__ import annotations

import numpy as np

from ..errors import UsageError
from ..vectors import MultiVector
from .maxsim_blocks import LEAST, blocks, check_pair, prepared, product

#: Similarities that are held at a time, in bytes.
_HELD = 64 << 20


def xtr(queries: MultiVector, documents: MultiVector, *, retrieved: int, imputed: bool = False) -> np.ndarray:
    """XTR's score of every query and document: (queries, documents) float32, sums in float64.

    Each query token retrieves the `retrieved` most similar tokens (inner product) of all documents. A document's score is
    the sum over query tokens of its best retrieved token, divided by the number of query tokens that retrieved one of its
    (eq. 5, with a divisor of at least 1); with `imputed` a query token that retrieved none counts as its worst retrieved
    similarity, and the divisor is the number of query tokens (the scores of section 3.2, at search). Scores depend on
    which documents are there. A document without tokens gets -1.
    """
    if retrieved < 1:
        raise UsageError(f"xtr: retrieved is {retrieved}, expected at least 1 token")
    check_pair(queries.tokens, documents.tokens, "dot")
    of_document = np.repeat(np.arange(len(documents)), np.diff(documents.offsets))
    scores = np.full((len(queries), len(documents)), LEAST["dot"], np.float32)
    filled = np.diff(documents.offsets) > 0
    for q in range(len(queries)):
        query = queries[q]
        best = np.full((len(query), len(documents)), -np.inf)
        values, places = _nearest(query, documents, min(retrieved, len(of_document)))
        for row, value, place in zip(best, values, places, strict=True):
            np.maximum.at(row, of_document[place], value)
        found = best > -np.inf
        if imputed:
            worst = values.min(axis=1, initial=np.inf)[:, None]
            total = np.where(found, best, worst if len(of_document) else 0).sum(0) / max(1, len(query))
        else:
            total = np.where(found, best, 0).sum(0) / np.maximum(found.sum(0), 1)
        scores[q, filled] = total[filled]
    return scores


def _nearest(query: np.ndarray, documents: MultiVector, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarities and places (t, count) of each query token's most similar document tokens, in no order."""
    factors = np.ascontiguousarray(query.T, np.float32)
    values, places = np.empty((len(query), 0), np.float32), np.empty((len(query), 0), np.int64)
    for first, last in blocks(documents.offsets, max(64, _HELD // (4 * max(1, len(query))))):
        begin, end = documents.offsets[first], documents.offsets[last]
        new = product(prepared(documents.tokens[begin:end], "dot"), factors).T
        values = np.concatenate([values, new], axis=1)
        places = np.concatenate([places, np.broadcast_to(np.arange(begin, end), new.shape)], axis=1)
        if values.shape[1] > count:
            kept = np.argpartition(values, -count, axis=1)[:, -count:]
            values, places = np.take_along_axis(values, kept, 1), np.take_along_axis(places, kept, 1)
    return values, places
