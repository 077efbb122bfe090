"""The work behind the command line's verbs, from paths and names to answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .corpora import list_datasets, load_dataset
from .corpora.dataset import Dataset
from .envelope import Answer, Table
from .errors import InputError, UsageError, suggest
from .files import file_kind, run_name
from .records import Qrels, Run, TextSource
from .registry import entries, find, make
from .request_files import write_requests
from .run_files import read_run
from .stage import Stage

if TYPE_CHECKING:
    from .eval.report import Report

logger = logging.getLogger("cribble")

#: What can be listed; those with a room list what is registered there.
_ROOMS = {
    "retrievers": "retrievers",
    "indexes": "index",
    "rerankers": "rerankers",
    "strategies": "rerankers/strategies",
    "judges": "rerankers/judges",
    "backends": "models/backends",
    "measures": "eval/measures",
}
LISTS = ("datasets", *_ROOMS, "templates", "models", "fusions", "configs")


def index_dataset(
    dataset: str, retriever: str, out: Path, options: dict[str, Any], *, overwrite: bool, dry_run: bool
) -> Answer:
    """Build the index of a dataset in the folder `out`."""
    cls = find("retrievers", retriever)
    if not hasattr(cls, "build_index"):
        known = [name for name in entries("retrievers") if hasattr(find("retrievers", name), "build_index")]
        raise UsageError(f"{retriever} has no index of its own to build: {suggest(retriever, known)}")
    cls.check_build_options(options, cls.shared_options)
    data = load_dataset(dataset)
    if dry_run:
        from .estimate import index_estimate

        return index_estimate(data, retriever, options)
    start = time.perf_counter()
    cls.build_index(data, out, overwrite=overwrite, options=dict(options))
    return _described(out, time.perf_counter() - start)


def _described(path: Path, seconds: float) -> Answer:
    from .index.manifest import read_manifest

    manifest = read_manifest(path)
    results = {
        "index": str(path),
        "kind": manifest.kind,
        "documents": manifest.documents,
        "bytes": manifest.bytes,
        "fingerprint": manifest.fingerprint,
        "counts": manifest.counts,
        "seconds": round(seconds, 3),
    }
    counted = "".join(f", {count:,} {name.replace('_', ' ')}" for name, count in manifest.counts.items() if count)
    size = f"{manifest.bytes / 2**20:,.1f} MiB"
    return Answer(
        results,
        lines=[f"{path}: {manifest.kind} index of {manifest.documents:,} documents, {size}{counted}, {seconds:.1f} s"],
    )


def retrieve_run(
    index: Path,
    dataset: str,
    out: Path,
    k: int,
    options: dict[str, Any],
    *,
    dry_run: bool,
    retriever: str | None = None,
) -> Answer:
    """Search the index with the dataset's queries; write the run to `out`. See `over_index` for `retriever`."""
    from .configs.building import over_index
    from .pipeline import run_pipeline

    stage = over_index(index, retriever, {"k": k} | options)
    data = _with_queries(dataset)
    if dry_run:
        from .estimate import retrieval_estimate

        return retrieval_estimate(data, index, k)
    done = run_pipeline(stage, data, name=run_name(out))
    return _written(done.run, out, data, done.seconds, stage.texts())


def rerank_run(
    run: Path, dataset: str, reranker: str, out: Path, options: dict[str, Any], *, index: Path | None, dry_run: bool
) -> Answer:
    """Rerank the candidates in the file `run`; write the new run to `out`."""
    from .pipeline import run_pipeline
    from .retrievers.given import Given
    from .retrievers.opening import open_retriever

    stage = make("rerankers", reranker, options)
    data = _with_queries(dataset)
    texts = open_retriever(index).texts() if index else None
    candidates = Given(run)
    if dry_run:
        from .estimate import rerank_estimate

        return rerank_estimate(data, candidates.candidates, stage, texts or data)
    done = run_pipeline(candidates >> stage, data, texts=texts, name=run_name(out))
    answer = _written(done.run, out, data, done.seconds, texts)
    costs = _per_query(done.run, stage)
    answer.results |= costs
    if costs:
        answer.lines.append(
            "per query: " + ", ".join(f"{value:,.1f} {name.replace('_', ' ')}" for name, value in costs.items())
        )
    return answer


