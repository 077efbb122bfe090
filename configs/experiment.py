"""Runs a config: builds what is missing, runs every system with checkpoints, scores, compares, reports."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from ..corpora import load_dataset
from ..corpora.dataset import Dataset
from ..errors import InputError, UsageError
from ..eval import Evaluation, Measure, evaluate, mean_of_parts
from ..eval.explorer import DEPTH, Explorer, make_explorer
from ..eval.matched_words import Explaining, explaining, matched_words
from ..eval.report import Report, counts_of, make_report, with_judged, write_report
from ..eval.results_store import Result as StoredResult
from ..eval.results_store import save_result
from ..eval.suite import canonical_name
from ..files import write_whole
from ..index.manifest import library_versions
from ..notices import collected_warnings
from ..pipeline import Result, run_pipeline
from ..records import Run, TextSource
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
    evaluation: Evaluation = field(init=False)
    seconds: float = 0.0
    costs: list[dict[str, Any]] = field(default_factory=list)
    #: What was cut, empty or missing on the way, one line each; the same after a rerun that did nothing.
    notes: list[str] = field(default_factory=list)
    #: Bytes of its indexes on disk, tokens that its language models read and wrote, hashes of what it depends on.
    index_bytes: int = 0
    tokens: int = 0
    artifacts: dict[str, str] = field(default_factory=dict)
    #: The best documents of each query (`part/query` where there are parts), and counts of what was cut or repaired.
    tops: list[Run] = field(default_factory=list)
    made: Counter[str] = field(default_factory=Counter)
    #: Where the texts of its documents are, by part.
    texts: dict[str, TextSource] = field(default_factory=dict)
    #: What can say which words matched, by part.
    explaining: dict[str, Explaining] = field(default_factory=dict)


@dataclass
class Experiment:
    """A finished experiment: the config, the folder of its files, the systems and the report on them."""

    config: Config
    folder: Path
    systems: list[System]
    report: Report


#: What a collection's rules make of a finished run: the run that is scored, and what is to be said of it.
Finish = Callable[[Dataset, Run], tuple[Run, list[str]]]


def run_experiment(
    config: Config,
    out: str | Path | None = None,
    *,
    dataset: Dataset | None = None,
    finish: Finish | None = None,
    suite: str = "",
    set_name: str = "",
) -> Experiment:
    """Run `config` into the folder `out` (runs/NAME-HASH by default). A killed run goes on where it stopped.

    The folder holds config.yaml (resolved), manifest.json (versions, seeds, device, git state), one TREC run a system,
    stages/ (checkpoints), results/ (a JSON a system, for `cribble leaderboard`) and the report as HTML, Markdown and JSON. A suite
    gives the `dataset` by its own rules, `finish` for its runs, and its names.
    """
    for stages in config.pipeline.values():
        check_stages(stages)
    dataset = dataset or load_dataset(config.dataset)
    measures = with_judged(config.measures or dataset.measures)
    folder = Path(out) if out else Path("runs") / f"{file_name(config.name)}-{_digest(config)}"
    _refuse_other_config(folder, config)
    _set_threads(config)
    started = time.time()
    with collected_warnings() as warnings:
        systems = [_run_system(name, config, dataset, measures, folder, finish) for name in config.pipeline]
    experiment = Experiment(config, folder, systems, _report(config, dataset, systems, warnings))
    _write_manifest(experiment, started)
    _save_results(experiment, set_name or canonical_name(dataset.id), suite)
    for ending in ("html", "md", "json"):
        write_report(experiment.report, folder / f"report.{ending}")
    return experiment


def _report(config: Config, dataset: Dataset, systems: list[System], warnings: list[str]) -> Report:
    queries = len(systems[0].evaluation)
    facts = {"dataset": dataset.id, "queries": f"{queries}", "seed": str(config.runtime.seed)}
    facts |= library_versions(("torch", "sentence-transformers"))
    parts = dataset.parts or {"": dataset}
    explorer = make_explorer(
        [system.evaluation for system in systems],
        {system.name: _joined(system.tops) for system in systems},
        {part: data.qrels for part, data in parts.items() if data.qrels is not None},
        systems[0].evaluation.measures[0],
        query_texts=_query_texts(dataset),
        documents={part: store for system in reversed(systems) for part, store in system.texts.items()},
    )
    explorer = _with_matches(explorer, config, systems)
    return make_report(
        [system.evaluation for system in systems],
        title=f"{config.name}: {dataset.id}",
        baseline=config.baseline,
        seconds={system.name: system.seconds / max(1, queries) for system in systems},
        warnings=[*(note for system in systems for note in system.notes), *warnings],
        facts=facts,
        query_texts=_query_texts(dataset),
        made={system.name: system.made for system in systems},
        explorer=explorer,
        seed=config.runtime.seed,
    )


def _with_matches(explorer: Explorer, config: Config, systems: list[System]) -> Explorer:
    """The explorer with the words that matched, of the systems that score by late interaction."""
    chosen = explorer.most_different(config.explain.queries)
    matched = {}
    for system in systems:
        if not system.explaining or not chosen:
            continue
        shown = explorer.tops[system.name]
        tops = {q: [hit.doc_id for hit in shown.get(q, ())[: config.explain.documents]] for q in chosen}
        if (words := matched_words(system.name, system.explaining, tops, explorer.texts)) is not None:
            matched[system.name] = words
    return replace(explorer, matched=matched)


def _joined(runs: list[Run]) -> Run:
    """The runs of a collection's parts as one; their queries have different names."""
    return runs[0] if len(runs) == 1 else Run.from_rankings([(q, *row) for run in runs for q, row in run.items()])


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
    finish: Finish | None = None,
) -> System:
    parts = dataset.parts or {"": dataset}
    evaluations: dict[str, Evaluation] = {}
    system = System(name)
    for part, data in parts.items():
        if data.qrels is None:
            raise InputError(
                f"{data.id} has no judgements: use `cribble retrieve` and `cribble rerank` for runs without"
            )
        if not data.queries:
            raise InputError(f"{data.id} has no queries")
        pipeline = build_pipeline(config.pipeline[name], data, Path(config.runtime.indexes), _defaults(config))
        done = run_pipeline(pipeline, data, folder / part, name=file_name(name))
        run, told = finish(data, done.run) if finish else (done.run, [])
        run.write(folder / part / f"{file_name(name)}.trec")
        evaluations[part] = evaluate(run, data.qrels, measures, name=name)
        system.seconds += done.seconds
        system.costs += _cost_rows(part, done)
        prefix = f"{part}/" if part else ""
        system.notes += [f"{prefix}{name}: {note}" for note in [*_notes(pipeline, run), *told]]
        system.tokens += sum(int(run.provenance.get(what, 0)) for what in ("prompt_tokens", "new_tokens"))
        if store := pipeline.texts() or (data if data.has_documents else None):
            system.texts[part] = store
            if config.explain.queries and (by := explaining(pipeline, store, data.search_texts)):
                system.explaining[part] = by
        system.made.update(counts_of(run.provenance))
        top = run.top(DEPTH)
        named = [f"{prefix}{query_id}" for query_id in top]
        system.tops.append(Run(named, top.offsets, top.doc_ids, top.scores, **top.facts(name=name)))
        system.index_bytes += _index_bytes(pipeline)
        system.artifacts |= {
            f"{prefix}{what}": of for stage in pipeline.walk() for what, of in stage.artifacts().items()
        }
    system.evaluation = mean_of_parts(evaluations, name) if dataset.parts else evaluations[""]
    return system


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


