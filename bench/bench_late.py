"""Late interaction: exact MaxSim against PyLate's scoring, 1 query × 1,000 documents × ~120 tokens × 128 dimensions.

    python -m cribble.bench.bench_late [--peer PYTHON]

`--peer` is the Python of an environment with pylate; without it the peer is a padded einsum with PyLate's semantics, and
is called that. All run in one call, interleaved, in one thread; figures are of process time, the clock's beside them.
Ours are float32 tokens and all storages by all ways this CPU has. Beside each stand what memory could bring if nothing
but reading the tokens once took time, and what could be multiplied if all were in the first cache already: there, by the
same code; and the best matrix products of torch.
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
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

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
half, padded_half, mask_half = query[None].bfloat16(), padded.bfloat16(), mask.bfloat16()
def colbert_scores_bfloat16():
    return scores.colbert_scores(half, padded_half, documents_mask=mask_half)[0].float()
print("ready", flush=True)
for line in sys.stdin:
    work = {f.__name__: f for f in (colbert_scores, rerank, colbert_scores_bfloat16)}[line.strip()]
    p, c = time.process_time(), time.perf_counter()
    found = work()
    p, c = time.process_time() - p, time.perf_counter() - c
    first = float(found[0][0]["score"]) if line.strip() == "rerank" else float(found[0])
    print(p, c, first, flush=True)
"""


def vectors(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A query of 32 unit tokens of 128 numbers and 1,000 documents of 20 to 220."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(20, 221, 1000))])
    tokens = rng.standard_normal((int(offsets[-1]) + 32, 128)).astype(np.float32)
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    return tokens[:32], tokens[32:], offsets


class Work(NamedTuple):
    """What is timed: its process time, clock and a score; the same in the first cache; bytes read, operations."""

    run: Callable[[], tuple[float, float, float]]
    cached: Callable[[], tuple[float, float, float]] | None = None
    bytes: int = 0
    operations: int = 0


def ours() -> dict[str, Work]:
    """MaxSim of tokens in all storages by all ways; `maxsim` is float32."""
    from ..index.maxsim_factors import in_order
    from ..index.maxsim_stored import ways
    from ..index.multivector_files import STORAGE, read, stored

    query, tokens, offsets = vectors()
    operations = 2 * tokens.size * len(query)
    works: dict[str, Work] = {}
    exact = read(stored(query, "bfloat16")[0], "bfloat16")
    for storage in STORAGE:
        numbers, scales = stored(tokens, storage)
        places = [("", in_order(numbers))] + [(", at an address of numpy's", numbers)] * (storage == "bfloat16")
        for way in ways(storage)[:-1]:
            parts = {"amx": 4 if storage == "float16" else 2, "vnni": 2, "float32": 1}[way]
            for place, own in places:
                work = Work(
                    _stored(storage, way, query, own, scales, offsets),
                    _stored(storage, way, query, own, scales, offsets, cached=True),
                    numbers.nbytes + scales.nbytes,
                    operations * parts,
                )
                works[f"{storage} by {way}{place}"] = work
            if (storage, way) == ("bfloat16", "amx"):
                work = Work(
                    _stored(storage, way, exact, places[0][1], scales, offsets), None, numbers.nbytes, operations
                )
                works["bfloat16 by amx, a query of bfloat16"] = work
    return works


def _stored(
    storage: str,
    way: str,
    query: np.ndarray,
    numbers: np.ndarray,
    scales: np.ndarray,
    offsets: np.ndarray,
    cached: bool = False,
) -> Callable[[], tuple[float, float, float]]:
    """The whole of a query: its factors are made anew each time."""
    from ..index.maxsim_stored import StoredQueries

    scores, starts = np.empty((1, len(offsets) - 1), np.float32), np.array([0, len(query)])
    if cached:  # all rows are the first
        numbers = np.lib.stride_tricks.as_strided(numbers, numbers.shape, (0, numbers.itemsize))

    def work() -> float:
        StoredQueries.of(query, starts, storage, way).score(numbers, scales, offsets, scores, 0)
        return float(scores[0, 0])

    return lambda: _timed(work)


def kernel(peer: str | None) -> None:
    """Documents a second of ours and of the peer, and the ratio."""
    import torch

    torch.set_num_threads(1)
    works = ours()
    query, tokens, offsets = vectors()
    base = "padded einsum (PyLate's semantics, written here)"
    padded = _padded(query, tokens, offsets)
    works[base] = Work(lambda: _timed(padded))
    process = None
    if peer:
        with tempfile.NamedTemporaryFile(suffix=".npz", delete=False) as file:
            np.savez(file, query=query, tokens=tokens, offsets=offsets)
        command = [peer, "-c", _PEER, file.name]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started = process
        if _line(started) != "ready":
            raise SystemExit(f"{peer} did not start")
        base = "pylate colbert_scores"
        for what in ("colbert_scores", "colbert_scores_bfloat16", "rerank"):
            works[f"pylate {what}"] = Work(partial(_asked, started, what))
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in works}
    cached: dict[str, list[float]] = {name: [] for name in works}
    for number in range(ROUNDS + 2):
        for name, work in works.items():
            found = work.run()
            if number > 1:
                rows[name].append(found)
    for _ in range(ROUNDS):
        for name, work in works.items():
            cached[name].append(work.cached()[0] if work.cached else 0.0)
    told(works, rows, cached, base)
    if process:
        process.communicate()
        Path(file.name).unlink()


