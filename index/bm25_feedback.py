"""RM3 over counts: the relevance model (Abdul-Jaleel et al., TREC 2004) with the rules of Anserini's Rm3Reranker.

Feedback terms have 2 to 20 characters and stand in at most a tenth of the documents; each document gives its most frequent
ones; a term's weight is the sum over documents of its share there times the document's score. Arithmetic is float32 where
Anserini's is. java/Rm3.java is the same over Lucene.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import numpy as np

from ..vectors import Sparse
from .analysis.vocabulary import Vocabulary
from .lucene import Hits, Rm3
from .postings import Postings

_ASCII = re.compile(r"[a-z0-9]+")
_MOST_DOCUMENTS = np.float32(0.1)

#: Documents with less weight in all have no part.
_LEAST_NORM = np.float32(0.001)


def expanded(
    queries: Sparse,
    lengths: np.ndarray,
    best: Hits,
    rm3: Rm3,
    counts_of: Callable[[int], dict[str, int]],
    vocabulary: Vocabulary,
    postings: Postings,
) -> Sparse:
    """`queries` mixed with terms of their `best` documents; terms of weight 0 are left out.

    `lengths` (q,) are the numbers of all terms of a query, also of those that the index does not have.
    """

    @cache
    def place(term: str) -> int:
        return int(vocabulary.numbers([term])[0])

    @cache
    def eligible(term: str) -> bool:
        if not 2 <= len(term.encode("utf-16-le")) // 2 <= 20:
            return False
        if rm3.filter_terms is not False and not _ASCII.fullmatch(term):
            return False
        share = np.float32(postings.frequencies[place(term)]) / np.float32(postings.documents)
        return bool(share <= _MOST_DOCUMENTS)

    @cache
    def vector(row: int) -> dict[str, np.float32]:
        return _largest({t: np.float32(n) for t, n in counts_of(row).items() if eligible(t)}, rm3.fb_terms)

    rows = []
    weight, nothing = np.float32(rm3.original_query_weight), np.float32(0)
    for i in range(len(queries)):
        span = slice(best.offsets[i], best.offsets[i + 1])
        vectors = [vector(row) for row in best.documents[span].tolist()]
        model = _unit({place(t): w for t, w in _model(vectors, best.scores[span], rm3.fb_terms).items()})
        ids, counts = queries.row(i)
        own = {t: np.float32(n / lengths[i]) for t, n in zip(ids.tolist(), counts.tolist(), strict=True)}
        mixed = {
            t: float(weight * own.get(t, nothing)) + (1 - float(weight)) * float(model.get(t, nothing))
            for t in sorted({*own, *model})
        }
        kept = {t: mixture for t, mixture in mixed.items() if mixture > 0}
        rows.append((np.array(list(kept), np.int32), np.array(list(kept.values()), np.float32)))
    return Sparse.of(rows, queries.terms)


def _model(vectors: list[dict[str, np.float32]], scores: np.ndarray, terms: int) -> dict[str, np.float32]:
    norms = [np.float32(sum(map(float, vector.values()))) for vector in vectors]
    weights: dict[str, np.float32] = {}
    for vector, norm, score in zip(vectors, norms, scores, strict=True):
        if norm > _LEAST_NORM:
            for term, count in vector.items():
                weights[term] = weights.get(term, np.float32(0)) + count / norm * score
    return _largest(weights, terms)


def _largest(weights: dict[str, np.float32], terms: int) -> dict[str, np.float32]:
    """The `terms` largest; equal ones in the order of the terms."""
    return dict(sorted(weights.items(), key=lambda entry: (-entry[1], entry[0].encode("utf-16-be")))[:terms])


def _unit(weights: dict[int, np.float32]) -> dict[int, np.float32]:
    total = sum(map(float, weights.values()))
    return {term: np.float32(float(weight) / total) for term, weight in weights.items()}
