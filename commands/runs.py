"""Indexes and runs: index, retrieve, rerank, fuse."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..corpora import load_dataset
from ..corpora.dataset import Dataset
from ..envelope import Answer
from ..errors import InputError, UsageError, suggest
from ..files import file_kind, run_name
from ..records import Run, TextSource
from ..registry import entries, find, make
from ..request_files import write_requests
from ..run_files import read_run

if TYPE_CHECKING:
    pass

logger = logging.getLogger("cribble")


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
        from ..estimate import index_estimate

        return index_estimate(data, retriever, options)
    start = time.perf_counter()
    cls.build_index(data, out, overwrite=overwrite, options=dict(options))
    return _described(out, time.perf_counter() - start)


def _shown(name: str, count: int) -> str:
    """A count as it is read; a manifest has whole numbers only, so some are in parts."""
    for unit, parts in (("_hundredths", 100), ("_millionths", 1_000_000)):
        if name.endswith(unit):
            return f"{name.removesuffix(unit).replace('_', ' ')} {count / parts:,.3f}"
    return f"{count:,} {name.replace('_', ' ')}"


def _described(path: Path, seconds: float) -> Answer:
    from ..index.manifest import read_manifest

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
    counted = "".join(f", {_shown(name, count)}" for name, count in manifest.counts.items() if count)
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
    from ..configs.building import over_index
    from ..pipeline import run_pipeline

    stage = over_index(index, retriever, {"k": k} | options)
    data = _with_queries(dataset)
    if dry_run:
        from ..estimate import retrieval_estimate

        return retrieval_estimate(data, index, k)
    done = run_pipeline(stage, data, name=run_name(out))
    return _written(done.run, out, data, done.seconds, stage.texts())


def rerank_run(
    run: Path, dataset: str, reranker: str, out: Path, options: dict[str, Any], *, index: Path | None, dry_run: bool
) -> Answer:
    """Rerank the candidates in the file `run`; write the new run to `out`."""
    from ..pipeline import run_pipeline
    from ..retrievers.given import Given
    from ..retrievers.opening import open_retriever

    stage = make("rerankers", reranker, options)
    data = _with_queries(dataset)
    texts = open_retriever(index).texts() if index else None
    candidates = Given(run)
    if dry_run:
        from ..estimate import rerank_estimate

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
    from ..fusion import fuse

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
