"""Suites and leaderboards: run suite:NAME, leaderboard, export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..corpora import load_dataset
from ..envelope import Answer, Table
from ..errors import InputError, UsageError, suggest

if TYPE_CHECKING:
    from ..eval.results_store import Result


def run_suite_config(
    name: str, overrides: Sequence[str], only: str | None, data: Path | None, out: Path | None, *, dry_run: bool
) -> Answer:
    """Run a config on a suite's sets. `overrides` hold pipeline=CONFIG, perhaps self_match= and variant=, and the config's own."""
    from ..eval.suite import Found, data_folder, find_set, load_suite

    choices: dict[str, str] = {}
    rest = []
    for override in overrides:
        key, _, value = override.partition("=")
        if key in ("pipeline", "self_match", "variant"):
            choices[key] = value
        else:
            rest.append(override)
    suite = load_suite(name).with_choices(self_match=choices.get("self_match"), variant=choices.get("variant"))
    if not choices.get("pipeline"):
        raise UsageError(f"suite:{name} needs systems to run: add pipeline=CONFIG.yaml")
    from ..configs.suite_run import run_suite, suite_config

    config = suite_config(choices["pipeline"], rest)
    wanted = [part.strip() for part in (only or "").split(",") if part.strip()]
    folder = data_folder(data)
    if dry_run:
        rows, results = [], {}
        for item in suite.chosen(wanted):
            found = find_set(suite, item, folder, fetch=False)
            told = found.dataset.id if isinstance(found, Found) else f"absent: {found.reason}"
            results[item.name] = told
            rows.append([item.name, told])
        return Answer({"suite": name, "sets": results}, [Table(["set", "where"], rows)])
    done = run_suite(suite, config, only=wanted, data=folder, out=out)
    measure = str(next(iter(done.experiments.values())).report.main)
    systems = list(next(iter(done.experiments.values())).config.pipeline)
    rows = [
        [set_name, *(_cell(done.score(system, set_name, measure)) for system in systems)]
        for set_name in done.experiments
    ]
    rows += [[label, *(_cell(row[system]) for system in systems)] for label, row in done.means(measure).items()]
    table = Table(["set", *systems], rows, title=f"{suite.title}: {measure}", notes=[*done.holes(), *done.remarks])
    return Answer(done.to_dict(), [table], [f"results: {done.folder}; cribble leaderboard {done.folder} shows them"])


def _cell(value: float | None) -> str:
    return "—" if value is None else f"{value:.4f}"


def suite_rows() -> list[tuple[str, str]]:
    """(name, one line about it) of each suite, for `cribble list suites`."""
    from ..eval.suite import load_suite, suite_names

    suites = [load_suite(name) for name in suite_names()]
    return [
        (f"suite:{suite.name}", f"{suite.title}: {len(suite.sets)} sets, {suite.measures}{_variants(suite)}")
        for suite in suites
    ]


def _variants(suite: Any) -> str:
    return f"; variants {', '.join(suite.variants)}" if suite.variants else ""


def show_leaderboard(
    folder: Path,
    out: Path | None,
    *,
    measure: str | None,
    baseline: str | None,
    title: str,
    published: bool,
    seed: int,
) -> Answer:
    """The board of a folder's results, on the terminal and as leaderboard.md and leaderboard.html (or `out`)."""
    from ..eval.leaderboard import make_leaderboard
    from ..eval.leaderboard_text import (
        cell_text,
        cost_text,
        costs,
        header,
        mean_text,
        record_text,
        row_name,
        write_leaderboard,
    )
    from ..eval.results_store import read_store

    board = make_leaderboard(
        read_store(folder), title=title, measure=measure, baseline=baseline, published=published, seed=seed
    )
    paths = [out] if out else [folder / "leaderboard.md", folder / "leaderboard.html"]
    for path in paths:
        write_leaderboard(board, path)
    head = header(board)
    rows = [
        [
            row_name(board, row),
            *(mean_text(row.means[label]) for label in board.shown_labels),
            *(cell_text(board, row, dataset) for dataset in board.datasets),
            *([record_text(board, row)] if "win/tie/loss" in head else []),
            *(cost_text(name, row.cost.get(name)) for name in costs(board)),
        ]
        for row in board.rows
    ]
    table = Table(head, rows, title=f"{title}: {board.measure}", notes=board.notes)
    return Answer(
        board.to_dict() | {"files": [str(path) for path in paths]}, [table], [f"written: {path}" for path in paths]
    )


def export_results(
    folder: Path, form: str, out: Path, *, system: str | None, model: str | None, task: str | None, header: bool
) -> Answer:
    """Write a folder's results, of one system or all, in another tool's form; see `eval.exports`."""
    from ..eval.results_store import stored

    if form not in EXPORTS:
        raise UsageError(f"--form {form!r}: {suggest(form, EXPORTS)}")
    for option, given, of in (
        ("--model", model, "mteb"),
        ("--task", task, "mteb"),
        ("--header", header or None, "trec"),
    ):
        if given is not None and form != of:
            raise UsageError(f"{option} is for --form {of}")
    found = stored(folder)
    systems = sorted({result.system for _, result in found})
    if system is not None and system not in systems:
        raise UsageError(f"--system {system!r}: {suggest(system, systems)}")
    chosen = [(path, result) for path, result in found if system in (None, result.system)]
    paths = [path for source, result in chosen for path in _export(source, result, form, out, model, task, header)]
    return Answer({"files": [str(path) for path in paths]}, lines=[f"written: {path}" for path in paths])


EXPORTS = ("trec", "beir", "bright", "mteb")


def _export(
    source: Path, result: Result, form: str, out: Path, model: str | None, task: str | None, header: bool
) -> list[Path]:
    """One result's files. Its run lies in the folder of its experiment, one level above `results/`."""
    from ..configs.schema import file_name
    from ..eval import exports
    from ..run_files import read_run

    name = result.dataset.rpartition("/")[2]
    if form == "mteb":
        wanted = task or exports.MTEB_TASKS.get(name, name)
        if model is None:
            raise UsageError("--form mteb needs --model ORGANISATION/NAME, as mteb names models")
        return exports.write_mteb(result, out, model, wanted)
    experiment, run_file = source.parents[2], f"{file_name(result.system)}.trec"
    runs = sorted(experiment.glob(f"*/{run_file}")) if result.parts else [experiment / run_file]
    if not runs or not runs[0].exists():
        raise InputError(f"{experiment / run_file}, the run of {result.system!r} on {result.dataset!r}, does not exist")
    place = out / file_name(result.system)
    names = {path: f"{name}-{path.parent.name}" if result.parts else name for path in runs}
    if form == "beir":
        return exports.write_beir_bundle({names[path]: read_run(path) for path in runs}, place, {name: result})
    written = []
    for path in runs:
        run = read_run(path, name=result.system)
        target = place / f"{'run.' if form == 'trec' else ''}{names[path]}{'.txt' if form == 'trec' else '.score.json'}"
        if form == "trec":
            exports.write_trec(run, target, header=exports.run_metadata(result) if header else None)
        else:
            dataset = load_dataset(str(result.provenance.get("dataset", "")))
            exports.write_bright_scores(run, target, dataset.exclusions())
        written.append(target)
    return written
