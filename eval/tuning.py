"""How fast an approximate index is at how much of the exact answer, on the user's own queries; the cheapest setting that
finds enough.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError, UsageError
from ..index.exact import exact_scores
from ..index.flat import FlatIndex
from ..vectors import Dense

#: What is tuned: doubled from a first value on.
_TUNED = ("nprobe", "ef", "candidates")

_MOST = 1 << 14

#: Numbers of verified candidates, in multiples of k: for kinds whose codes alone don't find enough.
_VERIFIED = (3, 10, 30, 100)

#: Bisections between the last value that finds too little and the first that finds enough.
_REFINEMENTS = 4


@dataclass(frozen=True)
class Setting:
    """One point of the curve: `parameters` of a search, `recall` (mean over queries), and milliseconds a query, one query
    at a time: median and 95th percentile.
    """

    parameters: dict[str, Any]
    recall: float
    milliseconds: float
    slowest: float


@dataclass(frozen=True)
class Curve:
    """What was measured, the setting that is chosen (None where none reaches the target), and the exact search's time."""

    settings: list[Setting]
    chosen: Setting | None
    exact_milliseconds: float


def tune(index: Any, queries: Dense, k: int, target: float) -> Curve:
    """Measure an approximate `index` with query vectors (n, d): share of the exact best `k` that it finds.

    A found document counts where its exact score is at least that of the k-th of the exact search, so that documents
    with equal vectors are alike. The parameter that the kind has is doubled until enough is found, then bisected between;
    codes whose own order does not reach the target are verified as well, deeper and deeper. Chosen is the setting with
    the least median time that reaches `target`. Raises `UsageError` for an exact index and one that has nothing to tune.
    """
    if not 0 < target <= 1:
        raise UsageError(f"tune: recall is {target}, expected a share above 0, up to 1")
    if k < 1:
        raise UsageError(f"tune: k is {k}, expected at least 1")
    if not len(queries):
        raise InputError("tune: there are no queries to measure with")
    name, fixed = _tunable(index)
    truth, exact_times = _exact(index, queries, k)
    trial = _Trial(index, queries, k, truth, fixed)
    reached = _reached(trial, name, target)
    best = min(reached, key=lambda setting: setting.milliseconds, default=None)
    return Curve(trial.settings, best, 1000 * float(np.median(exact_times)))


def _reached(trial: _Trial, name: str | None, target: float) -> list[Setting]:
    """Settings that find enough, each the cheapest of its sort; none where there is none."""
    by_rule = trial.measure({})
    if name is None:
        found = by_rule if by_rule.recall >= target else _cheapest(trial, "verify", {}, target)
        return [found] if found else []
    if found := _cheapest(trial, name, {}, target):
        return [found]
    if not _verifies(trial.index):
        return []
    deeper = (_cheapest(trial, name, {"verify": times * trial.k}, target) for times in _VERIFIED)
    return [found for found in deeper if found]


def _tunable(index: Any) -> tuple[str | None, dict[str, Any]]:
    """The parameter that makes a search of the index dearer and better, and what else is to be set meanwhile."""
    kind = index.manifest.kind
    if not hasattr(index, "check_parameters"):
        raise UsageError(f"{index.path}: a {kind} index is searched exactly, there is nothing to tune")
    fixed = {"pq_weight": 0.0} if _takes(index, "pq_weight", 0.0) else {}  # the order that recall is measured against
    name = next((name for name in _TUNED if _takes(index, name, 1)), None)
    if name is None and not _verifies(index):
        raise UsageError(f"{index.path}: a {kind} index is searched with no parameter, there is nothing to tune")
    return name, fixed


def _takes(index: Any, name: str, value: Any) -> bool:
    try:
        index.check_parameters({name: value})
        index.search(Dense(np.ones((1, index.dim), np.float32)), 1, **{name: value})
    except UsageError:
        return False
    return True


def _verifies(index: Any) -> bool:
    return _takes(index, "verify", 1)


def _exact(index: FlatIndex, queries: Dense, k: int) -> tuple[np.ndarray, list[float]]:
    """The k-th best exact score (n,) of each query, and the seconds that each took."""
    bounds, times = [], []
    for query in _one_by_one(queries):
        start = time.perf_counter()
        (found,) = FlatIndex.search(index, query, k)
        times.append(time.perf_counter() - start)
        bounds.append(found.scores[-1])
    return np.array(bounds), times


def _one_by_one(queries: Dense) -> Iterator[Dense]:
    return (Dense(queries.values[i : i + 1]) for i in range(len(queries)))


@dataclass
class _Trial:
    """Measures settings, each once."""

    index: Any
    queries: Dense
    k: int
    bounds: np.ndarray
    fixed: dict[str, Any]

    def __post_init__(self) -> None:
        self.settings: list[Setting] = []
        self._wanted = min(self.k, len(self.index))
        self._prepared = self.index._prepared(self.queries)

    def measure(self, parameters: dict[str, Any]) -> Setting:
        parameters = parameters | self.fixed
        for done in self.settings:
            if done.parameters == parameters:
                return done
        for query in _one_by_one(Dense(self.queries.values[:3])):  # pages and caches are warm in use, too
            self.index.search(query, self.k, **parameters)
        hits, times = 0, []
        for i, query in enumerate(_one_by_one(self.queries)):
            start = time.perf_counter()
            (found,) = self.index.search(query, self.k, **parameters)
            times.append(time.perf_counter() - start)
            hits += self._hits(i, found.ids)
        recall = hits / (self._wanted * len(self.queries))
        setting = Setting(parameters, recall, 1000 * float(np.median(times)), 1000 * float(np.percentile(times, 95)))
        self.settings.append(setting)
        return setting

    def _hits(self, i: int, ids: Iterable[str]) -> int:
        vectors = self.index.vectors(self.index.texts.rows_of(list(ids)))
        scores = exact_scores(self.index.score_kind, self._prepared[i], vectors)
        return min(self._wanted, int((scores >= self.bounds[i]).sum()))


def _cheapest(trial: _Trial, name: str, extra: dict[str, Any], target: float) -> Setting | None:
    """The setting with the least value of `name` that finds enough; None where no value does."""
    least = 1 if name == "nprobe" else max(16, trial.k)  # less is raised to k by the search
    value, below = least, 0
    best, idle = -1.0, 0
    while True:
        setting = trial.measure({name: value} | extra)
        if setting.recall >= target:
            break
        idle = idle + 1 if setting.recall <= best else 0
        best = max(best, setting.recall)
        if idle == 2 or value >= min(_MOST, 2 * len(trial.index)):
            return None
        below, value = value, 2 * value
    for _ in range(_REFINEMENTS):
        middle = (below + value) // 2
        if middle in (below, value) or middle < least:
            break
        tried = trial.measure({name: middle} | extra)
        if tried.recall >= target:
            setting, value = tried, middle
        else:
            below = middle
    return setting