def told(
    works: dict[str, Work], rows: dict[str, list[tuple[float, float, float]]], cached: dict[str, list[float]], base: str
) -> None:
    """Print the table."""
    bandwidth, products = reading(), {name: multiplying(name) for name in ("float32", "bfloat16")}
    slowest = statistics.median(row[0] for row in rows[base])
    print(f"one core reads {bandwidth / 1e9:.1f} GB/s, torch multiplies", end=" ")
    print(", ".join(f"{name} at {rate / 1e9:.0f} GFLOP/s" for name, rate in products.items()))
    print(
        f"| 1 query × 1,000 documents | documents/s (process) | best | clock | times {base} | GFLOP/s | GB/s | in the first "
        f"cache, documents/s | GFLOP/s there | if only read |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, found in rows.items():
        median, work = statistics.median(row[0] for row in found), works[name]
        best, clock = min(row[0] for row in found), statistics.median(row[1] for row in found)
        cells = [f"{1000 / seconds:,.0f}" for seconds in (median, best, clock)] + [f"{slowest / median:.2f}"]
        if work.bytes:
            cells += [f"{work.operations / median / 1e9:.0f}", f"{work.bytes / median / 1e9:.1f}"]
            inside = min(cached[name])
            cells += [f"{1000 / inside:,.0f}", f"{work.operations / inside / 1e9:.0f}"] if inside else ["", ""]
            cells.append(f"{1000 * bandwidth / work.bytes:,.0f}")
        else:
            cells += [""] * 5
        print(f"| {name} | {' | '.join(cells)} |")
    print(
        "score of the first document (rerank: the best):", {name: round(found[0][2], 4) for name, found in rows.items()}
    )


def reading() -> float:
    """Bytes a second that one core reads, at best."""
    numbers = np.ones(1 << 25, np.int64)
    return numbers.nbytes / _best(lambda: np.bitwise_or.reduce(numbers))


def multiplying(kind: str) -> float:
    """Operations a second of torch's products in a cache, at best; it uses AMX for bfloat16 where there is AMX."""
    import torch

    left, right = (torch.ones(shape, dtype=getattr(torch, kind)) for shape in ((1024, 512), (512, 1024)))

    def products() -> None:
        for _ in range(10):
            left @ right

    return 10 * 2 * 1024 * 512 * 1024 / _best(products)


def _best(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(7):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


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
