"""`bright:FOLDER@SPLIT[/long][+VARIANT]`: BRIGHT (Su et al., arXiv 2407.12883) as its publishers' folder of Parquet files has it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InputError, UsageError, suggest
from ..records import Document, Qrels, Query
from .dataset import Dataset
from .document_stream import oddities, say
from .judged import judged_only
from .seen_ids import SeenIds

logger = logging.getLogger("cribble")

#: How the data say that a query excludes nothing.
_NONE = "N/A"


def load_bright(where: str) -> Dataset:
    """One split, such as `bright:BRIGHT@biology`. `/long` takes the whole pages as documents; `+gpt4` searches with the
    reasoning that gpt4 wrote for each query, which rerankers do not see. Documents that a query excludes are `excluded`.

    The folder has `examples/SPLIT-*.parquet`, `documents/…`, `long_documents/…` and `VARIANT_reason/…`.
    """
    folder, at, rest = where.rpartition("@")
    if not at or not folder:
        raise UsageError(
            f"bright:{where}: expected FOLDER@SPLIT, e.g. bright:BRIGHT@biology or bright:BRIGHT@pony/long"
        )
    rest, _, variant = rest.partition("+")
    split, _, long = rest.partition("/")
    if long not in ("", "long"):
        raise UsageError(f"bright:{where}: {long!r} after the split: expected /long for whole pages, or nothing")
    root = Path(folder)
    rows = _rows(_files(root, "examples", split))
    gold = "gold_ids_long" if long else "gold_ids"
    judged = {str(row["id"]): dict.fromkeys(_ids(row[gold]), 1) for row in rows}
    searched = {}
    if variant:
        variants = sorted(path.name.removesuffix("_reason") for path in root.glob("*_reason"))
        if variant not in variants:
            raise UsageError(f"bright:{where}: no reasoning of {variant!r} in {root}: {suggest(variant, variants)}")
        searched = {str(row["id"]): str(row["query"]) for row in _rows(_files(root, f"{variant}_reason", split))}
        absent = [query_id for query_id in judged if query_id not in searched]
        if absent:
            raise InputError(f"bright:{where}: {variant} has no reasoning for query {absent[0]!r} ({len(absent)} such)")
    excluded = {str(row["id"]): frozenset(_ids(row["excluded_ids"])) for row in rows}
    for query_id, ids in excluded.items():
        if both := sorted(ids & judged[query_id].keys()):
            raise InputError(f"bright:{where}: query {query_id!r} excludes {both[0]!r}, which is relevant to it")
    documents = _files(root, "long_documents" if long else "documents", split)
    qrels = Qrels.from_dict({query_id: ids for query_id, ids in judged.items() if ids}, name=f"bright:{where}")
    return Dataset(
        f"bright:{where}",
        judged_only([Query(str(row["id"]), str(row["query"])) for row in rows], qrels, f"bright:{where}"),
        qrels,
        open_documents=partial(_documents, documents, f"bright:{where}"),
        num_documents=sum(pq.ParquetFile(path).metadata.num_rows for path in documents),
        excluded={query_id: ids for query_id, ids in excluded.items() if ids},
        search_texts=searched,
        measures="R@1 nDCG@10" if long else "nDCG@10 R@100",
        description="questions that take reasoning" + (", whole pages" if long else ""),
        version=" ".join(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in documents),
    )


def _files(root: Path, config: str, split: str) -> list[Path]:
    found = sorted((root / config).glob(f"{split}-*.parquet")) or sorted((root / config).glob(f"{split}.parquet"))
    if not found:
        there = sorted({path.name.split("-")[0].removesuffix(".parquet") for path in (root / config).glob("*.parquet")})
        raise InputError(f"{root / config}: no split {split!r} ({split}-*.parquet): {suggest(split, there)}")
    return found


def _rows(paths: list[Path]) -> list[dict[str, Any]]:
    try:
        return [row for path in paths for row in pq.read_table(path).to_pylist()]
    except pa.ArrowInvalid as error:
        raise InputError(f"{paths[0]}: no Parquet file ({error})") from error


def _ids(values: list[str] | None) -> list[str]:
    return [] if not values or list(values) == [_NONE] else [str(value) for value in values]


def _documents(paths: list[Path], name: str) -> Iterator[Document]:
    """One pass; of documents that share an id the first is kept, as Pyserini does, and the rest counted."""
    seen = SeenIds(), SeenIds(seed=1)
    remarks: Counter[str] = Counter()
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(1024, columns=["id", "content"]):
            ids, texts = [str(i) for i in batch["id"].to_pylist()], batch["content"].to_pylist()
            again = set(seen[0].add(ids)) & set(seen[1].add(ids))
            remarks["repeated"] += len(again)
            for position, (document_id, text) in enumerate(zip(ids, texts, strict=True)):
                if position not in again:
                    document = Document(document_id, text or "")
                    remarks.update(oddities(document))
                    yield document
    say(remarks, name)
