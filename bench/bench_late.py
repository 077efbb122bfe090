"""Late interaction: exact MaxSim against PyLate's scoring, and what indexes of token vectors find and cost on a collection.

python -m cribble.bench.bench_late [kernel] [--peer PYTHON]   1 query × 1,000 documents × ~120 tokens × 128 dimensions
python -m cribble.bench.bench_late quality DATASET FOLDER     nDCG@10, recall of the exact best 10, bytes, ms a query

`--peer` is the Python of an environment with pylate; without it the peer is a padded einsum with PyLate's semantics, and
is called that. Both run in one call, interleaved, in one thread; figures are of process time, the clock's beside them.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROUNDS = 15

#: Queries of a collection that are timed, one at a time.
TIMED = 20

#: What the other interpreter does: reads vectors, scores on demand, answers with process time and clock.
_PEER = """
import sys, time
import numpy as np, torch
torch.set_num_threads(1)
from pylate import rank, scores
data = np.load(sys.argv[1])
query, tokens, offsets = (torch.from_numpy(data[n]) for n in ("query", "tokens", "offsets"))
documents = [tokens[a:b] for a, b in zip(offsets[:-1], offsets[1:])]
padded = torch.nn.utils.rnn.pad_sequence(documents, batch_first=True)
mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(d)) for d in documents], batch_first=True)
ids = [list(range(len(documents)))]
def colbert_scores():
    return scores.colbert_scores(query[None], padded, documents_mask=mask)[0]
def rerank():
    return rank.rerank(documents_ids=ids, queries_embeddings=[query], documents_embeddings=[documents])
print("ready", flush=True)
for line in sys.stdin:
    work = {"colbert_scores": colbert_scores, "rerank": rerank}[line.strip()]
    p, c = time.process_time(), time.perf_counter()
    found = work()
    p, c = time.process_time() - p, time.perf_counter() - c
    first = float(found[0]) if line.strip() == "colbert_scores" else float(found[0][0]["score"])
    print(p, c, first, flush=True)
