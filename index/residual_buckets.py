"""Buckets of residuals: the cut-offs between them, and the weights that stand for what is in them.

quantiles       cut-offs at the quantiles k / 2^b, weights at (k + ½) / 2^b, as Stanford's ColBERT has them
least-squares   those of the least squared error (Lloyd 1982, Least squares quantization in PCM; Max 1960)
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

#: Improvements of least-squares buckets: after so many they hardly move; fewer where they do not move at all.
_ITERATIONS = 300


def quantile_buckets(residuals: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut-offs (2^bits - 1,) and weights (2^bits,) float32 by quantiles of `residuals` (T, d), all dimensions together."""
    count, steps = 2**bits, np.arange(2**bits)
    flat = np.ascontiguousarray(residuals, np.float32).ravel()
    found = np.quantile(flat, np.concatenate([steps[1:], steps + 0.5]) / count).astype(np.float32)
    return found[: count - 1], found[count - 1 :]


def least_squares_buckets(residuals: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut-offs (2^bits - 1,) and weights (2^bits,) float32: each weight is the mean of its bucket, each cut-off lies in the
    middle of two weights, from those of `quantile_buckets` on."""
    values = np.sort(np.ascontiguousarray(residuals, np.float32).ravel()).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    weights = quantile_buckets(residuals, bits)[1].astype(np.float64)
    for _ in range(_ITERATIONS):
        ends = np.concatenate([[0], np.searchsorted(values, _middles(weights), side="right"), [len(values)]])
        sizes = np.diff(ends)
        moved = np.where(sizes > 0, np.diff(sums[ends]) / np.maximum(sizes, 1), weights)
        if np.array_equal(moved, weights):
            break
        weights = moved
    return _middles(weights).astype(np.float32), weights.astype(np.float32)


def _middles(weights: np.ndarray) -> np.ndarray:
    middles: np.ndarray = (weights[1:] + weights[:-1]) / 2
    return middles


#: Name → what gives cut-offs and weights for residuals (T, d) and bits.
BUCKETS: dict[str, Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]]] = {
    "least-squares": least_squares_buckets,
    "quantiles": quantile_buckets,
}