def _per_query(run: Run, stage: Any) -> dict[str, float]:
    """What an LLM reranker's calls cost a query that has candidates, as `--dry-run` foretells it."""
    names = [
        name for name in ("calls", "prompt_tokens", "cached_tokens", "new_tokens", "depth") if name in run.provenance
    ]
    if not hasattr(stage, "chosen_judge"):
        return {}
    asked = max(1, sum(1 for query_id in run if len(run.ids(query_id))))
    return {name: run.provenance[name] / asked for name in names}


def _with_queries(spec: str) -> Dataset:
    data = load_dataset(spec)
    if data.parts:
        raise UsageError(
            f"{spec} has {len(data.parts)} parts, each with its own corpus: {', '.join(data.parts)}; name one"
        )
    if not data.queries:
        raise InputError(f"{spec} has no queries")
    return data


def _written(run: Run, out: Path, data: Dataset, seconds: float, texts: TextSource | None) -> Answer:
    if file_kind(out) == "jsonl":
        write_requests(run, out, data.queries, texts or data)
    else:
        run.write(out)
    empty = sum(1 for query_id in run if run.rows(query_id).start == run.rows(query_id).stop)
    if empty:
        logger.warning("%s: %d of %d queries have no results", out, empty, len(run))
    results = {
        "run": str(out),
        "queries": len(run),
        "rows": run.num_rows,
        "queries_without_results": empty,
        "seconds": round(seconds, 3),
        "provenance": run.provenance,
    }
    rate = f", {len(run) / seconds:,.1f} queries/s" if seconds else ""
    return Answer(results, lines=[f"{out}: {len(run):,} queries, {run.num_rows:,} rows, {seconds:.1f} s{rate}"])


def fuse_runs(
    runs: Sequence[Path],
    out: Path,
    method: str,
    *,
    weights: Sequence[float] | None,
    norm: str | None,
    k: int | None,
    depth: int,
) -> Answer:
    """Fuse run files; write the best `depth` of each query to `out`."""
    from .fusion import fuse

    if file_kind(out) == "jsonl":
        raise UsageError(f"{out}: a fused run has no texts at hand: write .trec or .parquet")
    if depth < 1:
        raise UsageError(f"--depth {depth}: expected at least 1")
    start = time.perf_counter()
    read = [read_run(path) for path in runs]
    fused = fuse(read, method, weights=weights, norm=norm, k=k, name=run_name(out)).top(depth)
    fused.write(out)
    seconds = time.perf_counter() - start
    results = {
        "run": str(out),
        "queries": len(fused),
        "rows": fused.num_rows,
        "method": method,
        "seconds": round(seconds, 3),
    }
    return Answer(
        results, lines=[f"{out}: {len(fused):,} queries, {fused.num_rows:,} rows, {method} of {len(read)} runs"]
    )


# ---- scoring --------------------------------------------------------------------------------------------------------


