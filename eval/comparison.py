"""Compare runs on the same queries: difference, interval, two paired tests with Holm's correction, effect size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np

from ..errors import UsageError, suggest
from ..records import Run
from .engine import Ties
from .evaluation import AnyQrels, AnyRun, Evaluation, evaluate
from .grammar import parse_measures
from .measure import Measure
from .significance import EQUAL, Interval, bootstrap, effect_size, holm, paired_t, randomisation


@dataclass(frozen=True)
class Difference:
    """What separates `run` from `baseline` by one measure; `mean` is run minus baseline.

    `p_t` and `p_randomisation` are two-sided and uncorrected, the `holm_…` ones corrected over the comparison's family.
    Where every query differs by the same amount, t and effect size do not exist: they are None and `note` says why.
    """

    run: str
    baseline: str
    measure: str
    mean: float
    interval: Interval
    wins: int
    ties: int
    losses: int
    p_randomisation: float
    holm_randomisation: float
    t: float | None
    df: int
    p_t: float | None
    holm_t: float | None
    effect: float | None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Named evaluations of the same queries, and the differences between them."""

    evaluations: tuple[Evaluation, ...]
    measures: tuple[Measure, ...]
    baseline: str | None
    differences: tuple[Difference, ...]
    family: str
    confidence: float

    def find(self, run: str, measure: str | Measure, baseline: str | None = None) -> Difference | None:
        """The difference of `run` from `baseline` (the comparison's own unless named), or None."""
        baseline = baseline or self.baseline
        for difference in self.differences:
            if (difference.run, difference.measure) == (run, str(measure)) and baseline in (None, difference.baseline):
                return difference
        return None

    def to_dict(self) -> dict[str, Any]:
        return {
            "baseline": self.baseline,
            "family": self.family,
            "confidence": self.confidence,
            "differences": [asdict(d) | {"interval": list(d.interval)} for d in self.differences],
        }


def compare(
    runs: Mapping[str, AnyRun | Evaluation] | Iterable[Run | Evaluation],
    qrels: AnyQrels | None = None,
    measures: str | Measure | Iterable[str | Measure] | None = None,
    *,
    baseline: str | None = None,
    family: Literal["all", "measure"] = "all",
    confidence: float = 0.95,
    resamples: int = 10_000,
    permutations: int = 100_000,
    seed: int = 0,
    hedges: bool = False,
    ties: Ties = "float32",
) -> Comparison:
    """Compare runs, or evaluations made before, with `baseline`; without one every pair is compared.

    `family` says over which tests Holm's correction runs: "all" that this comparison makes, or those of one "measure".
    Runs, or plain dicts by name, need `qrels` and `measures`. All must have been evaluated on the same queries with the
    same measures. Measures of no merit, such as Judged@k, are not tested.
    """
    if family not in ("all", "measure"):
        raise UsageError(
            f"family={family!r}: expected 'all' (every test made here) or 'measure' (those of one measure)"
        )
    evaluations = _evaluations(runs, qrels, measures, ties)
    names = [evaluation.name for evaluation in evaluations]
    if baseline is not None and baseline not in names:
        raise UsageError(f"the baseline {baseline!r} is not among the runs: {suggest(baseline, names)}")
    if baseline is None:
        pairs = [(b, a) for a, b in combinations(evaluations, 2)]
    else:
        reference = evaluations[names.index(baseline)]
        pairs = [(evaluation, reference) for evaluation in evaluations if evaluation is not reference]
    tested = [m for m in evaluations[0].measures if m.aggregate == "mean" and m.merit != "none"]
    cells = [_Cell(run, reference, measure) for measure in tested for run, reference in pairs]
    differences: list[Difference] = []
    if cells:
        table = np.column_stack([cell.differences() for cell in cells])
        intervals = bootstrap(table, confidence=confidence, resamples=resamples, seed=seed)
        p_values = randomisation(table, permutations=permutations, seed=seed)
        differences = _test(cells, table, intervals, p_values, family, hedges)
    return Comparison(
        tuple(evaluations), tuple(tested), baseline, tuple(differences), _family(family, pairs, tested), confidence
    )


