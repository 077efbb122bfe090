"""Late interaction: exact MaxSim against PyLate's scoring, 1 query × 1,000 documents × ~120 tokens × 128 dimensions.

    python -m cribble.bench.bench_late [--peer PYTHON]

`--peer` is the Python of an environment with pylate; without it the peer is a padded einsum with PyLate's semantics, and
is called that. Both run in one call, interleaved, in one thread; figures are of process time, the clock's beside them.
Indexes over token vectors: bench_late_quality.py (collections) and bench_late_index.py (speed and size).
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


def main() -> None:
    """Parses the command line; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="the Python of an environment with pylate")
    given = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    kernel(given.peer)


if __name__ == "__main__":
    main()
