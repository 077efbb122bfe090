"""Approximate index kinds: recall@10 against exact search, bytes a document and queries a second on one thread.

    python -m cribble.bench.bench_ann [--synthetic 100000] [--kinds hnsw ivf-pq] [--out FOLDER]
    python -m cribble.bench.bench_ann --data FOLDER --cache FOLDER [--documents 60000]

The first makes unit vectors of 384 dimensions in 2,000 clusters with a 1/i spectrum. The second takes MiniLM's vectors of
the BEIR folders in --data, joined, with their own queries; they are encoded once and kept in --cache, one file a
collection, and at most --documents of them are used. Every kind is built by its rules and searched with each setting of
the table below, 1,000 queries in batches of 100, k = 10; the best of three rounds counts. Seconds are the process's CPU
time on one thread, so that neighbours do not count. Bytes are those of the FAISS file; verified settings also read the
vectors of their candidates from the disk.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from cribble.corpora import load_dataset
from cribble.index.opening import find_kind
from cribble.records import Document
from cribble.vectors import Dense, EncoderSpec

DIM, K, BATCH = 384, 10, 100

#: Kind, its build options, the settings of its searches.
TABLE: list[tuple[str, dict[str, Any], list[dict[str, Any]]]] = [
    ("ivf-flat", {}, [{}, {"nprobe": 16}, {"nprobe": 64}]),
    ("hnsw", {}, [{}, {"ef": 64}, {"ef": 256}]),
    ("pq", {}, [{}, {"verify": True}, {"verify": 400}]),
    ("ivf-pq", {}, [{}, {"verify": True}, {"verify": 400}]),
    ("opq-ivf-pq", {}, [{}, {"verify": True}]),
    ("two-level", {}, [{}, {"pq_weight": 0}, {"pq_weight": 0, "candidates": 200}]),
    ("sq8", {}, [{}, {"verify": True}]),
    ("sq4", {}, [{}, {"verify": True}]),
    ("fp16", {}, [{}]),
    ("bf16", {}, [{}]),
    ("factory", {"factory": "IVF1024,PQ96x4fs"}, [{}, {"nprobe": 64, "verify": 200}]),
]


def synthetic(count: int, queries: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (count, 384) and (queries, 384) of the same clusters."""
    rng = np.random.default_rng(0)
    scale = (1 / np.sqrt(np.arange(1, DIM + 1))).astype(np.float32)
    centres = rng.standard_normal((2000, DIM), np.float32) * scale
    rows = np.empty((count + queries, DIM), np.float32)
    for start in range(0, len(rows), 50_000):
        part = rows[start : start + 50_000]
        part[:] = centres[rng.integers(2000, size=len(part))]
        part += 0.7 * rng.standard_normal(part.shape, np.float32) * scale
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows[:count], rows[count:]


