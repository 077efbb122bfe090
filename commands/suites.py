"""Suites and leaderboards: run suite:NAME, leaderboard, export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..envelope import Answer, Table
from ..errors import UsageError


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