def _index_bytes(pipeline: Stage) -> int:
    """Bytes of the index folders that the pipeline searches, each counted once."""
    folders = {Path(stage.index) for stage in pipeline.walk() if isinstance(stage, Indexed)}
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


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


def _save_results(experiment: Experiment, dataset: str, suite: str) -> None:
    """A result file a system, with the cost and the hash of the manifest that says what made it."""
    manifest = hashlib.sha256((experiment.folder / "manifest.json").read_bytes()).hexdigest()
    git, versions = _git_state(), library_versions(_LIBRARIES)
    for system in experiment.systems:
        queries = max(1, len(system.evaluation))
        cost: dict[str, float] = {"seconds_per_query": system.seconds / queries, "index_bytes": system.index_bytes}
        if system.tokens:
            cost["tokens_per_query"] = system.tokens / queries
        result = StoredResult.of(
            system.evaluation,
            dataset,
            cost=cost,
            notes=tuple(system.notes),
            suite=suite,
            provenance={
                "pipeline": experiment.config.pipeline[system.name],
                "dataset": experiment.config.dataset,
                "artifacts": system.artifacts,
                "seed": experiment.config.runtime.seed,
                "versions": versions,
                "git": git,
                "date": time.strftime("%Y-%m-%d", time.gmtime()),
            },
            manifest=manifest,
        )
        save_result(result, experiment.folder / "results")


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
