"""What indexes of MiniLM's token states find on real collections: nDCG@10, recall of the exact best 10, bytes, ms a query.

    CRIBBLE_DATA=… python -m cribble.bench.bench_late_quality --cache FOLDER [COLLECTION …] [--only PART …] [--rebuild]

A collection is encoded once, into an exact float32 index in --cache; it is the truth of the recall, and all other indexes
are built from its vectors and kept beside it (`--rebuild` makes those that run anew). Each is searched as an index is by
default but for what the table says. Bytes are those of all files but texts and ids. Milliseconds are of process time in
one pinned thread, queries given one at a time, after two that are not timed. Prints Markdown.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..corpora import Dataset, load_dataset
from ..eval import evaluate
from ..index.multivector import MultivectorIndex
from ..index.opening import find_kind
from ..models.multivector_options import make_token_encoder
from ..records import Document, Ranking, Run
from ..vectors import MultiVector

COLLECTIONS = ("cranfield", "vaswani-npl", "trec-dl-2019-judged", "scifact")

#: Queries that are timed, one at a time.
TIMED = 30


@dataclass(frozen=True)
class Case:
    """A row: an index of `kind` built with `options` and searched for the best `k` with `parameters`."""

    label: str
    kind: str = "multivector-exact"
    k: int = 100
    options: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        return "-".join([self.kind, *(f"{name}={value}" for name, value in self.options.items())])


def cases() -> list[Case]:
    """The exact index first, then the others."""
    kinds = [Case("exact, int8", options={"storage": "int8"})]
    for bits in (8, 4, 2, 1):
        kinds += [Case(f"plaid, {bits} bit{'s' * (bits > 1)}, k = {k}", "plaid", k, {"bits": bits}) for k in (100, 10)]
    for k in (100, 10):
        kinds.append(Case(f"plaid, 2 bits, warp, k = {k}", "plaid", k, {"bits": 2}, {"mode": "warp"}))
    kinds.append(Case("muvera, 200 candidates", "muvera", parameters={"candidates": 200}))
    for factor in (2, 4):
        kinds.append(Case(f"exact, float16, pooled ×{factor}", options={"storage": "float16", "pool_factor": factor}))
    return kinds


# ---- token vectors, encoded once ------------------------------------------------------------------------------------


def encoded(data: Dataset, folder: Path) -> tuple[MultivectorIndex, MultiVector]:
    """The exact float32 index and the queries' vectors of a collection, encoded where they are not in `folder` yet."""
    queries = folder / "queries.npz"
    if not queries.exists() or not (folder / "float32" / "manifest.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        encoder, start = make_token_encoder(device="cpu"), time.process_time()
        vectors = encoder.encode_queries([query.text for query in data.queries])
        np.savez(queries, tokens=vectors.tokens, offsets=vectors.offsets)
        MultivectorIndex.build(
            folder / "float32",
            data.documents(),
            encoder.encode_documents,
            spec=encoder.spec,
            corpus=data.id,
            storage="float32",
            truncated=lambda: encoder.truncated,
        )
        print(f"{data.id}: encoding took {time.process_time() - start:.0f} s of process time", flush=True)
    kept = np.load(queries)
    return MultivectorIndex.open(folder / "float32", verify=False), MultiVector(kept["tokens"], kept["offsets"])


def copied(source: MultivectorIndex) -> Callable[[Sequence[Document]], MultiVector]:
    """An encoder that looks the vectors of documents up in the exact index; batches come in the corpus's order."""
    rows = {doc_id: row for row, doc_id in enumerate(source.texts.ids.to_pylist())}

    def encode(batch: Sequence[Document]) -> MultiVector:
        return source.vectors(np.array([rows[document.id] for document in batch]))

    return encode


def opened(case: Case, source: MultivectorIndex, folder: Path, rebuild: bool) -> tuple[Any, float | None]:
    """The index of a row, and the seconds of process time that it took to build, None where it was there."""
    path, kind, seconds = folder / case.folder, find_kind(case.kind), None
    if rebuild:
        shutil.rmtree(path, ignore_errors=True)
    if not (path / "manifest.json").exists():
        start, spec = time.process_time(), source.manifest.encoder
        kind.build(path, source.texts, copied(source), spec=spec, corpus=folder.name, **case.options)
        seconds = time.process_time() - start
    return kind.open(path, verify=False), seconds


# ---- what is measured -----------------------------------------------------------------------------------------------


def vector_bytes(folder: Path) -> int:
    """Bytes of an index's files but those of ids, texts and facts about it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return sum(p.stat().st_size for p in files if not p.name.startswith(("ids.", "texts.")) and p.suffix != ".json")


def single(queries: MultiVector, i: int) -> MultiVector:
    """Query `i` alone."""
    return MultiVector(queries[i], np.array([0, len(queries[i])]))


def milliseconds(search: Callable[[MultiVector], object], queries: MultiVector) -> float:
    """Process time a query."""
    for i in range(2):
        search(single(queries, i))
    start = time.process_time()
    for i in range(min(TIMED, len(queries))):
        search(single(queries, i))
    return 1000 * (time.process_time() - start) / min(TIMED, len(queries))


def ndcg(data: Dataset, found: list[Ranking]) -> float:
    rows = [(query.id, *ranking) for query, ranking in zip(data.queries, found, strict=True)]
    run = Run.from_rankings(rows, name="late", score_kind="maxsim")
    return float(evaluate(run, data.qrels or {}, "nDCG@10").means["nDCG@10"])


def measure(name: str, cache: Path, only: list[str], rebuild: bool) -> None:
    """Print the rows of one collection."""
    data, folder = load_dataset(f"beir:{Path(os.environ['CRIBBLE_DATA']) / name}"), cache / name
    source, queries = encoded(data, folder)
    tokens = int(source.manifest.counts["tokens"])
    mean = len(queries.tokens) / len(queries)
    print(f"\n{name}: {len(source):,} documents, {tokens:,} tokens of {source.dim} dimensions", end=", ")
    print(f"{len(queries)} queries of {mean:.1f} tokens\n")
    print(
        "| index | nDCG@10 | of exact | recall of the exact best 10 | bytes a document | a token | ms a query | build, s |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    exact = source.search(queries, 100)
    truth, best = ndcg(data, exact), [set(ranking.ids[:10]) for ranking in exact]

    def row(label: str, index: Any, k: int, parameters: dict[str, Any], seconds: float | None) -> None:
        found = exact if index is source else index.search(queries, k, **parameters)
        value = ndcg(data, found)
        shared = sum(len(set(a.ids[:10]) & b) for a, b in zip(found, best, strict=True))
        size = vector_bytes(index.path)
        used = milliseconds(lambda one: index.search(one, k, **parameters), queries)
        print(
            f"| {label} | {value:.4f} | {value / truth:.1%} | {shared / sum(map(len, best)):.4f} | {size / len(source):,.0f} "
            f"| {size / tokens:,.1f} | {used:.1f} | {'' if seconds is None else f'{seconds:.0f}'} |",
            flush=True,
        )

    row("exact, float32", source, 100, {}, None)
    built: set[str] = set()
    for case in cases():
        if only and not any(part in case.label for part in only):
            continue
        index, seconds = opened(case, source, folder, rebuild and case.folder not in built)
        built.add(case.folder)
        row(case.label, index, case.k, case.parameters, seconds)


def main() -> None:
    """Parses the command line; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="*", default=COLLECTIONS, help=f"default: {' '.join(COLLECTIONS)}")
    parser.add_argument("--cache", type=Path, default=Path("runs/late-quality"))
    parser.add_argument(
        "--only", nargs="*", default=[], help="parts of the names of indexes; the exact one always runs"
    )
    parser.add_argument("--rebuild", action="store_true", help="do not take other indexes that are in the cache")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    for name in given.collections:
        measure(name, given.cache, given.only, given.rebuild)


if __name__ == "__main__":
    main()
