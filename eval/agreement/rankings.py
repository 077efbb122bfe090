"""How alike two rankings are: Kendall's τ, τ_AP, which looks at the top, and rank-biased overlap, which looks at it most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import UsageError, suggest


def kendall_tau(first: Sequence[float], second: Sequence[float], *, variant: str = "b") -> float | None:
    """Kendall's τ of two score arrays (n,) of the same things: (agreeing - disagreeing pairs) / all.

    Variant a divides by all pairs, b corrects for ties (Kendall 1945). None where it does not exist: fewer than two
    things, or for b a list that is one tie.
    """
    if variant not in ("a", "b"):
        raise UsageError(f"variant={variant!r}: {suggest(variant, ('a', 'b'))}")
    a, b = _columns(first, second)
    one, other = (np.sign(np.subtract.outer(x, x))[np.triu_indices(len(x), 1)] for x in (a, b))
    pairs = float(len(one)) if variant == "a" else math.sqrt(float((one != 0).sum()) * float((other != 0).sum()))
    return float((one * other).sum()) / pairs if pairs else None


def tau_ap(tested: Sequence[float], reference: Sequence[float]) -> float | None:
    """τ_AP (Yilmaz, Aslam & Robertson 2008) of the ranking by `tested` against that by `reference` (n,).

    2 / (n - 1) · Σ C(i) / (i - 1) - 1 over the places i = 2 … n of the tested ranking, C(i) being those above i that the
    reference also has above. Not symmetric. None with fewer than two things, and with equal scores, for which it is not
    defined.
    """
    a, b = _columns(tested, reference)
    if len(a) < 2 or len(np.unique(a)) < len(a) or len(np.unique(b)) < len(b):
        return None
    by_reference = b[np.argsort(-a)]
    above = np.tril(by_reference[None, :] > by_reference[:, None], -1).sum(1)[1:]
    return 2 * float((above / np.arange(1, len(a))).mean()) - 1


@dataclass(frozen=True)
class RankBiasedOverlap:
    """`extrapolated` takes the agreement at the lists' end to go on; the true value of the unseen whole lies between
    `least` and `least + residual`."""

    extrapolated: float
    least: float
    residual: float


def rank_biased_overlap(first: Sequence[str], second: Sequence[str], p: float = 0.9) -> RankBiasedOverlap:
    """Rank-biased overlap of two rankings of ids, best first and without ties (Webber, Moffat & Zobel 2010, eq. 11, 30, 32).

    (1 - p) Σ p^(d - 1) · overlap at depth d / d: the mean agreement of a reader who goes on with probability `p`. The
    lists may be of different lengths and hold different things.
    """
    if not 0 < p < 1:
        raise UsageError(f"p={p}: expected a probability between 0 and 1, e.g. 0.9")
    for ranking in (first, second):
        if len(set(ranking)) < len(ranking):
            raise UsageError("rank_biased_overlap: a ranking names something twice")
    if not first or not second:
        raise UsageError("rank_biased_overlap: a ranking is empty")
    short, long = sorted((first, second), key=len)
    s, n = len(short), len(long)
    overlap = _overlaps(short, long)
    depth = np.arange(1, n + 1)
    weight, scale = p**depth / depth, (1 - p) / p
    at_s, at_n = float(overlap[s - 1]), float(overlap[n - 1])
    beyond = depth > s
    shared = float((overlap * weight).sum()) + float((at_s * (depth - s) / s * weight)[beyond].sum())
    extrapolated = scale * shared + ((at_n - at_s) / n + at_s / s) * p**n
    least = scale * (float(((overlap - at_n) * weight).sum()) - at_n * math.log(1 - p))
    return RankBiasedOverlap(extrapolated, least, _residual(s, n, at_n, p))


def _overlaps(short: Sequence[str], long: Sequence[str]) -> np.ndarray:
    """How many things the first d of both share, for every depth d of the longer list: (l,) float64."""
    place = {item: i for i, item in enumerate(short)}
    shared = np.zeros(len(long))
    for i, item in enumerate(long):
        if item in place:
            shared[max(i, place[item])] += 1
    return np.cumsum(shared)


def _residual(s: int, n: int, overlap: float, p: float) -> float:
    """What the unseen rest of both lists could add at most."""
    full = n + s - int(overlap)
    weight = np.concatenate([[0.0], np.cumsum(p ** np.arange(1, full + 1) / np.arange(1, full + 1))])
    tail = s * (weight[full] - weight[s]) + n * (weight[full] - weight[n])
    rest = overlap * (-math.log(1 - p) - weight[full])
    return float(p**s + p**n - p**full - (1 - p) / p * (tail + rest))


def _columns(first: Sequence[float], second: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise UsageError(f"scores of shapes {a.shape} and {b.shape}, expected two (n,) of the same things")
    return a, b