class _Cell(NamedTuple):
    """One test: two runs and a measure."""

    run: Evaluation
    baseline: Evaluation
    measure: Measure

    def differences(self) -> np.ndarray:
        return self.run.weighted(self.measure) - self.baseline.weighted(self.measure)


def _test(
    cells: list[_Cell],
    table: np.ndarray,
    intervals: list[Interval],
    p_values: list[float],
    family: str,
    hedges: bool,
) -> list[Difference]:
    """Correct the tests' p values within their families and put each test's facts together."""
    columns = list(table.T)
    groups = [str(cell.measure) if family == "measure" else "" for cell in cells]
    t_tests = [paired_t(column) for column in columns]
    adjusted = _holm_by_group(groups, p_values)
    adjusted_t = _holm_by_group(groups, [test.p for test in t_tests])
    differences = []
    for i, (cell, column) in enumerate(zip(cells, columns, strict=True)):
        wins, losses = int((column > EQUAL).sum()), int((column < -EQUAL).sum())
        differences.append(
            Difference(
                run=cell.run.name,
                baseline=cell.baseline.name,
                measure=str(cell.measure),
                mean=float(column.mean()),
                interval=intervals[i],
                wins=wins,
                ties=len(column) - wins - losses,
                losses=losses,
                p_randomisation=p_values[i],
                holm_randomisation=adjusted[i] or 0.0,
                t=t_tests[i].t,
                df=t_tests[i].df,
                p_t=t_tests[i].p,
                holm_t=adjusted_t[i],
                effect=effect_size(column, hedges=hedges),
                note=_note(column),
            )
        )
    return differences


def _evaluations(
    runs: Mapping[str, AnyRun | Evaluation] | Iterable[Run | Evaluation],
    qrels: AnyQrels | None,
    measures: str | Measure | Iterable[str | Measure] | None,
    ties: Ties,
) -> list[Evaluation]:
    named = list(runs.items()) if isinstance(runs, Mapping) else [(run.name, run) for run in runs]
    wanted = None if measures is None else parse_measures(measures)
    evaluations = []
    for name, run in named:
        if not isinstance(run, Evaluation):
            if qrels is None or wanted is None:
                raise UsageError(f"run {name!r} is not evaluated yet: compare needs qrels and measures")
            run = evaluate(run, qrels, wanted, ties=ties, name=name)
        evaluations.append(run if run.name == name else run.renamed(name))
    if not evaluations:
        raise UsageError("nothing to compare: no run is given")
    names = [evaluation.name for evaluation in evaluations]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two runs are called {name!r}: give each its own name")
    first = evaluations[0]
    for other in evaluations[1:]:
        if other.query_ids != first.query_ids or other.measures != first.measures:
            raise UsageError(
                f"{first.name!r} ({len(first)} queries) and {other.name!r} ({len(other)} queries) were not evaluated on the "
                "same queries with the same measures: evaluate both against the same judgements"
            )
    return evaluations


def _holm_by_group(groups: list[str], p_values: Iterable[float | None]) -> list[float | None]:
    """Holm's correction within each group; a test that does not exist (None) does not count as one."""
    values = list(p_values)
    adjusted: list[float | None] = [None] * len(values)
    for group in dict.fromkeys(groups):
        members = [i for i, p in enumerate(values) if groups[i] == group and p is not None]
        for i, p in zip(members, holm([values[i] or 0.0 for i in members]), strict=True):
            adjusted[i] = p
    return adjusted


def _note(differences: np.ndarray) -> str:
    if len(differences) < 2:
        return "one query only: no t-test and no effect size"
    if np.ptp(differences) > EQUAL:
        return ""
    if abs(float(differences[0])) <= EQUAL:
        return "equal on every query: no t-test and no effect size"
    return f"every query differs by the same {float(differences[0]):.4g}: no t-test and no effect size"


def _family(family: str, pairs: list[Any], measures: list[Measure]) -> str:
    names = ", ".join(map(str, measures))
    runs = f"{len(pairs)} comparison{'s' if len(pairs) != 1 else ''} of runs"
    if family == "measure":
        return f"Holm over the {runs} of each measure ({names})"
    return f"Holm over all {len(pairs) * len(measures)} tests: {runs} × {len(measures)} measures ({names})"
