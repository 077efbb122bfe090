"""Exact nearest neighbours over blocks of vectors: a fast float32 scan for candidates, then their exact scores.

The scan (FAISS on a CPU, torch on a GPU) rounds differently with the batch, the block and the machine. So it only
proposes `k` candidates and some more; their scores are summed anew in float64 and rounded to float32, and where the
scan's rounding could have cost a true neighbour, or ties go on beyond the candidates, all rows are scored that way.
Results therefore depend on the stored vectors and the query alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from ..errors import require

#: Blocks of vectors: the position of the first row and a float32 or float16 matrix (m, d).
Blocks = Iterable[tuple[int, np.ndarray]]

#: (queries (b, d) float32, block (m, d) float32, k <= m) → scores (b, k) float32, higher is better, positions (b, k).
Nearest = Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]

SIMILARITIES = ("dot", "cosine", "l2")

#: From so many queries on, FAISS is faster through BLAS than without.
_BLAS_QUERIES = 4

#: Sums that run side by side in an exact score.
SUM_LANES = 32

#: Rows that are raised to float64 at a time.
_EXACT_ROWS = 8192


def faiss_nearest(similarity: str) -> Nearest:
    """FAISS' exact search on the CPU's threads."""
    faiss = require("faiss", "searching a flat index on a CPU")
    metric = faiss.METRIC_L2 if similarity == "l2" else faiss.METRIC_INNER_PRODUCT
    sign = -1 if similarity == "l2" else 1

    def nearest(queries: np.ndarray, block: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        # The 1.15.1 wheel never uses BLAS, which makes batches up to 8 times as fast (and 1 or 2 queries twice as slow).
        installed = faiss.cvar.distance_compute_blas_threshold
        faiss.cvar.distance_compute_blas_threshold = 1 if len(queries) >= _BLAS_QUERIES else 1 << 30
        try:
            scores, positions = faiss.knn(queries, block, k, metric)
        finally:
            faiss.cvar.distance_compute_blas_threshold = installed
        return sign * scores, positions

    return nearest


def torch_nearest(similarity: str, device: str) -> Nearest:
    """Matrix product and top-k in torch on `device`, in full float32 (no TF32)."""
    import torch

    def nearest(queries: np.ndarray, block: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            left, right = torch.from_numpy(queries).to(device), torch.from_numpy(block).to(device)
            scores = left @ right.T
            if similarity == "l2":
                scores = 2 * scores - (right * right).sum(1) - (left * left).sum(1, keepdim=True)
            best, positions = torch.topk(scores, k, dim=1)
            return best.cpu().numpy(), positions.cpu().numpy()
        finally:
            torch.set_float32_matmul_precision(precision)

    return nearest


def candidates(nearest: Nearest, queries: np.ndarray, blocks: Blocks, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The best `k` rows over all blocks, or all if there are fewer: scores and positions (b, <= k), in no order."""
    scores = np.empty((len(queries), 0), np.float32)
    positions = np.empty((len(queries), 0), np.int64)
    for first, block in blocks:
        new_scores, new = nearest(queries, np.ascontiguousarray(block, np.float32), min(k, len(block)))
        if scores.shape[1] == k and len(queries):
            # Lists come best first: beyond the column where no query finds anything better, the rest is useless.
            useful = int((new_scores > scores.min(1, keepdims=True)).sum(1).max())
            new_scores, new = new_scores[:, :useful], new[:, :useful]
        scores = np.concatenate([scores, new_scores], axis=1)
        positions = np.concatenate([positions, new + first], axis=1)
        if scores.shape[1] > k:
            kept = np.argpartition(scores, -k, axis=1)[:, -k:]
            scores, positions = np.take_along_axis(scores, kept, 1), np.take_along_axis(positions, kept, 1)
    return scores, positions


def exact_scores(similarity: str, query: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Scores (m,) float32 of `vectors` (m, d) for one `query` (d,): float64 sums, row by row, rounded once.

    `dot` and `cosine` (of vectors that have unit length already) are the inner product, `l2` is minus the squared
    distance. Terms i, i + 32, i + 64, … are added one after another, then the 32 sums by halves: `scan_kernel` does the
    same in registers, so that both agree to the last bit.
    """
    terms = np.zeros((len(vectors), -(-len(query) // SUM_LANES) * SUM_LANES))
    values = terms[:, : len(query)]
    if similarity == "l2":
        np.subtract(vectors, query, out=values, dtype=np.float64)
        np.multiply(terms, terms, out=terms)
    else:
        np.multiply(vectors, query, out=values, dtype=np.float64)
    sums = terms.reshape(len(vectors), terms.shape[1] // SUM_LANES, SUM_LANES).sum(axis=1)
    while sums.shape[1] > 1:
        half = sums.shape[1] // 2
        sums = sums[:, :half] + sums[:, half:]
    return (0.0 - sums[:, 0] if similarity == "l2" else sums[:, 0] + 0.0).astype(np.float32)


def scan_error(similarity: str, query: np.ndarray, max_norm: float) -> float:
    """A bound on the difference between a float32 scan's score and the exact one: n terms err by n·2^-24 of their
    absolute sum (Higham, Accuracy and Stability of Numerical Algorithms, §3.1).
    """
    norm = float(np.linalg.norm(query.astype(np.float64)))
    magnitude = (norm + max_norm) ** 2 if similarity == "l2" else norm * max_norm
    return (len(query) + 4) * 2.0**-24 * magnitude


def at_least(similarity: str, query: np.ndarray, blocks: Blocks, bound: float) -> tuple[np.ndarray, np.ndarray]:
    """Exact scores and positions of all rows whose score is `bound` or better."""
    scores, positions = [], []
    for first, rows in _sliced(blocks, _EXACT_ROWS):
        values = exact_scores(similarity, query, rows)
        good = np.flatnonzero(values >= bound)
        scores.append(values[good])
        positions.append(first + good)
    return np.concatenate(scores), np.concatenate(positions)


def _sliced(blocks: Blocks, rows: int) -> Iterator[tuple[int, np.ndarray]]:
    for first, block in blocks:
        for start in range(0, len(block), rows):
            yield first + start, block[start : start + rows]


def unit_length(vectors: np.ndarray) -> tuple[np.ndarray, int]:
    """`vectors` (n, d) scaled to length 1 as float32, and how many are zero (they stay zero)."""
    raised = vectors.astype(np.float64)
    norms = np.linalg.norm(raised, axis=1, keepdims=True)
    zero = norms == 0
    return (raised / np.where(zero, 1.0, norms)).astype(np.float32), int(zero.sum())
