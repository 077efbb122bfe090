"""Measures of what a cut returns, as a set: precision, recall and F1, and the threshold that makes them best.

Candidates of many queries lie one after another: scores (n,), relevant (n,) bool, offsets (q + 1,) where each query's
begin, and total (q,) how many relevant documents each query has, found or not.
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError


def set_measures(kept: np.ndarray, relevant: np.ndarray, offsets: np.ndarray, total: np.ndarray) -> dict[str, float]:
    """What a cut that leaves the candidates `kept` (n,) bool is worth.

    `precision`, `recall` and `f1` are of all queries' documents together; `macro_…` means over queries, where an empty
    set has precision and F1 0, or 1 where the query has nothing relevant. `returned` is the mean number of documents a
    query, `empty` how many queries get none, `removed` the share of the candidates that is cut.
    """
    found = _per_query(kept & relevant, offsets)
    returned = _per_query(kept, offsets)
    nothing = (total == 0) & (returned == 0)
    precision = np.where(nothing, 1.0, found / np.maximum(returned, 1))
    recall = np.where(total == 0, 1.0, found / np.maximum(total, 1))
    f1 = np.where(nothing, 1.0, 2 * found / np.maximum(returned + total, 1))
    hits, given, wanted = float(found.sum()), float(returned.sum()), float(total.sum())
    return {
        "precision": hits / max(given, 1.0),
        "recall": hits / max(wanted, 1.0),
        "f1": 2 * hits / max(given + wanted, 1.0),
        "macro_precision": float(precision.mean()),
        "macro_recall": float(recall.mean()),
        "macro_f1": float(f1.mean()),
        "returned": given / max(len(total), 1),
        "empty": float((returned == 0).sum()),
        "removed": 1 - given / max(len(kept), 1),
    }


def _per_query(flags: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    sums = np.concatenate([[0], np.cumsum(flags)])
    counts: np.ndarray = sums[offsets[1:]] - sums[offsets[:-1]]
    return counts


def average_precision(scores: np.ndarray, relevant: np.ndarray) -> float:
    """Area under the precision-recall curve over all pairs together, as scikit-learn's `average_precision_score`."""
    _, hits, given = _curve(scores, relevant)
    if not len(hits) or not hits[-1]:
        return 0.0
    return float((np.diff(hits, prepend=0) * hits / given).sum() / hits[-1])


def best_threshold(scores: np.ndarray, relevant: np.ndarray, total: int, recall: float | None = None) -> float:
    """The score from which on documents are kept, so that F1 over all pairs is best; or, with `recall`, the highest one
    that keeps that share of all `total` relevant documents. It lies midway between two scores.

    Raises `InputError` where the candidates hold nothing relevant, or too little for that recall.
    """
    values, hits, given = _curve(scores, relevant)
    if not len(hits) or not hits[-1]:
        raise InputError("no candidate is relevant, so there is no threshold to choose: check the judgements")
    if recall is None:
        at = int(np.argmax(2 * hits / (given + total)))
    else:
        if hits[-1] < recall * total:
            raise InputError(
                f"the candidates hold {hits[-1] / total:.3f} of the relevant documents, so no threshold has a recall of "
                f"{recall}: look deeper, or ask for less"
            )
        at = int(np.argmax(hits >= recall * total))
    below = values[at + 1] if at + 1 < len(values) else values[at]
    return float((values[at] + below) / 2)


def _curve(scores: np.ndarray, relevant: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct scores falling, and how many relevant documents and documents lie at each or above."""
    order = np.argsort(-scores, kind="stable")
    values = scores[order]
    last = np.flatnonzero(np.append(np.diff(values) != 0, True)) if len(values) else np.zeros(0, np.int64)
    hits = np.cumsum(relevant[order])[last]
    return values[last], hits.astype(np.float64), (last + 1).astype(np.float64)
