"""Score a run: values per query, their mean, and the counts that say what the mean is over."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import InputError, UsageError, suggest
from ..records import Qrels, Run
from .engine import Ties, join
from .grammar import parse_measures
from .machine_labels import with_machine
from .measure import Measure

logger = logging.getLogger("cribble")

#: Runs and judgements, or the plain dicts that the field passes around.
AnyRun = Run | Mapping[str, Mapping[str, float]]
AnyQrels = Qrels | Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a run scored. `values` is (q, m) float64, one row per judged query and one column per measure.

    Every judged query counts, as in `trec_eval -c`: those in `missing`, which the run lacks or left empty, have 0.
    Queries in `unjudged` are in the run and in no judgement; they and their `dropped_rows` rows do not count.
    `no_relevant` are judged queries without a relevant document (label >= 1): 0 for every system, and in the mean.
    `weights` (q,) sum to 1 and are unequal only for a mean over the parts of a collection.
    """

    name: str
    query_ids: tuple[str, ...]
    measures: tuple[Measure, ...]
    values: np.ndarray
    missing: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    no_relevant: tuple[str, ...] = ()
    dropped_rows: int = 0
    weights: np.ndarray | None = None
    part_of_query: np.ndarray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.query_ids)

    @property
    def means(self) -> dict[str, float]:
        """Measure as text → its mean over all judged queries (counts such as NumRet: their sum)."""
        return {str(measure): self.mean(measure) for measure in self.measures}

    @property
    def counts(self) -> dict[str, int]:
        """How many queries were evaluated, missing from the run, without judgement, without a relevant document."""
        return {
            "evaluated": len(self.query_ids),
            "missing": len(self.missing),
            "unjudged_queries": len(self.unjudged),
            "no_relevant": len(self.no_relevant),
            "dropped_rows": self.dropped_rows,
        }

    def __getitem__(self, measure: str | Measure) -> np.ndarray:
        """Values of one measure, (q,) float64 in the order of `query_ids`."""
        return self.values[:, self._column(_one(measure))]

    def _column(self, measure: Measure) -> int:
        if measure not in self.measures:
            known = [str(m) for m in self.measures]
            raise UsageError(f"{self.name!r} was not evaluated with {str(measure)!r}: {suggest(str(measure), known)}")
        return self.measures.index(measure)

    def mean(self, measure: str | Measure) -> float:
        wanted = _one(measure)
        values = self[wanted]
        if wanted.aggregate == "sum":
            return float(values.sum())
        return float(values.mean() if self.weights is None else values @ self.weights)

    def weighted(self, measure: str | Measure) -> np.ndarray:
        """Values (q,) scaled so that their plain mean is `mean(measure)`: what intervals and tests work on."""
        wanted = _one(measure)
        values = self[wanted]
        if wanted.aggregate == "sum":
            return values * len(values)
        return values if self.weights is None else values * self.weights * len(values)

    def renamed(self, name: str) -> Evaluation:
        return replace(self, name=name)

    def only(self, measures: Iterable[Measure]) -> Evaluation:
        """The same evaluation with these of its measures."""
        chosen = tuple(measures)
        columns = [self._column(measure) for measure in chosen]
        return replace(self, measures=chosen, values=self.values[:, columns])

    def per_query(self, measure: str | Measure) -> dict[str, float]:
        return dict(zip(self.query_ids, self[measure].tolist(), strict=True))

    def to_dict(self) -> dict[str, dict[str, float]]:
        """`{query id: {measure: value}}`."""
        names = [str(measure) for measure in self.measures]
        return {
            q: dict(zip(names, row, strict=True)) for q, row in zip(self.query_ids, self.values.tolist(), strict=True)
        }


def _one(measure: str | Measure) -> Measure:
    found = parse_measures(measure)
    if len(found) > 1:
        raise UsageError(f"{measure!r} holds {len(found)} measures, expected one")
    return found[0]


