"""What a command would do, without doing it: `--dry-run`.

Rates are what docs/benchmarks.md measured with MiniLM on one CPU core; they say minutes or hours, not more. Those of late
interaction, ColBERTer and learned sparse vectors are told by builds of a few documents (estimate_builds.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .configs.building import check_stages
from .configs.schema import Config
from .corpora import load_dataset
from .corpora.dataset import Dataset
from .envelope import Answer, Table
from .estimate_builds import ENCODED, build_estimate
from .eval import parse_measures
from .records import Run, TextSource
from .registry import entries, find, make
from .rerankers.candidates import with_texts
from .rerankers.llm import LLMReranker
from .stage import Stage

#: Documents or query-document pairs a second.
_RATES = {"bm25": 5_000.0, "dense": 30.0, "maxsim": 30.0, "cross-encoder": 25.0}
_DENSE_BYTES = 384 * 4


def index_estimate(data: Dataset, retriever: str, options: dict[str, Any]) -> Answer:
    """Documents, bytes and seconds of building an index."""
    results = _indexing(data, retriever, options) | {"options": options}
    notes = [str(results["note"])] if "note" in results else []
    return Answer(results, [_table([results], notes)])


def _indexing(data: Dataset, retriever: str, options: dict[str, Any]) -> dict[str, Any]:
    documents = data.num_documents
    row: dict[str, Any] = {"step": f"index {retriever}", "documents": documents}
    if retriever in ENCODED:
        row |= build_estimate(data, find("retrievers", retriever), options)
    if documents is not None and retriever in _RATES:
        row["seconds"] = round(documents / _RATES[retriever], 1)
        if retriever == "dense":
            row["bytes"] = documents * _DENSE_BYTES
    return row


def retrieval_estimate(data: Dataset, index: Path, k: int) -> Answer:
    """Queries and the most rows that a retrieval gives."""
    results = {"step": f"retrieve from {index}", "queries": len(data.queries), "rows": len(data.queries) * k}
    return Answer(results, [_table([results])])


def rerank_estimate(data: Dataset, candidates: Run, stage: Stage, texts: TextSource) -> Answer:
    """Query-document pairs that a reranker scores, and how many queries have candidates; of an LLM reranker also the
    calls, tokens and depth of a query, by its tokenizer and without its weights.
    """
    run = candidates.select([query.id for query in data.queries])
    results = _reranking(stage.label, getattr(stage, "depth", None), [len(run.ids(q)) for q in run])
    if not isinstance(stage, LLMReranker):
        return Answer(results, [_table([results])])
    from .rerankers.planning import plan

    results |= plan(stage, with_texts(data.queries, run.top(stage.depth), texts)[0])
    shown = {name: value for name, value in results.items() if not isinstance(value, bool | dict)}
    notes = [] if results["calls_exact"] else ["the number of calls depends on the answers: told for the given order"]
    return Answer(results, [_table([shown], notes)])


def _reranking(label: str, depth: int | None, lengths: list[int]) -> dict[str, Any]:
    pairs = sum(min(n, depth) if depth else n for n in lengths)
    row: dict[str, Any] = {"step": f"rerank {label}", "queries": sum(n > 0 for n in lengths), "pairs": pairs}
    if label in _RATES:
        row["seconds"] = round(pairs / _RATES[label], 1)
    return row


def config_estimate(config: Config) -> Answer:
    """The steps of an experiment; every name, option and measure is checked, and nothing is built or loaded but what
    tells the costs of late, colberter and sparse indexes."""
    data = load_dataset(config.dataset)
    for stages in config.pipeline.values():
        check_stages(stages)
    parts = list(data.parts.values()) or [data]
    measures = [str(measure) for measure in parse_measures(config.measures or data.measures)]
    steps: dict[str, dict[str, Any]] = {}
    for part in parts:
        for stages in config.pipeline.values():
            for row in _steps(stages, part):
                steps[f"{part.id} {row['step']}"] = {"dataset": part.id} | row
    results = {"systems": list(config.pipeline), "measures": measures, "steps": list(steps.values())}
    table = _table(list(steps.values()), list(dict.fromkeys(row["note"] for row in steps.values() if "note" in row)))
    return Answer(results, [table], [f"systems: {', '.join(config.pipeline)}", f"measures: {' '.join(measures)}"])


def _steps(stages: list[dict[str, Any]], data: Dataset) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    candidates = 0
    for stage in stages:
        of = stage.get("of", ())
        for part in [of] if isinstance(of, dict) else of:
            rows += _steps([part] if isinstance(part, dict) else part, data)
        if reranker := stage.get("reranker"):
            rows += _steps([{"use": "given"}, *([reranker] if isinstance(reranker, dict) else reranker)], data)
        if stage["use"] in ("bm25", "dense", *ENCODED) and not isinstance(stage.get("index"), str):
            rows.append(_indexing(data, stage["use"], _building(stage)))
        candidates = stage.get("k", 1000) if "depth" not in stage else candidates
        if stage["use"] in entries("rerankers"):
            depth = int(stage.get("depth", 100))
            n = min(candidates or depth, depth)
            rows.append(_reranking(stage["use"], depth, [n] * len(data.queries)) | _calls(stage, n))
    return rows


def _building(stage: dict[str, Any]) -> dict[str, Any]:
    """The options of the build of the index that a stage needs."""
    shared = find("retrievers", stage["use"]).shared_options
    return {name: stage[name] for name in shared if stage.get(name) is not None} | (stage.get("index") or {})


def _calls(stage: dict[str, Any], n: int) -> dict[str, Any]:
    """An LLM reranker's calls a query and how many go one after another, where the strategy knows them in advance."""
    made = make("rerankers", stage["use"], {name: value for name, value in stage.items() if name != "use"})
    planned = made.chosen_strategy.planned(n) if isinstance(made, LLMReranker) else None
    return {"calls": planned[0], "depth": planned[1]} if planned else {}


_ROUGH = "seconds are rough: MiniLM on one CPU core, see docs/benchmarks.md; of late, colberter and sparse by a sample, on this machine"


def _table(rows: list[dict[str, Any]], notes: Sequence[str] = ()) -> Table:
    columns = list(dict.fromkeys(name for row in rows for name in row if name not in ("options", "note")))
    cells = [[_cell(row.get(name)) for name in columns] for row in rows]
    return Table(columns, cells, notes=[*notes, _ROUGH])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)
