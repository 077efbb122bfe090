"""Cohen's κ of two judges, on the whole scale and on each cut into relevant and not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import UsageError, suggest
from .alpha import krippendorff_alpha
from .labels import PairedLabels

_WEIGHTS = ("none", "linear", "quadratic")


def cohen_kappa(first: np.ndarray, second: np.ndarray, *, weights: str = "none") -> float | None:
    """κ = 1 - Σ w o / Σ w e of two label arrays (n,) (Cohen 1960; weighted 1968): o observed, e expected by chance.

    `weights` none counts every disagreement alike, linear and quadratic by the distance of the labels' places on the
    scale of all labels that occur. None where both give one and the same label throughout: κ does not exist then.
    """
    if weights not in _WEIGHTS:
        raise UsageError(f"weights={weights!r}: {suggest(weights, _WEIGHTS)}")
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise UsageError(
            f"cohen_kappa: labels of shapes {first.shape} and {second.shape}, expected two equal (n,), n >= 1"
        )
    scale, place = np.unique(np.concatenate([first, second]), return_inverse=True)
    a, b, size = place[: len(first)], place[len(first) :], len(scale)
    observed = np.bincount(a * size + b, minlength=size * size).reshape(size, size) / len(first)
    expected = np.outer(observed.sum(1), observed.sum(0))
    distance = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(np.float64)
    cost = {"none": (distance > 0).astype(np.float64), "linear": distance, "quadratic": distance**2}[weights]
    by_chance = float((cost * expected).sum())
    return None if by_chance == 0 else 1 - float((cost * observed).sum()) / by_chance


@dataclass(frozen=True)
class Agreement:
    """How two judges agree on the pairs that both judged. `cuts` holds κ of label >= cut against beneath, by cut;
    `confusion[(a, b)]` how often the first says a and the second b. Values that do not exist are None."""

    counts: dict[str, int]
    raw: float
    kappa: float | None
    weighted_kappa: float | None
    alpha: float | None
    cuts: dict[int, float | None]
    confusion: dict[tuple[int, int], int]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "counts": self.counts,
            "raw_agreement": self.raw,
            "kappa": self.kappa,
            "quadratic_kappa": self.weighted_kappa,
            "alpha_ordinal": self.alpha,
            "kappa_by_cut": {str(cut): value for cut, value in self.cuts.items()},
            "confusion": [{"first": a, "second": b, "pairs": n} for (a, b), n in self.confusion.items()],
        }


def agreement(labels: PairedLabels) -> Agreement:
    """κ on the whole scale and at each cut, quadratic κ, ordinal α and the table of labels against labels."""
    first, second = labels.first, labels.second
    scale = np.unique(np.concatenate([first, second]))
    table, times = np.unique(np.column_stack([first, second]), axis=0, return_counts=True)
    return Agreement(
        counts=labels.counts,
        raw=float((first == second).mean()),
        kappa=cohen_kappa(first, second),
        weighted_kappa=cohen_kappa(first, second, weights="quadratic"),
        alpha=krippendorff_alpha(np.stack([first, second]), level="ordinal"),
        cuts={int(cut): cohen_kappa(first >= cut, second >= cut) for cut in scale[1:]},
        confusion={(int(a), int(b)): int(n) for (a, b), n in zip(table, times, strict=True)},
    )
