"""A leaderboard: systems by data sets from a store of results, tested against a baseline, beside published numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import UsageError, suggest
from .comparison import Difference, compare
from .grammar import parse_measures
from .published import published_results
from .results_store import Result
from .significance import holm
from .suite import load_suite, suite_names

#: What a system costs → how it is told. All are lower for better.
COSTS = {
    "seconds_per_query": "seconds a query",
    "tokens_per_query": "tokens a query",
    "index_bytes": "bytes of the index",
}


@dataclass(frozen=True)
class Cell:
    """A system's score on one data set; its difference from the baseline with the p value corrected over the whole board."""

    score: float
    difference: Difference | None = None
    holm: float | None = None

    @property
    def verdict(self) -> str:
        """`win`, `loss`, or `tie` where the difference from the baseline is not significant; "" without one."""
        if self.difference is None or self.holm is None:
            return ""
        if self.holm >= 0.05 or self.difference.mean == 0:
            return "tie"
        return "win" if self.difference.mean > 0 else "loss"


@dataclass(frozen=True)
class BoardRow:
    """One system: its cells by data set, its labelled means (None where a data set is missing), its mean costs."""

    system: str
    cells: dict[str, Cell]
    means: dict[str, float | None]
    cost: dict[str, float] = field(default_factory=dict)
    source: str = ""
    setting: str = ""

    @property
    def published(self) -> bool:
        return bool(self.source)

    def record(self) -> tuple[int, int, int]:
        """Data sets won, tied and lost against the baseline."""
        counts = Counter(cell.verdict for cell in self.cells.values())
        return counts["win"], counts["tie"], counts["loss"]


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """Rows, best first, by data sets, of one measure; `notes` say what is missing and what could not be tested."""

    title: str
    measure: str
    datasets: tuple[str, ...]
    rows: tuple[BoardRow, ...]
    baseline: str | None
    labels: tuple[str, ...]
    notes: tuple[str, ...]
    facts: dict[str, str] = field(default_factory=dict)

    @property
    def shown_labels(self) -> tuple[str, ...]:
        """The labelled means that say more than a column of the board does."""
        return self.labels[1:] if len(self.datasets) == 1 else self.labels

    @property
    def local(self) -> list[BoardRow]:
        return [row for row in self.rows if not row.published]

    def best(self, dataset: str) -> float:
        """The highest score of a local system on a data set."""
        return max(row.cells[dataset].score for row in self.local if dataset in row.cells)

    def row(self, system: str) -> BoardRow:
        return next(row for row in self.rows if row.system == system)

    def points(self, cost: str) -> list[tuple[str, float, float]]:
        """(system, mean cost, score) of the local systems that have both; the score is the first labelled mean."""
        return [
            (row.system, row.cost[cost], score)
            for row in self.local
            if row.cost.get(cost, 0) > 0 and (score := row.means[self.labels[0]]) is not None
        ]

    def to_dict(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "measure": self.measure,
            "datasets": list(self.datasets),
            "baseline": self.baseline,
            "rows": [
                {
                    "system": row.system,
                    "scores": {name: cell.score for name, cell in row.cells.items()},
                    "p_holm": {name: cell.holm for name, cell in row.cells.items() if cell.holm is not None},
                    "win_tie_loss": list(row.record()) if self.tested(row) else None,
                    "means": row.means,
                    "cost": row.cost,
                    "published": row.published,
                    "source": row.source,
                    "setting": row.setting,
                }
                for row in self.rows
            ],
            "notes": list(self.notes),
            "facts": self.facts,
        }

    def tested(self, row: BoardRow) -> bool:
        return any(cell.verdict for cell in row.cells.values())


def pareto_front(points: Sequence[tuple[str, float, float]]) -> list[str]:
    """Names of the points (name, cost, score) that no other beats in one without losing in the other, cheapest first."""
    front, best = [], -np.inf
    for name, _, score in sorted(points, key=lambda point: (point[1], -point[2])):
        if score > best:
            front.append(name)
            best = score
    return front


def make_leaderboard(
    results: Iterable[Result],
    *,
    title: str = "Leaderboard",
    measure: str | None = None,
    baseline: str | None = None,
    published: bool = True,
    seed: int = 42,
) -> Leaderboard:
    """The board of these results by one measure: nDCG@10, or the first that all have, unless named.

    The other systems are tested against `baseline` (the first system by name unless given) on each data set by paired
    randomisation, with Holm's correction over all these tests. `published` adds the published numbers on these data sets.
    """
    results = list(results)
    measure = _measure(results, measure)
    used = [result for result in results if measure in result.means]
    notes = _left_out(results, used, measure)
    datasets = tuple(dict.fromkeys(result.dataset for result in used))
    systems = sorted({result.system for result in used})
    if baseline is not None and baseline not in systems:
        raise UsageError(f"the baseline {baseline!r} is not among the systems: {suggest(baseline, systems)}")
    baseline = baseline or (systems[0] if len(systems) > 1 else None)
    table = {(result.system, result.dataset): result for result in used}
    cells, told = _tested(table, datasets, systems, baseline, measure, seed)
    labels, holes = _labels(table, datasets, systems)
    rows = [_row(system, cells[system], labels, [r for r in used if r.system == system]) for system in systems]
    if published:
        rows += _published(datasets, labels, measure, {row.system for row in rows})
    rows.sort(key=lambda row: _sort_key(row, labels, datasets))
    return Leaderboard(
        title=title,
        measure=measure,
        datasets=datasets,
        rows=tuple(rows),
        baseline=baseline,
        labels=tuple(labels),
        notes=(*notes, *holes, *told),
        facts=_facts(used),
    )