def _judgements(
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
    runs: dict[str, Run] = {}
    for path in paths:
        name = run_name(path)
        if name in runs:
            raise UsageError(
                f"two runs are called {name!r} ({path} is one): rename a file, results go by the file's stem"
            )
        runs[name] = read_run(path).drop(exclude)
    return runs


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
    from .eval import evaluate, parse_measures

    judged, chosen, exclude = _judgements(dataset, qrels, measures)
    wanted = parse_measures(chosen)
    if ties not in ("float32", "float64"):
        raise UsageError(f"--ties {ties!r}: {suggest(ties, ('float32', 'float64'))}")
    results: dict[str, Any] = {}
    rows = []
    for name, run in read_runs(paths, exclude).items():
        evaluation = evaluate(run, judged, wanted, ties=ties, name=name)  # type: ignore[arg-type]
        results[name] = dict(evaluation.means)
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
    table = Table(["run", *map(str, wanted), "queries", "missing"], rows)
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
    from .eval import evaluate
    from .eval.report import make_report, with_judged, write_report

    if len(paths) < 2:
        raise UsageError(f"compare needs at least two runs, got {len(paths)}: for one use `cribble eval`")
    judged, chosen, exclude = _judgements(dataset, qrels, measures)
    wanted = with_judged(chosen)
    evaluations = [evaluate(run, judged, wanted, name=name) for name, run in read_runs(paths, exclude).items()]
    report = make_report(evaluations, title=dataset or str(qrels), baseline=baseline, seed=seed)
    if out is None:
        return _reported(report)
    write_report(report, out)
    return _reported(report, f"report: {out}")


def run_config(config: str, overrides: Sequence[str], out: Path | None, *, dry_run: bool) -> Answer:
    """Run a config, or say what it would do."""
    from .configs.schema import load_config

    loaded = load_config(config, overrides)
    if dry_run:
        from .estimate import config_estimate

        return config_estimate(loaded)
    from .configs.experiment import run_experiment

    done = run_experiment(loaded, out)
    page = done.folder / "report.html"
    answer = _reported(done.report, f"report: {page.resolve()}")
    answer.results |= {"folder": str(done.folder), "report": str(page)}
    return answer


def _reported(report: Report, *lines: str) -> Answer:
    from .eval.rendering import to_text

    return Answer(report.to_dict(), lines=[to_text(report).rstrip(), *lines])


# ---- asking and listing ---------------------------------------------------------------------------------------------


def search_text(where: str, text: str, k: int, options: dict[str, Any], retriever: str | None = None) -> Answer:
    """The best `k` documents for `text`, from an index folder (see `over_index`) or a config's (first) pipeline."""
    if not text.strip():
        raise UsageError("the text to search for is empty")
    if k < 1:
        raise UsageError(f"--k {k}: expected at least 1")
    pipeline: Stage
    if Path(where).is_dir():
        from .configs.building import over_index

        pipeline = over_index(where, retriever, options)
    else:
        from .configs.experiment import first_pipeline
        from .configs.schema import load_config, preset_names

        if where not in preset_names() and not Path(where).exists():
            raise UsageError(
                f"{where!r} is neither the folder of an index, nor a config's file, nor a shipped config: "
                f"{suggest(where, preset_names())}"
            )
        if options or retriever:
            raise UsageError("--set and --retriever are for an index; change a config's stages in the file")
        pipeline = first_pipeline(load_config(where))
    hits = pipeline.search(text, k)
    results = [
        {
            "rank": hit.rank,
            "id": hit.document.id,
            "score": hit.score,
            "title": hit.document.title,
            "text": hit.document.text,
        }
        for hit in hits
    ]
    rows = [[str(hit.rank), f"{hit.score:.4f}", hit.document.id, snippet(hit.document.full_text, text)] for hit in hits]
    return Answer(results, [Table(["rank", "score", "document", "text"], rows)], [] if hits else ["nothing found"])


def snippet(text: str, query: str, width: int = 160) -> str:
    """About `width` characters of `text` around the place with the most words of `query`."""
    text = " ".join(text.split())
    if len(text) <= width:
        return text
    words = [word for word in query.lower().split() if len(word) > 2]
    lower = text.lower()
    found = sorted(at for word in words for at in [lower.find(word)] if at >= 0)
    best = max(found, key=lambda at: sum(at <= other < at + width for other in found), default=0)
    start = max(0, best - width // 4)
    return ("…" if start else "") + text[start : start + width].strip() + ("…" if start + width < len(text) else "")


def list_names(what: str) -> Answer:
    """Names of one kind with a line about each."""
    if what not in LISTS:
        raise UsageError(f"list {what!r}: {suggest(what, LISTS)}")
    rows = [list(row) for row in _names(what)]
    return Answer([{"name": name, "description": text} for name, text in rows], [Table([what, ""], rows)])


def _names(what: str) -> Sequence[tuple[str, str]]:
    if what == "datasets":
        return list_datasets()
    if what in _ROOMS:
        return [(entry.name, entry.summary) for entry in entries(_ROOMS[what]).values()]
    if what == "templates":
        from .rerankers.prompts import load_template, template_names

        return [(name, load_template(name).source) for name in template_names()]
    if what == "models":
        from .models.known import known_models
        from .rerankers.cards import card_rows

        return [*known_models(), *card_rows()]
    if what == "fusions":
        from .fusion import OWN_METHODS, RANX_METHODS

        return [(name, "computed here") for name in OWN_METHODS] + [(name, "by ranx") for name in RANX_METHODS]
    from .configs.schema import load_config, preset_names

    return [(name, ", ".join(load_config(name).pipeline)) for name in preset_names()]
