"""Runs a config: builds what is missing, runs every system with checkpoints, scores, compares, reports."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ..corpora import load_dataset
from ..corpora.dataset import Dataset
from ..errors import InputError, UsageError
from ..eval import Evaluation, Measure, evaluate, mean_of_parts
from ..eval.report import Report, make_report, with_judged, write_report
from ..files import write_whole
from ..index.manifest import library_versions
from ..notices import collected_warnings
from ..pipeline import Result, run_pipeline
from ..records import Run
from ..retrievers.indexed import Indexed
from ..stage import Stage
from .building import build_pipeline, check_stages
from .schema import Config, file_name

logger = logging.getLogger("cribble")

_LIBRARIES = ("numpy", "pyarrow", "torch", "transformers", "sentence-transformers", "faiss-cpu", "pyserini", "ranx")


@dataclass
class System:
    """One pipeline's outcome: its evaluation (the mean over parts where there are some) and what it cost."""

    name: str
    evaluation: Evaluation
    seconds: float = 0.0
    costs: list[dict[str, Any]] = field(default_factory=list)
    #: What was cut, empty or missing on the way, one line each; the same after a rerun that did nothing.
    notes: list[str] = field(default_factory=list)


@dataclass
class Experiment:
    """A finished experiment: the config, the folder of its files, the systems and the report on them."""

    config: Config
    folder: Path
    systems: list[System]
    report: Report


def run_experiment(config: Config, out: str | Path | None = None) -> Experiment:
    """Run `config` into the folder `out` (runs/NAME-HASH by default). A killed run goes on where it stopped.

    The folder holds config.yaml (resolved), manifest.json (versions, seeds, device, git state), one TREC run a system,
    stages/ (checkpoints) and the report as HTML, Markdown and JSON.
    """
    for stages in config.pipeline.values():
        check_stages(stages)
    dataset = load_dataset(config.dataset)
    measures = with_judged(config.measures or dataset.measures)
    folder = Path(out) if out else Path("runs") / f"{file_name(config.name)}-{_digest(config)}"
    _refuse_other_config(folder, config)
    _set_threads(config)
    started = time.time()
    with collected_warnings() as warnings:
        systems = [_run_system(name, config, dataset, measures, folder) for name in config.pipeline]
    experiment = Experiment(config, folder, systems, _report(config, dataset, systems, warnings))
    _write_manifest(experiment, started)
    for ending in ("html", "md", "json"):
        write_report(experiment.report, folder / f"report.{ending}")
    return experiment


def _report(config: Config, dataset: Dataset, systems: list[System], warnings: list[str]) -> Report:
    queries = len(systems[0].evaluation)
    facts = {"dataset": dataset.id, "queries": f"{queries}", "seed": str(config.runtime.seed)}
    facts |= library_versions(("torch", "sentence-transformers"))
    return make_report(
        [system.evaluation for system in systems],
        title=f"{config.name}: {dataset.id}",
        baseline=config.baseline,
        seconds={system.name: system.seconds / max(1, queries) for system in systems},
        warnings=[*(note for system in systems for note in system.notes), *warnings],
        facts=facts,
        query_texts=_query_texts(dataset),
        seed=config.runtime.seed,
    )


def _query_texts(dataset: Dataset) -> dict[str, str]:
    if not dataset.parts:
        return {query.id: query.text for query in dataset.queries}
    return {f"{name}/{query.id}": query.text for name, part in dataset.parts.items() for query in part.queries}


def first_pipeline(config: Config) -> Stage:
    """The first system of a config, ready to search; builds its indexes where they are missing."""
    stages = next(iter(config.pipeline.values()))
    check_stages(stages)
    return build_pipeline(stages, load_dataset(config.dataset), Path(config.runtime.indexes), _defaults(config))