def _measure(results: list[Result], measure: str | None) -> str:
    counts = Counter(name for result in results for name in result.means)
    if measure is not None:
        wanted = str(parse_measures(measure)[0])
        if wanted not in counts:
            raise UsageError(f"no result has {wanted}: {suggest(wanted, counts)}")
        return wanted
    if counts["nDCG@10"] == len(results):
        return "nDCG@10"
    return next((name for name, count in counts.items() if count == len(results)), counts.most_common(1)[0][0])


def _left_out(results: list[Result], used: list[Result], measure: str) -> list[str]:
    names = sorted({f"{result.system} on {result.dataset}" for result in results if result not in used})
    return [f"Without {measure} and left out: {', '.join(names)}."] if names else []


# ---- tests ----------------------------------------------------------------------------------------------------------


def _tested(
    table: dict[tuple[str, str], Result],
    datasets: Sequence[str],
    systems: Sequence[str],
    baseline: str | None,
    measure: str,
    seed: int,
) -> tuple[dict[str, dict[str, Cell]], list[str]]:
    """Cells by system and data set, and notes on what could not be tested. Holm's family is all tests of the board."""
    differences: dict[tuple[str, str], Difference] = {}
    notes = []
    for dataset in datasets:
        reference = table.get((baseline, dataset)) if baseline else None
        if reference is None:
            if baseline:
                notes.append(f"{dataset}: {baseline} has no result, so nothing is tested there.")
            continue
        others = []
        for system in systems:
            other = table.get((system, dataset))
            if other is None or system == baseline:
                continue
            if other.query_ids != reference.query_ids:
                notes.append(f"{dataset}: {system} and {baseline} have other queries and are not tested.")
            else:
                others.append(other)
        if others:
            evaluations = [result.evaluation(measure) for result in [reference, *others]]
            if evaluations[0].measures[0].aggregate != "mean" or evaluations[0].measures[0].merit != "higher":
                continue
            for found in compare(evaluations, baseline=baseline, seed=seed).differences:
                differences[found.run, dataset] = found
                if found.note:
                    notes.append(f"{dataset}, {found.run}: {found.note}.")
    adjusted = dict(zip(differences, holm([d.p_randomisation for d in differences.values()]), strict=True))
    cells = {
        system: {
            dataset: Cell(result.means[measure], differences.get((system, dataset)), adjusted.get((system, dataset)))
            for dataset in datasets
            if (result := table.get((system, dataset))) is not None
        }
        for system in systems
    }
    if differences:
        notes.append(
            f"Tests against {baseline}: paired randomisation, two-sided, Holm over all {len(differences)} tests of the board; "
            "a win or loss has a corrected p below 0.05, the rest are ties."
        )
    return cells, notes


# ---- means, rows ----------------------------------------------------------------------------------------------------


def _labels(
    table: dict[tuple[str, str], Result], datasets: Sequence[str], systems: Sequence[str]
) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """The labelled means that some system has all data sets for, first that over all data sets of the board; and the holes."""
    labels: dict[str, tuple[str, ...]] = {f"mean of all {len(datasets)} here": tuple(datasets)}
    notes = []
    for suite in sorted({result.suite for result in table.values() if result.suite}):
        if suite not in suite_names():
            continue
        for label, names in load_suite(suite).means.items():
            wanted = tuple(f"{suite}/{name}" for name in names)
            missing = [name for name in wanted if name not in datasets]
            if missing:
                notes.append(f"No {label} of {suite}: {len(missing)} of its {len(wanted)} sets are not here.")
            else:
                labels[f"{suite}, {label}"] = wanted
    for system in systems:
        absent = [dataset for dataset in datasets if (system, dataset) not in table]
        if absent:
            notes.append(f"{system} has no result on {', '.join(absent)}: it has no mean over all of these.")
    return labels, notes


def _row(system: str, cells: dict[str, Cell], labels: dict[str, tuple[str, ...]], results: list[Result]) -> BoardRow:
    cost = {
        name: float(np.mean([result.cost[name] for result in results]))
        for name in COSTS
        if results and all(name in result.cost for result in results)
    }
    source, setting = results[0].source, results[0].setting
    return BoardRow(system, cells, _means(cells, labels), cost, source, setting)


def _means(cells: dict[str, Cell], labels: dict[str, tuple[str, ...]]) -> dict[str, float | None]:
    return {
        label: float(np.mean([cells[name].score for name in names])) if all(name in cells for name in names) else None
        for label, names in labels.items()
    }


def _published(
    datasets: Sequence[str], labels: dict[str, tuple[str, ...]], measure: str, taken: set[str]
) -> list[BoardRow]:
    by_system: dict[str, list[Result]] = {}
    for result in published_results():
        if result.dataset in datasets and measure in result.means:
            by_system.setdefault(result.system, []).append(result)
    rows = []
    for system, results in by_system.items():
        name = f"{system}, published" if system in taken else system
        cells = {result.dataset: Cell(result.means[measure]) for result in results}
        rows.append(_row(name, cells, labels, results))
    return rows


def _sort_key(row: BoardRow, labels: dict[str, tuple[str, ...]], datasets: Sequence[str]) -> tuple[float, float, str]:
    mean = row.means[next(iter(labels))]
    scores = [cell.score for cell in row.cells.values()]
    return (
        0.0 if mean is not None else 1.0,
        -(mean if mean is not None else float(np.mean(scores or [0]))),
        row.system,
    )


def _facts(results: list[Result]) -> dict[str, str]:
    def all_of(name: str) -> str:
        return ", ".join(sorted({str(result.provenance[name]) for result in results if result.provenance.get(name)}))

    facts = {"results": str(len(results)), "dates": all_of("date")}
    seeds = all_of("seed")
    return {name: value for name, value in (facts | {"seeds": seeds}).items() if value}