"""


def vectors(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A query of 32 unit tokens of 128 numbers and 1,000 documents of 20 to 220."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(20, 221, 1000))])
    tokens = rng.standard_normal((int(offsets[-1]) + 32, 128)).astype(np.float32)
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    return tokens[:32], tokens[32:], offsets


def kernel(peer: str | None) -> None:
    """Documents a second of ours and of the peer, and the ratio."""
    import torch

    from ..index.maxsim import maxsim

    torch.set_num_threads(1)
    query, tokens, offsets = vectors()
    works: dict[str, Callable[[], tuple[float, float, float]]] = {
        "ours, float32": lambda: _timed(lambda: float(maxsim(query, tokens, offsets)[0]))
    }
    process = None
    if peer:
        with tempfile.NamedTemporaryFile(suffix=".npz", delete=False) as file:
            np.savez(file, query=query, tokens=tokens, offsets=offsets)
        command = [peer, "-c", _PEER, file.name]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started = process
        if _line(started) != "ready":
            raise SystemExit(f"{peer} did not start")
        works["pylate.scores.colbert_scores, padded tensors given"] = lambda: _asked(started, "colbert_scores")
        works["pylate.rank.rerank"] = lambda: _asked(started, "rerank")
    works["padded einsum (PyLate's semantics, written here)"] = lambda: _timed(_padded(query, tokens, offsets))
    for work in [*works.values()] * 2:
        work()
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            rows[name].append(work())
    ours = statistics.median(row[0] for row in rows["ours, float32"])
    print("| 1 query × 1,000 documents | documents/s (process) | best | clock | ours is faster by |")
    print("|---|---|---|---|---|")
    for name, found in rows.items():
        process_time = statistics.median(row[0] for row in found)
        best, clock = min(row[0] for row in found), statistics.median(row[1] for row in found)
        print(
            f"| {name} | {1000 / process_time:,.0f} | {1000 / best:,.0f} | {1000 / clock:,.0f} | {process_time / ours:.2f} |"
        )
    print("score of the first document or the best:", {name: round(found[0][2], 4) for name, found in rows.items()})
    if process:
        process.communicate()
        Path(file.name).unlink()


def _timed(work: Callable[[], float]) -> tuple[float, float, float]:
    used, clock = time.process_time(), time.perf_counter()
    value = work()
    return time.process_time() - used, time.perf_counter() - clock, value


def _line(process: Any) -> str:
    return str(process.stdout.readline()).strip()


def _asked(process: Any, what: str) -> tuple[float, float, float]:
    process.stdin.write(f"{what}\n")
    process.stdin.flush()
    used, clock, value = map(float, _line(process).split())
    return used, clock, value


def _padded(query: np.ndarray, tokens: np.ndarray, offsets: np.ndarray) -> Callable[[], float]:
    import torch

    documents = [torch.from_numpy(tokens[a:b]) for a, b in itertools.pairwise(offsets)]
    padded = torch.nn.utils.rnn.pad_sequence(documents, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(d)) for d in documents], batch_first=True)
    left = torch.from_numpy(query)[None]

    def work() -> float:
        scores = torch.einsum("ash,bth->abst", left, padded) * mask[None, :, None, :]
        return float(scores.max(dim=-1).values.sum(dim=-1)[0, 0])

    return work


# ---- a collection ---------------------------------------------------------------------------------------------------


def quality(name: str, folder: Path, only: list[str]) -> None:
    """Exact indexes in all storages and MUVERA over the same token vectors, which are encoded once."""
    import torch

    from ..corpora import load_dataset
    from ..eval import evaluate
    from ..index.multivector import MultivectorIndex
    from ..index.opening import find_kind
    from ..models.multivector_options import make_token_encoder
    from ..records import Run
    from ..vectors import MultiVector

    torch.set_num_threads(1)
    data = load_dataset(name)
    encoder = make_token_encoder(device="cpu")
    if not (folder / "float32" / "manifest.json").exists():
        start = time.process_time()
        MultivectorIndex.build(
            folder / "float32",
            data.documents(),
            encoder.encode_documents,
            spec=encoder.spec,
            corpus=data.id,
            storage="float32",
        )
        print(f"encoding and building float32: {time.process_time() - start:.0f} s of process time")
    source = MultivectorIndex.open(folder / "float32")
    rows = {doc_id: row for row, doc_id in enumerate(source.texts.ids.to_pylist())}

    def again(batch: list[Any]) -> MultiVector:
        return source.vectors(np.array([rows[document.id] for document in batch]))

    queries = data.queries
    tokens = encoder.encode_queries([query.text for query in queries])
    cases: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
        (storage, "multivector-exact", {"storage": storage}, {})
        for storage in ("float32", "float16", "bfloat16", "int8")
    ]
    for width, options in (("10,240", {}), ("2,560", {"repetitions": 5})):
        cases += [(f"muvera {width}, {n} candidates", "muvera", options, {"candidates": n}) for n in (100, 200)]
    cases += [
        (f"float16, pooled ×{n}", "multivector-exact", {"storage": "float16", "pool_factor": n}, {}) for n in (2, 4)
    ]
    cases.append(("muvera 10,240 in HNSW, 100 candidates", "muvera", {"structure": "hnsw"}, {"candidates": 100}))
    exact: list[set[str]] = []
    print(f"{len(source):,} documents, {source.manifest.counts['tokens']:,} tokens, {len(queries)} queries")
    print("| index | nDCG@10 | recall of the exact best 10 | bytes a document | of it to propose | ms a query |")
    print("|---|---|---|---|---|---|")
    for label, kind, options, parameters in cases:
        if only and exact and not any(part in label for part in only):
            continue
        path = folder / "-".join([kind, *(f"{n}={v}" for n, v in options.items())])
        path = folder / "float32" if label == "float32" else path
        if not (path / "manifest.json").exists():
            build = find_kind(kind).build
            build(path, source.texts, again, spec=encoder.spec, corpus=data.id, **options)
        index = find_kind(kind).open(path)
        found = index.search(tokens, 100, **parameters)
        start = time.process_time()
        for i in range(TIMED):
            index.search(MultiVector(tokens[i], np.array([0, len(tokens[i])])), 100, **parameters)
        used = time.process_time() - start
        best = [set(ranking.ids[:10]) for ranking in found]
        exact = exact or best
        recall = sum(len(a & b) for a, b in zip(best, exact, strict=True)) / sum(map(len, exact))
        run = Run.from_rankings(
            [(q.id, *r) for q, r in zip(queries, found, strict=True)], name=label, score_kind="maxsim"
        )
        value = evaluate(run, data.qrels or {}, "nDCG@10").means["nDCG@10"]
        counts = index.manifest.counts
        proposing = counts.get("proposal_bytes_per_document", 0)
        held = counts["vector_bytes_per_document"] + proposing
        print(
            f"| {label} | {value:.4f} | {recall:.4f} | {held:,} | {proposing:,} | {1000 * used / TIMED:.1f} |",
            flush=True,
        )


def main() -> None:
    """Parses the command line; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["kernel", "quality"], default="kernel")
    parser.add_argument("dataset", nargs="?")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--peer")
    parser.add_argument(
        "--only", nargs="*", default=[], help="parts of the names of indexes; the exact one always runs"
    )
    given = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if given.what == "kernel":
        kernel(given.peer)
    elif given.folder is None:
        parser.error("quality takes a dataset and a folder")
    else:
        quality(given.dataset, given.folder, given.only)


if __name__ == "__main__":
    main()
