"""Do two sets of judgements rank systems alike? The question that matters where labels are only a means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import UsageError
from ...records import Qrels, Run
from ..evaluation import evaluate
from ..measure import Measure
from .rankings import RankBiasedOverlap, kendall_tau, rank_biased_overlap, tau_ap


@dataclass(frozen=True)
class SystemAgreement:
    """Two rankings of the same systems by `measure`; `scores[name]` are the means by the first and the second judgements.

    `tau` is Kendall's τ_b; `tau_ap` has the first as tested and the second as reference, and is None where scores are
    equal; `overlap` is RBO with p = .9 of the systems, equal scores by name.
    """

    measure: str
    scores: dict[str, tuple[float, float]]
    tau: float | None
    tau_ap: float | None
    overlap: RankBiasedOverlap
    largest_drop: int

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "measure": self.measure,
            "systems": len(self.scores),
            "tau": self.tau,
            "tau_ap": self.tau_ap,
            "rbo": self.overlap.extrapolated,
            "largest_drop": self.largest_drop,
            "scores": {name: {"first": a, "second": b} for name, (a, b) in self.scores.items()},
        }


def system_agreement(
    runs: Mapping[str, Run], first: Qrels, second: Qrels, measures: Iterable[Measure]
) -> list[SystemAgreement]:
    """Score every run by both judgements, over the queries that both judge, and compare the rankings of runs.

    `largest_drop` is the most places that a system of the second ranking falls in the first. Needs two runs or more.
    """
    if len(runs) < 2:
        raise UsageError(f"a ranking of systems needs two runs or more, got {len(runs)}")
    shared = [query for query in first if query in second]
    chosen = list(measures)
    both = [
        [evaluate(run.select(shared), _only(qrels, shared), chosen, name=name) for name, run in runs.items()]
        for qrels in (first, second)
    ]
    found = []
    for measure in chosen:
        a, b = ([evaluation.mean(measure) for evaluation in evaluations] for evaluations in both)
        found.append(compared(str(measure), dict(zip(runs, zip(a, b, strict=True), strict=True))))
    return found


def compared(measure: str, scores: dict[str, tuple[float, float]]) -> SystemAgreement:
    """The agreement of two scores by system."""
    names = sorted(scores)
    first, second = ([scores[name][i] for name in names] for i in (0, 1))
    by_first, by_second = (
        [names[i] for i in np.argsort(-np.array(values), kind="stable")] for values in (first, second)
    )
    place = {name: i for i, name in enumerate(by_first)}
    return SystemAgreement(
        measure,
        scores,
        kendall_tau(first, second),
        tau_ap(first, second),
        rank_biased_overlap(by_first, by_second),
        max(place[name] - i for i, name in enumerate(by_second)),
    )


def _only(qrels: Qrels, queries: list[str]) -> Qrels:
    return Qrels.from_dict({query: qrels[query] for query in queries}, name=qrels.name)
