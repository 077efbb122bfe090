"""Scores: eval, compare, and whole experiments: run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..corpora import load_dataset
from ..envelope import Answer, Table
from ..errors import InputError, UsageError, suggest
from ..files import run_name
from ..records import Qrels, Run
from ..run_files import read_run

if TYPE_CHECKING:
    from ..eval.report import Report

logger = logging.getLogger("cribble")


def judgements(
    dataset: str | None, qrels: Path | None, measures: str | None
) -> tuple[Qrels, str, dict[str, frozenset[str]]]:
    """Judgements, measures, and the documents that must not count."""
    if (dataset is None) == (qrels is None):
        raise UsageError("name either --dataset or --qrels")
    if qrels is not None:
        return Qrels.read(qrels), measures or "nDCG@10 R@100", {}
    data = load_dataset(str(dataset))
    if data.parts:
        raise UsageError(
            f"{dataset} has {len(data.parts)} parts, each with its own runs: {', '.join(data.parts)}; name one"
        )
    if data.qrels is None:
        raise InputError(f"{dataset} has no judgements")
    return data.qrels, measures or data.measures, data.exclusions()


def read_runs(paths: Sequence[Path], exclude: dict[str, frozenset[str]]) -> dict[str, Run]:
    """Run files by their stems, without the documents that the dataset excludes."""
    return {name: read_run(path).drop(exclude) for name, path in by_stem(paths).items()}


def by_stem(paths: Sequence[Path]) -> dict[str, Path]:
    """Run files by their stems, as which results name them."""
    seen: dict[str, Path] = {}
    for path in paths:
        name = run_name(path)
        if name in seen:
            raise UsageError(
                f"two runs are called {name!r} ({path} is one): rename a file, results go by the file's stem"
            )
        seen[name] = path
    return seen


def evaluate_runs(
    paths: Sequence[Path],
    dataset: str | None,
    qrels: Path | None,
    measures: str | None,
    *,
    ties: str = "float32",
    per_query: bool = False,
) -> Answer:
    """Score run files; `results[RUN][MEASURE]`, RUN being the file's stem."""
    from ..eval import parse_measures
    from ..eval.run_scoring import score_files

    judged, chosen, exclude = judgements(dataset, qrels, measures)
    wanted = parse_measures(chosen)
    if ties not in ("float32", "float64"):
        raise UsageError(f"--ties {ties!r}: {suggest(ties, ('float32', 'float64'))}")
    results: dict[str, Any] = {}
    rows, shown = [], list(map(str, wanted))
    scored = score_files(by_stem(paths), judged, wanted, exclude=exclude, ties=ties)  # type: ignore[arg-type]
    for evaluation in (row.evaluation for row in scored):
        name = evaluation.name
        results[name] = dict(evaluation.means)
        shown = list(evaluation.means)  # more than was asked for, where a machine judged
        if per_query:
            results[name]["per_query"] = evaluation.to_dict()
        counts = evaluation.counts
        rows.append(
            [
                name,
                *(f"{value:.4f}" for value in evaluation.means.values()),
                str(counts["evaluated"]),
                str(counts["missing"]),
            ]
        )
    table = Table(["run", *shown, "queries", "missing"], rows)
    return Answer(results, [table])


def compare_runs(
    paths: Sequence[Path],
    dataset: str | None,
    qrels: Path | None,
    measures: str | None,
    *,
    baseline: str | None,
    out: Path | None,
    seed: int,
) -> Answer:
    """Score run files and test them against the baseline; write a report to `out` where given."""
    from ..eval.explorer import make_explorer
    from ..eval.report import make_report, with_judged, write_report
    from ..eval.run_scoring import score_files

    if len(paths) < 2:
        raise UsageError(f"compare needs at least two runs, got {len(paths)}: for one use `cribble eval`")
    judged, chosen, exclude = judgements(dataset, qrels, measures)
    wanted = with_judged(chosen)
    scored = list(score_files(by_stem(paths), judged, wanted, exclude=exclude))
    evaluations = [row.evaluation for row in scored]
    data = load_dataset(dataset) if dataset else None
    texts = {query.id: query.text for query in data.queries} if data else {}
    explorer = None
    if out is not None and out.suffix == ".html":
        explorer = make_explorer(
            evaluations,
            {row.evaluation.name: row.top for row in scored},
            {"": judged},
            evaluations[0].measures[0],
            query_texts=texts,
            documents={"": data} if data and data.has_documents else {},
        )
    report = make_report(
        evaluations,
        title=dataset or str(qrels),
        baseline=baseline,
        seed=seed,
        made={row.evaluation.name: row.made for row in scored},
        explorer=explorer,
        query_texts=texts,
    )
    if out is None:
        return _reported(report)
    write_report(report, out)
    return _reported(report, f"report: {out}")


def run_config(
    config: str,
    overrides: Sequence[str],
    out: Path | None,
    *,
    only: str | None = None,
    data: Path | None = None,
    dry_run: bool,
) -> Answer:
    """Run a config, or a suite with one, or say what it would do."""
    if config.startswith("suite:"):
        from .suites import run_suite_config

        return run_suite_config(config.removeprefix("suite:"), overrides, only, data, out, dry_run=dry_run)
    for option, given in (("--only", only), ("--data", data)):
        if given is not None:
            raise UsageError(f"{option} chooses among a suite's sets, and {config!r} is no suite: write suite:NAME")
    from ..configs.schema import load_config

    loaded = load_config(config, overrides)
    if dry_run:
        from ..estimate import config_estimate

        return config_estimate(loaded)
    from ..configs.experiment import run_experiment

    done = run_experiment(loaded, out)
    page = done.folder / "report.html"
    answer = _reported(done.report, f"report: {page.resolve()}")
    answer.results |= {"folder": str(done.folder), "report": str(page)}
    return answer


def _reported(report: Report, *lines: str) -> Answer:
    from ..eval.rendering import to_text

    return Answer(report.to_dict(), lines=[to_text(report).rstrip(), *lines])