def evaluate(
    run: AnyRun,
    qrels: AnyQrels,
    measures: str | Measure | Iterable[str | Measure],
    *,
    ties: Ties = "float32",
    name: str | None = None,
) -> Evaluation:
    """Score `run` against `qrels` as `trec_eval -c` does: every judged query counts, a missing one with 0.

    Rows with equal scores stand in descending order of document id; `ties` says in which precision scores are compared
    ("float32" as trec_eval up to 9.0.8 and pytrec_eval, "float64" as trec_eval 10). Plain dicts are taken too. Where some
    of the judgements are a machine's, `Machine@k` comes beside each measure: the share of such labels.
    Raises `InputError` if the two have no query in common, which is nearly always a mix-up of files.
    """
    run = run if isinstance(run, Run) else Run.from_dict(run)
    qrels = qrels if isinstance(qrels, Qrels) else Qrels.from_dict(qrels)
    chosen = tuple(with_machine(parse_measures(measures), qrels))
    joined = join(run, qrels, ties)
    if not joined.query_ids:
        raise InputError(f"{qrels.name} holds no judgements: nothing can be evaluated")
    judged = set(joined.query_ids)
    unjudged = tuple(query_id for query_id in run.query_ids if query_id not in judged)
    if len(run) and len(unjudged) == len(run):
        raise InputError(
            f"run {run.name!r} and {qrels.name} have no query in common (run: {run.query_ids[0]!r}, …; judgements: "
            f"{joined.query_ids[0]!r}, …): do they belong to the same collection and split?"
        )
    lengths = dict(zip(run.query_ids, np.diff(run.offsets).tolist(), strict=True))
    evaluation = Evaluation(
        name=name or run.name,
        query_ids=joined.query_ids,
        measures=chosen,
        values=np.column_stack([measure.values(joined) for measure in chosen]),
        missing=tuple(q for q, n in zip(joined.query_ids, joined.retrieved.tolist(), strict=True) if not n),
        unjudged=unjudged,
        no_relevant=tuple(q for q, n in zip(joined.query_ids, joined.num_relevant(1).tolist(), strict=True) if not n),
        dropped_rows=sum(lengths[query_id] for query_id in unjudged),
    )
    _tell(evaluation)
    return evaluation


def _tell(evaluation: Evaluation) -> None:
    """Say once what the mean counts as 0 and what it leaves out."""
    if evaluation.missing:
        logger.warning(
            "%s: %d of %d judged queries have no results and count as 0 (%s)",
            evaluation.name,
            len(evaluation.missing),
            len(evaluation),
            _some(evaluation.missing),
        )
    if evaluation.unjudged:
        logger.warning(
            "%s: %d queries of the run have no judgements; they and their %d rows do not count (%s)",
            evaluation.name,
            len(evaluation.unjudged),
            evaluation.dropped_rows,
            _some(evaluation.unjudged),
        )


def _some(ids: tuple[str, ...]) -> str:
    return ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")


def mean_of_parts(parts: Mapping[str, Evaluation], name: str | None = None) -> Evaluation:
    """One evaluation for a collection of sub-collections (CQADupStack): its mean is the mean of the parts' means.

    Queries are named `part/query`. Each query weighs 1 / (number of parts × queries in its part).
    """
    if not parts:
        raise UsageError("mean_of_parts: no part is given")
    evaluations = list(parts.values())
    measures = evaluations[0].measures
    for part, evaluation in parts.items():
        if evaluation.measures != measures:
            raise UsageError(
                f"mean_of_parts: part {part!r} was evaluated with other measures than {next(iter(parts))!r}"
            )
    sizes = [len(evaluation) for evaluation in evaluations]

    def together(what: str) -> tuple[str, ...]:
        ids: list[Any] = [f"{part}/{q}" for part, evaluation in parts.items() for q in getattr(evaluation, what)]
        return tuple(ids)

    return Evaluation(
        name=name or evaluations[0].name,
        query_ids=together("query_ids"),
        measures=measures,
        values=np.concatenate([evaluation.values for evaluation in evaluations]),
        missing=together("missing"),
        unjudged=together("unjudged"),
        no_relevant=together("no_relevant"),
        dropped_rows=sum(evaluation.dropped_rows for evaluation in evaluations),
        weights=np.repeat([1 / (len(parts) * size) for size in sizes], sizes),
        part_of_query=np.repeat(np.arange(len(parts)), sizes),
    )
