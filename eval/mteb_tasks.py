"""`mteb:TASK`: a retrieval or reranking task of the mteb package as a dataset, loaded by the package itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..corpora.dataset import Dataset
from ..errors import InputError, SetupError, UsageError, require
from ..records import Qrels, Query, Run
from .mteb_adapter import corpus_dataset, query_text


def load_task(name: str, *, split: str | None = None) -> Dataset:
    """The task of this name with its documents, queries and judgements, of its first evaluation split unless named."""
    mteb = require("mteb", f"mteb:{name}")
    try:
        task = mteb.get_task(name)
    except KeyError as error:
        raise UsageError(f"mteb:{name}: mteb has no such task") from error
    try:
        task.load_data()
    except (OSError, RuntimeError, ConnectionError, ValueError) as error:
        raise SetupError(f"mteb:{name}: mteb can't load it ({type(error).__name__}: {error})") from error
    return task_dataset(task, split)


def task_dataset(task: Any, split: str | None = None) -> Dataset:
    """A loaded task of one subset as a dataset. Its candidates (`top_ranked`) become `candidates`, in their order; hits with
    the query's own id count where the task says so.
    """
    name = task.metadata.name
    if len(task.dataset) != 1:
        raise UsageError(
            f"mteb:{name} has {len(task.dataset)} subsets, each a collection of its own: it is not taken yet"
        )
    splits = next(iter(task.dataset.values()))
    split = split or task.metadata.eval_splits[0]
    if split not in splits:
        raise InputError(f"mteb:{name}: no split {split!r}, there are {', '.join(splits)}")
    data = splits[split]
    dataset = corpus_dataset(data["corpus"], f"mteb:{name}@{split}")
    judged = {str(q): {str(d): int(v) for d, v in row.items()} for q, row in data["relevant_docs"].items()}
    dataset.qrels = Qrels.from_dict(judged, name=dataset.id)
    queries = [Query(str(row["id"]), query_text(row)) for row in data["queries"]]
    dataset.queries = [query for query in queries if query.id in dataset.qrels]
    dataset.drop_self = bool(task.ignore_identical_ids)
    if data.get("top_ranked"):
        listed = [(str(q), [str(d) for d in ids]) for q, ids in data["top_ranked"].items()]
        rankings = [(query_id, ids, -np.arange(len(ids), dtype=np.float64)) for query_id, ids in listed]
        dataset.candidates = Run.from_rankings(rankings, name=dataset.id, score_kind="rank")
    return dataset
