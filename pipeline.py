"""Runs pipelines so that they can be killed: each stage's finished queries are on disk, and a rerun goes on from there.

Every step of a pipeline writes one checkpoint file named after a hash of the queries, the steps before it and its own
options, so equal prefixes of several pipelines are computed once, and a changed option never meets old results.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .errors import InputError
from .explanation import Trace
from .progress import progress
from .queries import as_queries, each
from .records import Query, Run, TextSource
from .stage import Context, Cut, Fusion, Reranker, Retriever, Stage, Then, Wrapper

#: Queries that a stage works on between two checkpoints.
_RETRIEVED_AT_ONCE = 256
_RERANKED_AT_ONCE = 16


@dataclass
class StageCost:
    """What one step took: seconds of work (also of an earlier, killed run), and queries read back from disk."""

    label: str
    key: str
    queries: int = 0
    resumed: int = 0
    seconds: float = 0.0


@dataclass
class Result:
    """A pipeline's run and the costs of its steps; `setup_seconds` is the time to open indexes and load models."""

    run: Run
    costs: list[StageCost] = field(default_factory=list)
    setup_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        return sum(cost.seconds for cost in self.costs)


def run_pipeline(
    pipeline: Stage,
    queries: Any,
    folder: str | Path | None = None,
    *,
    texts: TextSource | None = None,
    exclude: Mapping[str, frozenset[str]] | None = None,
    name: str | None = None,
) -> Result:
    """Run `pipeline` on a dataset (or queries with `texts` and `exclude`), with checkpoints in `folder` where given.

    Stages are opened first, on zero queries, so that a wrong path, option or model fails before any work.
    """
    version, rewritten = getattr(queries, "version", ""), getattr(queries, "search_texts", {})
    if hasattr(queries, "queries"):
        texts = texts or pipeline.texts() or (queries if queries.has_documents else None)
        exclude = queries.exclusions() if exclude is None else exclude
        queries = queries.queries
    queries = as_queries(queries)
    start = time.perf_counter()
    context = Context(texts or pipeline.texts(), exclude or {}, rewritten)
    pipeline.transform([], None, context)
    for stage in pipeline.walk():
        stage.begin(queries)
    result = Result(Run.from_rankings([]), setup_seconds=time.perf_counter() - start)
    asked = [
        [*query, sorted(context.exclude.get(query.id, ())), *([rewritten[query.id]] if query.id in rewritten else [])]
        for query in queries
    ]
    root = hashlib.sha256(json.dumps([version, asked]).encode()).hexdigest()
    executor = _Executor(queries, context, Path(folder) if folder else None, result.costs)
    result.run = executor.execute(pipeline, None, root)[0].renamed(name or pipeline.label)
    return result


class _Executor:
    """Walks a pipeline's tree. `execute` gives a stage's run and the hash of everything that it depends on."""

    def __init__(self, queries: list[Query], context: Context, folder: Path | None, costs: list[StageCost]) -> None:
        self.queries, self.context, self.folder, self.costs = queries, context, folder, costs

    def execute(self, stage: Stage, run: Run | None, upstream: str) -> tuple[Run, str]:
        if isinstance(stage, Then):
            return self.execute(stage.second, *self.execute(stage.first, run, upstream))
        key = hashlib.sha256(f"{upstream} {stage.key()}".encode()).hexdigest()[:16]
        if isinstance(stage, Fusion):
            return stage.combine([self.execute(child, run, upstream)[0] for child in stage.children()]), key
        if isinstance(stage, Wrapper) and not (isinstance(stage, Cut) and isinstance(stage.inner, Retriever)):
            return stage.apply(self.execute(stage.inner, run, upstream)[0]), key
        return self.work(stage, run, key), key

    def work(self, stage: Stage, run: Run | None, key: str) -> Run:
        cost = StageCost(stage.label, key)
        self.costs.append(cost)
        checkpoint = _Checkpoint(self.folder, stage.label, key)
        parts = list(checkpoint.finished())
        done = {query_id for part, _ in parts for query_id in part}
        cost.resumed = len(done)
        cost.seconds = sum(seconds for _, seconds in parts)
        pending = [query for query in self.queries if query.id not in done]
        reranks = any(isinstance(part, Reranker) for part in stage.walk())
        size = _RERANKED_AT_ONCE if reranks else _RETRIEVED_AT_ONCE
        with progress(stage.label, len(pending), "queries") as advance:
            for batch in each(pending, size):
                start = time.perf_counter()
                candidates = run.select([query.id for query in batch]) if run is not None else None
                part = stage.transform(batch, candidates, self.context)
                seconds = time.perf_counter() - start
                checkpoint.add(part, seconds)
                parts.append((part, seconds))
                cost.seconds += seconds
                advance(len(batch))
        cost.queries = len(self.queries)
        return _joined([part for part, _ in parts], self.queries, stage)


class _Checkpoint:
    """One step's finished queries: a line of JSON per batch, synced to disk; a torn last line is cut off."""

    def __init__(self, folder: Path | None, label: str, key: str) -> None:
        slug = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:40]
        self.path = folder / "stages" / f"{slug}-{key}.jsonl" if folder else None

    def finished(self) -> Iterator[tuple[Run, float]]:
        if self.path is None or not self.path.exists():
            return
        good = 0
        with self.path.open("rb") as stream:
            for line in stream:
                try:
                    row = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    row = None
                if row is None:
                    break
                good += len(line)
                rankings = [(q, ids, np.array(scores, np.float64)) for q, ids, scores in row["rankings"]]
                facts = {name: row[name] for name in ("name", "score_kind", "provenance")}
                yield Run.from_rankings(rankings, **facts), row["seconds"]
        if good < self.path.stat().st_size:
            os.truncate(self.path, good)

    def add(self, run: Run, seconds: float) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rankings = [(query_id, run.ids(query_id), run.scores[run.rows(query_id)].tolist()) for query_id in run]
        row = {"seconds": seconds, "rankings": rankings} | run.facts()
        with self.path.open("ab") as stream:
            stream.write(json.dumps(row, ensure_ascii=False, default=str).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())


def _joined(parts: list[Run], queries: list[Query], stage: Stage) -> Run:
    """The batches' runs as one, in the queries' order; counts in their provenances add up."""
    if not parts:
        return Run.from_rankings([], name=stage.label, score_kind=stage.score_kind)
    rankings = {query_id: (query_id, *ranking) for part in parts for query_id, ranking in part.items()}
    provenance: dict[str, Any] = {}
    for part in parts:
        for name, value in part.provenance.items():
            counted = isinstance(value, int) and not isinstance(value, bool) and name in provenance
            provenance[name] = provenance[name] + value if counted else value
    absent = [query.id for query in queries if query.id not in rankings]
    if absent:
        raise InputError(
            f"{stage.label} returned nothing for the query {absent[0]!r} ({len(absent)} such): a stage's bug"
        )
    ordered = [rankings[query.id] for query in queries]
    return Run.from_rankings(ordered, **parts[0].facts(provenance=provenance))


# ---- why is this document here? -------------------------------------------------------------------------------------


def explain(pipeline: Stage, text: str, doc_id: str, texts: TextSource | None = None) -> list[Trace]:
    """Follow one document through the stages of a pipeline for the query `text`; it need not be among the documents.

    `pipeline.explain(text, doc_id)` has besides what each query token matched in it, where a stage can say so.
    """
    traces: list[Trace] = []
    pipeline.traced(Query("query", text), doc_id, None, Context(texts or pipeline.texts()), traces)
    return traces