def _run_system(
    name: str,
    config: Config,
    dataset: Dataset,
    measures: list[Measure],
    folder: Path,
) -> System:
    parts = dataset.parts or {"": dataset}
    evaluations: dict[str, Evaluation] = {}
    seconds, costs, notes = 0.0, [], []
    for part, data in parts.items():
        if data.qrels is None:
            raise InputError(
                f"{data.id} has no judgements: use `cribble retrieve` and `cribble rerank` for runs without"
            )
        if not data.queries:
            raise InputError(f"{data.id} has no queries")
        pipeline = build_pipeline(config.pipeline[name], data, Path(config.runtime.indexes), _defaults(config))
        done = run_pipeline(pipeline, data, folder / part, name=file_name(name))
        done.run.write(folder / part / f"{file_name(name)}.trec")
        evaluations[part] = evaluate(done.run, data.qrels, measures, name=name)
        seconds += done.seconds
        costs += _cost_rows(part, done)
        notes += [f"{f'{part}/' if part else ''}{name}: {note}" for note in _notes(pipeline, done.run)]
    evaluation = mean_of_parts(evaluations, name) if dataset.parts else evaluations[""]
    return System(name, evaluation, seconds, costs, notes)


def _notes(pipeline: Stage, run: Run) -> list[str]:
    """Counts of what the pipeline's indexes and rerankers could not take whole."""
    notes = []
    for stage in pipeline.walk():
        if isinstance(stage, Indexed):
            manifest = stage.opened.manifest
            for what in ("truncated_texts", "empty_texts"):
                if manifest.counts.get(what):
                    told = what.replace("_", " ")
                    notes.append(f"{manifest.counts[what]:,} {told} among the {manifest.documents:,} documents indexed")
    told_of = {"without_text": "candidates have no text and stay beneath", "truncated": "texts were cut for reranking"}
    notes += [f"{run.provenance[what]:,} {told}" for what, told in told_of.items() if run.provenance.get(what)]
    return notes


def _cost_rows(part: str, done: Result) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"stage": "setup", "seconds": round(done.setup_seconds, 3)}]
    for cost in done.costs:
        seconds = round(cost.seconds, 3)
        rows.append({"stage": cost.label, "queries": cost.queries, "resumed": cost.resumed, "seconds": seconds})
    rows[-1]["provenance"] = done.run.provenance
    return [{"part": part} | row if part else row for row in rows]


def _defaults(config: Config) -> dict[str, Any]:
    return {"device": config.runtime.device, "threads": config.runtime.threads}


def _set_threads(config: Config) -> None:
    """Seeds and thread counts of the libraries that compute."""
    import torch

    torch.manual_seed(config.runtime.seed)
    if config.runtime.threads is not None:
        torch.set_num_threads(config.runtime.threads)
        import faiss

        faiss.omp_set_num_threads(config.runtime.threads)


# ---- the folder -----------------------------------------------------------------------------------------------------


def _digest(config: Config) -> str:
    content = json.dumps(config.model_dump(), sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:8]


def _refuse_other_config(folder: Path, config: Config) -> None:
    """A folder belongs to one config, so that its files never come from two."""
    path = folder / "config.yaml"
    data = config.model_dump(mode="json")
    if path.exists():
        if yaml.safe_load(path.read_text(encoding="utf-8")) != data:
            raise UsageError(f"{folder} holds the results of another config ({path}): choose another --out")
        return
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} holds other files and no config.yaml: choose another --out")
    with write_whole(path) as stream:
        stream.write(yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode())


def _write_manifest(experiment: Experiment, started: float) -> None:
    import torch

    manifest = {
        "config": experiment.config.model_dump(mode="json"),
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "wall_seconds": round(time.time() - started, 3),
        "python": platform.python_version(),
        "machine": {"system": platform.platform(), "processor": platform.machine(), "cuda": torch.cuda.is_available()},
        "threads": torch.get_num_threads(),
        "versions": library_versions(_LIBRARIES),
        "git": _git_state(),
        "systems": [
            {
                "name": system.name,
                "means": system.evaluation.means,
                "counts": system.evaluation.counts,
                "costs": system.costs,
            }
            for system in experiment.systems
        ],
    }
    with write_whole(experiment.folder / "manifest.json") as stream:
        stream.write(json.dumps(manifest, indent=1, ensure_ascii=False, default=str).encode() + b"\n")


def _git_state() -> Mapping[str, Any]:
    """Commit and cleanliness of the folder that the command runs in; empty outside of a repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed_files": len(git("status", "--porcelain").splitlines())}
    except (OSError, subprocess.SubprocessError):
        return {}