def real(data: Path, cache: Path, most: int, left_out: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """MiniLM's vectors of the documents of all collections in `data`, joined, and of at most 1,000 of their queries."""
    from cribble.models.encoder import Encoder

    encoder: Encoder | None = None
    vectors, queries, total = [], [], 0
    for folder in sorted(data.iterdir()):
        kept = cache / f"{folder.name}.documents.npy"
        if folder.name in left_out:
            continue
        if not kept.exists():
            if total >= most or not any(folder.glob("corpus.jsonl*")) or not any(folder.glob("queries.jsonl*")):
                continue
            encoder = encoder or Encoder()
            splits = sorted(path.name.partition(".")[0] for path in (folder / "qrels").glob("*.tsv*"))
            split = "" if "test" in splits or not splits else f"@{splits[0]}"
            dataset = load_dataset(f"beir:{folder}{split}")
            asked = encoder.encode_queries([query.text for query in dataset.queries])
            np.save(cache / f"{folder.name}.queries.npy", asked.values)
            np.save(kept, encoder.encode_documents(list(dataset.documents())).values)
        vectors.append(np.load(kept))
        queries.append(np.load(cache / f"{folder.name}.queries.npy"))
        total += len(vectors[-1])
        print(f"{folder.name}: {len(vectors[-1]):,} documents, {len(queries[-1]):,} queries", flush=True)
    joined = np.concatenate(queries).astype(np.float32)
    chosen = np.random.default_rng(0).permutation(len(joined))[:1000]
    return np.concatenate(vectors)[:most].astype(np.float32), joined[chosen]


def documents(count: int) -> Iterator[Document]:
    return (Document(f"{i:08d}", "x") for i in range(count))


def build(kind: str, folder: Path, vectors: np.ndarray, options: dict[str, Any]) -> Any:
    def encode(batch: list[Document]) -> Dense:
        first = int(batch[0].id)
        return Dense(vectors[first : first + len(batch)])

    spec = EncoderSpec("given", dim=vectors.shape[1], similarity="cosine")
    shard = {"shard_documents": 16384}
    return find_kind(kind).build(
        folder, documents(len(vectors)), encode, spec=spec, corpus="given", total=len(vectors), **shard, **options
    )


def timed(search: Callable[[np.ndarray], list[Any]], queries: np.ndarray, rounds: int) -> tuple[list[Any], float]:
    """The answers, and queries a second of the best round."""
    best, found = float("inf"), []
    for _ in range(rounds):
        start = time.process_time()
        found = [answer for i in range(0, len(queries), BATCH) for answer in search(queries[i : i + BATCH])]
        best = min(best, time.process_time() - start)
    return found, len(queries) / best


def exact_rows(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The rows (b, 10) of the largest inner products, by numpy, in blocks."""
    best = np.full((len(queries), K), -np.inf, np.float32)
    rows = np.zeros((len(queries), K), np.int64)
    for start in range(0, len(vectors), 20_000):
        block = queries @ vectors[start : start + 20_000].T
        here = np.argpartition(block, -K, axis=1)[:, -K:]
        scores = np.concatenate([best, np.take_along_axis(block, here, 1)], 1)
        found = np.concatenate([rows, here + start], 1)
        kept = np.argpartition(scores, -K, axis=1)[:, -K:]
        best, rows = np.take_along_axis(scores, kept, 1), np.take_along_axis(found, kept, 1)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--synthetic", type=int, default=100_000)
    parser.add_argument("--data", type=Path, help="folder of BEIR folders: MiniLM's vectors instead of synthetic ones")
    parser.add_argument("--cache", type=Path, help="where the encoded vectors are kept")
    parser.add_argument("--documents", type=int, default=60_000)
    parser.add_argument("--leave-out", nargs="*", default=[], help="collections in --data that are not used")
    parser.add_argument("--kinds", nargs="+", choices=[row[0] for row in TABLE])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where the indexes are built (a folder for the time by default)")
    arguments = parser.parse_args()
    if arguments.data and not arguments.cache:
        sys.exit("--data needs --cache, a folder for the encoded vectors")
    if arguments.data:
        arguments.cache.mkdir(parents=True, exist_ok=True)
        vectors, queries = real(arguments.data, arguments.cache, arguments.documents, arguments.leave_out)
    else:
        vectors, queries = synthetic(arguments.synthetic)
    exact = exact_rows(vectors, queries)
    print(f"{len(vectors):,} vectors of {vectors.shape[1]} dimensions, {len(queries):,} queries, k = {K}, one thread")
    print(f"{'kind':<11} {'factory':<26} {'build s':>8} {'B/doc':>6}  {'setting':<36} {'recall@10':>9} {'q/s':>8}")
    for kind, options, settings in TABLE:
        if arguments.kinds and kind not in arguments.kinds:
            continue
        with tempfile.TemporaryDirectory(dir=arguments.out) as folder:
            start = time.process_time()
            index = build(kind, Path(folder) / "index", vectors, options)
            seconds = time.process_time() - start
            size = index.manifest.counts["ann_bytes_per_document"]
            for parameters in settings:
                found, rate = timed(lambda part: index.search(Dense(part), K, **parameters), queries, arguments.rounds)  # noqa: B023
                recall = np.mean(
                    [len({int(i) for i in ids} & set(row)) / K for (ids, _), row in zip(found, exact, strict=True)]
                )
                setting = " ".join(f"{name}={value}" for name, value in parameters.items()) or "by rule"
                factory = index.description["factory"]
                print(
                    f"{kind:<11} {factory:<26} {seconds:>8.1f} {size:>6,}  {setting:<36} {recall:>9.3f} {rate:>8,.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
