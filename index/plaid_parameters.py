"""What a search of a PLAID index takes, besides filters. Imports nothing compiled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError, suggest

#: Ways of searching: the parameters of each.
MODES: dict[str, tuple[str, ...]] = {
    "plaid": ("ncells", "threshold", "ndocs"),
    "warp": ("nprobe", "t_prime"),
    "exhaustive": (),
}

PARAMETERS = ("mode", *(name for names in MODES.values() for name in names))

#: Up to which k, and then: ncells, threshold, ndocs (at k above 100 at least 8 · k). Stanford's searcher.py has 1, 2 and 4
#: cells, 256, 1024 and 4 · k documents; that loses up to 16, 17 and 30 % of what an exhaustive search finds, these 0.2, 2 and
#: 6 % in up to twice the time. (256 documents at k = 10 lost all that was relevant to one of DL19's 43 queries.)
_BY_K = ((10, 4, 0.5, 512), (100, 8, 0.45, 2048), (math.inf, 8, 0.4, 4096))

#: Centroids that WARP probes for a query token, and those among which it looks for the estimate of what is missing.
_NPROBE, _BOUND = 32, 128

#: Above so many centroids t′ is a constant. XTR-WARP has no least t′; at 300,000 tokens its 1000 finds 10 to 23 % less.
_MANY_CENTROIDS, _LARGEST_T_PRIME, _LEAST_T_PRIME = 1 << 16, 50_000, 4_000


@dataclass(frozen=True)
class Stages:
    """PLAID's parameters: the `ncells` best centroids of each query token give candidates; of these the best `ndocs` by
    their centroids that score `threshold` or more go on, then the best `scored` by all their centroids. Where fewer than
    `least` documents are candidates, twice as many cells are probed, and so on.
    """

    ncells: int
    threshold: float
    ndocs: int
    scored: int
    least: int = 0

    @classmethod
    def of(cls, given: Mapping[str, Any], k: int) -> Stages:
        """Those `given`, others by `k`. `ndocs` is never below k, so that k can be found; cells not given are as many as
        give k candidates.
        """
        ncells, threshold, ndocs = next(values for most, *values in _BY_K if k <= most)
        if k > 100:
            ndocs = max(ndocs, 8 * k)
        ndocs = max(given.get("ndocs", ndocs), k)
        least = 0 if "ncells" in given else k
        return cls(given.get("ncells", ncells), given.get("threshold", threshold), ndocs, max(k, ndocs // 4), least)


@dataclass(frozen=True)
class Probing:
    """WARP's parameters: `nprobe` centroids of each query token are read; a token that a document lacks among these counts
    as the centroid at which the best clusters have held `t_prime` tokens, of the best `bound`.
    """

    nprobe: int
    t_prime: int
    bound: int

    @classmethod
    def of(cls, given: Mapping[str, Any], tokens: int, centroids: int) -> Probing:
        """Those `given`, others as in XTR-WARP: t′ is √(8 · tokens) in whole thousands; but it has a least here."""
        t_prime = _LARGEST_T_PRIME
        if centroids <= _MANY_CENTROIDS:
            t_prime = max(_LEAST_T_PRIME, math.isqrt(8 * tokens) // 1000 * 1000)
        nprobe = min(given.get("nprobe", _NPROBE), centroids)
        return cls(nprobe, given.get("t_prime", t_prime), min(max(_BOUND, nprobe), centroids))


def checked_parameters(mode: str | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that are not None; without a `mode` it is plaid. Raises `UsageError` for an unknown mode, another
    mode's parameter, a bad value.
    """
    mode = mode or "plaid"
    if mode not in MODES:
        raise UsageError(f"plaid search: mode {mode!r} is unknown: {suggest(mode, MODES)}")
    kept = {name: value for name, value in given.items() if value is not None}
    for name, value in kept.items():
        if name not in MODES[mode]:
            owner = next((other for other, names in MODES.items() if name in names), None)
            reason = f"it is of mode {owner}" if owner else suggest(name, MODES[mode] or PARAMETERS)
            raise UsageError(f"plaid search: {name} has no effect in mode {mode}: {reason}")
        _check(name, value)
    return kept


def _check(name: str, value: Any) -> None:
    if name == "threshold":
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UsageError(f"plaid search: threshold is {value!r}, expected a number, a cosine")
        return
    least = 0 if name == "t_prime" else 1
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"plaid search: {name} is {value!r}, expected a whole number, at least {least}")
