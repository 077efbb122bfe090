"""Are two runs different, by how much, and how sure is that: intervals, paired tests, correction, effect size.

All take per-query values of the same queries. Random draws come from one seeded stream, so that results depend on
neither threads nor machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ..errors import UsageError

#: Elements of a random block that are held at once. The stream of draws does not depend on it.
_BLOCK = 1 << 21

#: Two per-query values closer than this are equal: beneath it is rounding only.
EQUAL = 1e-12


class Interval(NamedTuple):
    """A confidence interval [low, high]."""

    low: float
    high: float


class PairedT(NamedTuple):
    """Student's paired t. `t` and `p` are None where all differences are equal (or there is one only): no variance to
    test against.
    """

    t: float | None
    p: float | None
    df: int


def bootstrap(
    values: np.ndarray, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> list[Interval]:
    """Percentile bootstrap intervals of the means of the columns of `values` (q, m) (Efron & Tibshirani 1993, §13.3).

    Queries are drawn with replacement, the same ones for every column. Equal to `scipy.stats.bootstrap` with
    method="percentile" and the same generator.
    """
    values = _columns(values)
    if not 0 < confidence < 1:
        raise UsageError(f"confidence={confidence}: expected a share between 0 and 1, e.g. 0.95")
    if resamples < 1:
        raise UsageError(f"resamples={resamples}: expected at least 1")
    count = len(values)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    step = max(1, _BLOCK // count)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, count, (rows, count))
        drawn += np.arange(rows)[:, None] * count
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)
        means[start : start + rows] = times @ values / count
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(means, [tail, 100 - tail], axis=0)
    return [Interval(float(a), float(b)) for a, b in zip(low, high, strict=True)]


def paired_t(differences: np.ndarray) -> PairedT:
    """Two-sided paired t-test of mean difference 0: t = d̄ / (s / √n) with n - 1 degrees of freedom."""
    from scipy.special import stdtr

    n = len(differences)
    if n < 2 or np.ptp(differences) <= EQUAL:
        return PairedT(None, None, max(n - 1, 0))
    t = float(differences.mean() / (differences.std(ddof=1) / math.sqrt(n)))
    return PairedT(t, float(2 * stdtr(n - 1, -abs(t))), n - 1)


def randomisation(differences: np.ndarray, *, permutations: int = 100_000, seed: int = 0) -> list[float]:
    """Two-sided paired randomisation (sign-flip) tests of the columns of `differences` (q, m): one p each.

    Where all 2^q sign patterns are no more than `permutations` they are enumerated and p is exact. Otherwise
    p = (1 + #{|T*| >= |T|}) / (permutations + 1), which is never 0 (Phipson & Smyth 2010); the flips are the same for
    every column.
    """
    differences = _columns(differences)
    if permutations < 1:
        raise UsageError(f"permutations={permutations}: expected at least 1")
    count = len(differences)
    total = differences.sum(axis=0)
    # Sums that differ by rounding only are ties, and ties count.
    limit = np.abs(total) - EQUAL * np.maximum(np.abs(differences).sum(axis=0), 1e-300)
    exact = count < 63 and 2**count <= permutations
    flips = 2**count if exact else permutations
    rng = np.random.default_rng(seed)
    as_extreme = np.zeros(differences.shape[1], np.int64)
    step = max(1, _BLOCK // count)
    room = np.empty((min(step, flips), count))  # made once: new memory for every block costs as much as the product
    for start in range(0, flips, step):
        rows = min(step, flips - start)
        kept = room[:rows]
        if exact:
            patterns = np.arange(start, start + rows, dtype="<u8")[:, None]
        else:
            patterns = rng.integers(0, 1 << 64, (rows, -(-count // 64)), np.uint64).astype("<u8")
        kept[:] = np.unpackbits(patterns.view(np.uint8), axis=1, count=count, bitorder="little")
        as_extreme += (np.abs(2 * (kept @ differences) - total) >= limit).sum(axis=0)
    return [float(n) / flips if exact else (1 + float(n)) / (flips + 1) for n in as_extreme]


def holm(p_values: Iterable[float]) -> list[float]:
    """Holm's step-down adjusted p values (Scandinavian Journal of Statistics 1979), in the order given."""
    p = np.asarray(list(p_values), np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return [float(value) for value in adjusted]


def effect_size(differences: np.ndarray, *, hedges: bool = False) -> float | None:
    """d_z = d̄ / s of paired differences (Cohen 1988); None where all are equal. `hedges` corrects the small-sample bias
    by 1 - 3 / (4 (n - 1) - 1).
    """
    n = len(differences)
    if n < 2 or np.ptp(differences) <= EQUAL:
        return None
    size = float(differences.mean() / differences.std(ddof=1))
    return size * (1 - 3 / (4 * (n - 1) - 1)) if hedges else size


def _columns(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if not len(values):
        raise UsageError("no query is given: intervals and tests need at least one")
    if not np.isfinite(values).all():
        raise UsageError("a per-query value is not finite: intervals and tests need numbers")
    return values
