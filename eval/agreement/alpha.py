"""Krippendorff's α: any number of judges, some of whom may have left units out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...errors import UsageError, suggest


def krippendorff_alpha(labels: np.ndarray, *, level: str = "ordinal") -> float | None:
    """α = 1 - observed / expected disagreement of `labels` (judges, units), with nan where a judge has none.

    `level` is nominal, ordinal, interval or ratio: how far two labels are apart (Krippendorff, Content Analysis, 2019, ch. 12).
    Units with fewer than two labels do not count. None where all labels are equal: α does not exist then.
    """
    if level not in _DISTANCES:
        raise UsageError(f"level={level!r}: {suggest(level, _DISTANCES)}")
    values = np.asarray(labels, np.float64)
    if values.ndim != 2 or len(values) < 2:
        raise UsageError(
            f"krippendorff_alpha: labels of shape {values.shape}, expected (judges, units) of two judges or more"
        )
    known = ~np.isnan(values)
    scale = np.unique(values[known])
    counts = np.stack([((values == value) & known).sum(0) for value in scale], 1) if len(scale) else np.zeros((1, 1))
    counts = counts[counts.sum(1) >= 2].astype(np.float64)
    if not len(counts):
        raise UsageError("krippendorff_alpha: no unit has two labels")
    weight = 1 / (counts.sum(1) - 1)
    together = (counts * weight[:, None]).T @ counts
    together[np.diag_indices(len(scale))] -= weight @ counts
    totals = together.sum(1)
    distance = _DISTANCES[level](scale, totals)
    expected = float((np.outer(totals, totals) * distance).sum()) / (totals.sum() - 1)
    return None if expected == 0 else 1 - float((together * distance).sum()) / expected


def _nominal(scale: np.ndarray, totals: np.ndarray) -> np.ndarray:
    return (np.subtract.outer(scale, scale) != 0).astype(np.float64)


def _ordinal(scale: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Squared number of labels between two, half of each end's own among them."""
    middle = np.cumsum(totals) - totals / 2
    return np.subtract.outer(middle, middle) ** 2


def _interval(scale: np.ndarray, totals: np.ndarray) -> np.ndarray:
    return np.subtract.outer(scale, scale) ** 2


def _ratio(scale: np.ndarray, totals: np.ndarray) -> np.ndarray:
    sums = np.add.outer(scale, scale)
    return np.divide(np.subtract.outer(scale, scale), sums, out=np.zeros_like(sums), where=sums != 0) ** 2


_DISTANCES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "nominal": _nominal,
    "ordinal": _ordinal,
    "interval": _interval,
    "ratio": _ratio,
}
