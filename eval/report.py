"""A report: what each run scored, how sure that is, what separates it from the baseline, and what was left out.

`make_report` builds it from evaluations, `write_report` writes it as HTML, Markdown, LaTeX, JSON or text by the path's
ending.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError, suggest
from .comparison import Comparison, Difference, compare
from .evaluation import Evaluation
from .explorer import Explorer
from .grammar import parse_measures
from .measure import Measure
from .significance import Interval, bootstrap


@dataclass(frozen=True)
class Row:
    """One run of a report: its evaluation, the interval of each mean, and the seconds it took a query, if known."""

    evaluation: Evaluation
    intervals: dict[str, Interval]
    seconds: float | None = None
    #: What the run's making counted: texts cut, documents without a text, answers repaired, and the like.
    made: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.evaluation.name


@dataclass(frozen=True, eq=False)
class Report:
    """Named rows by measures, with intervals, corrected tests against `comparison.baseline`, counts and warnings.

    `facts` are short lines on what made it (versions, dataset, date): what the reader needs to believe the numbers.
    `query_texts` may name the texts of queries, for the list of the hardest ones.
    """

    title: str
    rows: tuple[Row, ...]
    measures: tuple[Measure, ...]
    comparison: Comparison
    warnings: tuple[str, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)
    query_texts: dict[str, str] = field(default_factory=dict)
    explorer: Explorer | None = None

    @property
    def main(self) -> Measure:
        """The measure that is plotted and named in the summary: the first that is a mean."""
        return self.comparison.measures[0] if self.comparison.measures else self.measures[0]

    @property
    def baseline(self) -> str | None:
        return self.comparison.baseline

    def best(self, measure: Measure) -> set[str]:
        """Names of the runs with the highest mean, several where they are equal; none for Judged@k or a single run."""
        if len(self.rows) < 2 or measure not in self.comparison.measures:
            return set()
        means = {row.name: row.evaluation.mean(measure) for row in self.rows}
        top = max(means.values())
        return {name for name, mean in means.items() if mean >= top - 1e-12}

    def difference(self, run: str, measure: Measure) -> Difference | None:
        return self.comparison.find(run, measure) if self.baseline is not None and run != self.baseline else None

    def summary(self) -> str:
        """One sentence: the best run by the main measure, and how it stands to the baseline."""
        row = max(self.rows, key=lambda row: row.evaluation.mean(self.main))
        low, high = row.intervals[str(self.main)]
        equal = [other.name for other in self.rows if other.name in self.best(self.main)]
        if len(self.rows) == 1:
            text = f"{row.name} has {self.main}"
        elif len(equal) > 1:
            text = f"{', '.join(equal[:-1])} and {equal[-1]} are best by {self.main}:"
        else:
            text = f"{row.name} is best by {self.main}:"
        text += f" {row.evaluation.mean(self.main):.4f} [{low:.3f}, {high:.3f}]"
        difference = self.difference(row.name, self.main)
        if difference is not None:
            text += (
                f", {difference.mean:+.4f} [{difference.interval.low:+.3f}, {difference.interval.high:+.3f}] against "
                f"{difference.baseline}, Holm p {p_text(difference.holm_randomisation)}"
            )
        return text + "."

    def hardest(self, count: int = 10) -> list[tuple[str, float, float]]:
        """(query id, mean over the runs, best run's value) of the queries with the lowest mean by the main measure.

        Queries that no run can score on, for want of a relevant document, are left out.
        """
        evaluation = self.rows[0].evaluation
        values = np.column_stack([row.evaluation[self.main] for row in self.rows])
        hopeless = set(evaluation.no_relevant)
        order = np.argsort(values.mean(axis=1), kind="stable").tolist()
        rows = [i for i in order if evaluation.query_ids[i] not in hopeless][:count]
        return [(evaluation.query_ids[i], float(values[i].mean()), float(values[i].max())) for i in rows]

    def notes(self) -> list[str]:
        """What the numbers are over and what was left out, one sentence each."""
        first = self.rows[0].evaluation
        over = f"Means are over all {len(first)} judged queries"
        if first.part_of_query is not None:
            over = f"Means are over {int(first.part_of_query.max()) + 1} parts of the collection ({len(first)} queries)"
        notes = [f"{over}; a query without results counts as 0."]
        if first.no_relevant:
            notes.append(f"{len(first.no_relevant)} of them have no relevant document and are 0 for every run.")
        for row in self.rows:
            counts = row.evaluation.counts
            if counts["missing"]:
                notes.append(f"{row.name}: {counts['missing']} judged queries have no results.")
            if counts["unjudged_queries"]:
                notes.append(
                    f"{row.name}: {counts['unjudged_queries']} queries ({counts['dropped_rows']} rows) have no judgements and "
                    "do not count."
                )
        if self.comparison.differences:
            notes.append(
                f"Tests: paired randomisation and paired t, two-sided. {self.comparison.family}. "
                f"Brackets hold {self.comparison.confidence:.0%} bootstrap intervals over queries."
            )
        return notes

    def account(self) -> tuple[list[str], list[list[int]]]:
        """What each run's numbers are over and what its making left out, cut or repaired: names of counts, a row of them a run.
        Counts that are 0 for every run are left away, but for the first three.
        """
        told = [_COUNTS | dict.fromkeys(row.made, "") for row in self.rows]
        names = list(dict.fromkeys(name for row in told for name in row))
        table = [[(row.evaluation.counts | dict(row.made)).get(name, 0) for name in names] for row in self.rows]
        kept = [i for i, name in enumerate(names) if i < 3 or any(row[i] for row in table)]
        header = [_COUNTS.get(names[i], names[i].replace("_", " ")) for i in kept]
        return header, [[row[i] for i in kept] for row in table]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the per-query values, ready for JSON."""
        return {
            "title": self.title,
            "facts": self.facts,
            "measures": [str(measure) for measure in self.measures],
            "runs": {row.name: self._row_dict(row) for row in self.rows},
            "comparison": self.comparison.to_dict(),
            "hardest": [{"query": q, "mean": mean, "best": best} for q, mean, best in self.hardest()],
            "notes": self.notes(),
            "warnings": list(self.warnings),
        }

    @staticmethod
    def _row_dict(row: Row) -> dict[str, Any]:
        means = row.evaluation.means
        return {
            "means": means,
            "intervals": {name: list(interval) for name, interval in row.intervals.items()},
            "counts": row.evaluation.counts,
            "made": dict(row.made),
            "missing": list(row.evaluation.missing),
            "unjudged": list(row.evaluation.unjudged),
            "seconds_per_query": row.seconds,
        }


#: Counts of an evaluation as the account names them.
_COUNTS = {
    "evaluated": "judged queries",
    "missing": "without results (count 0)",
    "unjudged_queries": "queries without judgements (do not count)",
    "dropped_rows": "their rows",
    "no_relevant": "without a relevant document (0 for every run)",
}


def p_text(p: float | None) -> str:
    """A p value as one reads it: `= 0.012`, `< 0.0001`."""
    if p is None:
        return "—"
    return "< 0.0001" if p < 0.0001 else f"= {p:.4f}"


def with_judged(measures: str | Measure | Iterable[str | Measure]) -> list[Measure]:
    """The measures, and for each nDCG@k the Judged@k that says how far to believe it."""
    judged = parse_measures("Judged@10")[0]
    chosen = parse_measures(measures)
    wanted: list[Measure] = []
    for measure in chosen:
        wanted.append(measure)
        beside = judged.with_cutoff(measure.cutoff)
        if measure.registered_name == "nDCG" and measure.cutoff is not None and beside not in chosen:
            wanted.append(beside)
    return list(dict.fromkeys(wanted))


def make_report(
    evaluations: Iterable[Evaluation],
    *,
    title: str = "Evaluation",
    baseline: str | None = None,
    seconds: Mapping[str, float] | None = None,
    warnings: Iterable[str] = (),
    facts: Mapping[str, str] | None = None,
    query_texts: Mapping[str, str] | None = None,
    made: Mapping[str, Mapping[str, int]] | None = None,
    explorer: Explorer | None = None,
    **options: Any,
) -> Report:
    """Build a report. All evaluations must be of the same queries and measures; see `with_judged` for what to ask.

    `baseline` names the run that the others are compared with; the first one unless given. `seconds` are per query, by
    run name, and so is `made`: what the making of a run counted (`counts_of`). `explorer` shows queries one by one on the HTML
    page. `options` go to `compare` (family, confidence, resamples, permutations, seed, hedges). Judged@k is shown
    but not tested: more judged documents are no merit.
    """
    evaluations = list(evaluations)
    if not evaluations:
        raise UsageError("a report needs at least one evaluation")
    names = [evaluation.name for evaluation in evaluations]
    for name in seconds or {}:
        if name not in names:
            raise UsageError(f"seconds are given for {name!r}, which is not among the runs: {suggest(name, names)}")
    tested = [m for m in evaluations[0].measures if m.aggregate == "mean" and m.merit == "higher"]
    comparison = compare(
        [evaluation.only(tested) for evaluation in evaluations], baseline=baseline or names[0], **options
    )
    settings = {key: options[key] for key in ("confidence", "resamples", "seed") if key in options}
    # All at once, so that the queries of the resamples are drawn once: they are the same for every column.
    columns = [evaluation.weighted(measure) for evaluation in evaluations for measure in evaluation.measures]
    drawn = iter(bootstrap(np.column_stack(columns), **settings))
    rows = []
    for evaluation in evaluations:
        intervals = {str(measure): next(drawn) for measure in evaluation.measures}
        row_made = (made or {}).get(evaluation.name, {})
        rows.append(Row(evaluation, intervals, (seconds or {}).get(evaluation.name), row_made))
    return Report(
        title=title,
        rows=tuple(rows),
        measures=evaluations[0].measures,
        comparison=comparison,
        warnings=tuple(dict.fromkeys(warnings)),
        facts=dict(facts or {}),
        query_texts=dict(query_texts or {}),
        explorer=explorer,
    )


#: Counts in a run's provenance that say what its making could not take whole.
_MADE = ("truncated", "without_text", "failed_queries", "filtered_out", "queries_left_empty")


def counts_of(provenance: Mapping[str, Any]) -> dict[str, int]:
    """What a run's provenance counts as cut, missing, failed or repaired."""
    return {
        name: int(value)
        for name, value in provenance.items()
        if (name in _MADE or name.startswith("repaired")) and isinstance(value, int) and not isinstance(value, bool)
    }


def write_report(report: Report, path: str | Path) -> None:
    """Write `.html`, `.md`, `.tex`, `.json` or `.txt`, whole or not at all."""
    from ..files import write_whole
    from .rendering import FORMATS, render

    ending = Path(path).suffix.removeprefix(".").lower()
    if ending not in FORMATS:
        raise UsageError(f"{path}: a report is written as {', '.join('.' + name for name in FORMATS)}, by the ending")
    with write_whole(path) as stream:
        stream.write(render(report, ending).encode())
