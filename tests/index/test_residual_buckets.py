"""Least-squares buckets of residuals. Oracles: Max's tables for a normal distribution, and what defines them."""

from __future__ import annotations

import numpy as np
import pytest
from cribble.index.residual_buckets import BUCKETS, least_squares_buckets, quantile_buckets
from scipy.stats import norm


def squared_error(values, cutoffs, weights):
    return float(((values - weights[np.searchsorted(cutoffs, values)]) ** 2).mean())


@pytest.mark.parametrize(
    ("bits", "weights", "error"),
    [
        (1, [0.7980], 0.3634),
        (2, [0.4528, 1.510], 0.1175),
        (4, [0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733], 0.009497),
    ],
)
def test_a_normal_distribution_has_maxs_buckets(bits, weights, error):
    """Max, Quantizing for minimum distortion (IRE Trans. IT-6, 1960), table I; within 0.5 % over 400,000 even quantiles."""
    values = norm.ppf((np.arange(400_000) + 0.5) / 400_000).astype(np.float32)
    cutoffs, found = least_squares_buckets(values[:, None], bits)
    np.testing.assert_allclose(found[2 ** (bits - 1) :], weights, rtol=5e-3)
    np.testing.assert_allclose(found, -found[::-1], atol=2e-3)
    assert squared_error(values, cutoffs, found) == pytest.approx(error, rel=5e-3)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_weights_are_means_and_cutoffs_middles_and_the_error_is_less(bits):
    values = np.random.default_rng(bits).laplace(size=(2000, 8)).astype(np.float32)
    cutoffs, weights = least_squares_buckets(values, bits)
    assert cutoffs.dtype == weights.dtype == np.float32
    assert len(weights) == len(cutoffs) + 1 == 2**bits
    np.testing.assert_allclose(cutoffs, (weights[1:] + weights[:-1]) / 2, atol=1e-6)
    buckets = np.searchsorted(cutoffs, values)
    if bits <= 4:  # more are not quite at rest
        means = [values[buckets == i].astype(np.float64).mean() for i in range(2**bits)]
        np.testing.assert_allclose(weights, means, atol=1e-2)
    assert squared_error(values, cutoffs, weights) < squared_error(values, *quantile_buckets(values, bits))


@pytest.mark.parametrize("name", BUCKETS)
def test_equal_residuals_and_a_single_one(name):
    for values in (np.zeros((50, 4), np.float32), np.full((1, 1), 0.25, np.float32)):
        cutoffs, weights = BUCKETS[name](values, 2)
        assert (cutoffs == values[0, 0]).all()
        assert (weights == values[0, 0]).all()
