"""Exact dense search: `FlatIndex.search` against FAISS and torch on the same vectors.

    python -m cribble.bench.bench_exact [--vectors 500000] [--rounds 3] [--batches 64 200] [--k 10 100 1000] [--folder DIR]

All read the same vectors in the same process, in turns, on one pinned core. The vectors are synthetic: unit, of 384
dimensions, in 2,000 clusters with a 1/i spectrum; `--folder` keeps their index for the next run. Ours gives ids and exact
scores, the peers positions and float32 scores; `rows only` leaves the ids out. Prints queries per second by processor
time (which neighbours on the machine disturb least), the ratios of each round (the peer's time to ours: least and
median), and checks that

- the plain scan and both low-precision ones give identical ids and scores, and
- FAISS finds the same documents but for such as its float32 can't tell apart.

The matrix product's rate is measured beside: it is the ceiling of every scan in float32.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

DIM, CLUSTERS = 384, 2000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vectors", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 200])
    parser.add_argument("--k", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--folder", type=Path, help="where the index is kept (default: a temporary folder)")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "index"
        return compare(folder, options)


def compare(folder: Path, options: argparse.Namespace) -> int:
    import faiss
    import numpy as np
    import torch
    from cribble.index.flat import FlatIndex
    from cribble.vectors import Dense

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    if not (folder / "manifest.json").exists():
        build(folder, options.vectors)
    stored, on_the_fly = FlatIndex.open(folder, verify=False), FlatIndex.open(folder, verify=False)
    on_the_fly._has_codes = False
    on_the_fly._codes = lambda number: None  # type: ignore[assignment]
    stored.scan = on_the_fly.scan = "int8"
    matrix = stored.vectors(np.arange(len(stored)))
    queries = next(synthetic(max(options.batches), seed=1))
    started = time.process_time()
    stored.search(Dense(queries[:1]), 1)
    size = sum(f["bytes"] for name, f in stored.manifest.files.items() if name.endswith(("codes.npy", "bounds.npy")))
    print(f"{len(stored):,} vectors of {DIM} dimensions, {matrix.nbytes / 2**20:.0f} MiB; codes {size / 2**20:.0f} MiB; "
          f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, OPENBLAS_CORETYPE="
          f"{os.environ.get('OPENBLAS_CORETYPE', 'unset')}; load {os.getloadavg()[0]:.1f}; "
          f"loading the compiled scan took {time.process_time() - started:.2f} s of processor time")  # fmt: skip

    as_installed = faiss.cvar.distance_compute_blas_threshold
    tensor = torch.from_numpy(matrix)

    def by_torch(block: Any, k: int) -> Any:
        return torch.topk(torch.from_numpy(block) @ tensor.T, k)

    failed = 0
    for batch in options.batches:
        slow: list[float] = []
        for k in options.k:
            block = queries[:batch]

            def by_faiss(threshold: int, block: Any = block, k: int = k) -> Any:
                faiss.cvar.distance_compute_blas_threshold = threshold
                try:
                    return faiss.knn(block, matrix, k, faiss.METRIC_INNER_PRODUCT)
                finally:
                    faiss.cvar.distance_compute_blas_threshold = as_installed

            ways: dict[str, Callable[[], Any]] = {
                "codes in files": partial(stored.search, Dense(block), k),
                "codes in files, rows only": partial(rows_only, stored, block, k),
                "codes on the fly": partial(on_the_fly.search, Dense(block), k),
                "FAISS, BLAS from 20 queries": partial(by_faiss, 20),
                "torch matmul + topk": partial(by_torch, block, k),
            }
            if not slow:  # its time hardly depends on k, and is long
                started = time.process_time()
                by_faiss(as_installed)
                slow = [time.process_time() - started] * options.rounds
            print(f"\n{batch} queries, k = {k}")
            answers, seconds, ceilings = measure(ways, options.rounds, block, matrix[:25_000])
            report(batch, len(stored), seconds | {"FAISS as installed (one round)": slow}, ceilings)
            failed += not same(answers, stored, block, k)
    one = queries[:1]
    print("\n1 query, k = 10")
    stored.search(Dense(one), 10)
    _, seconds, _ = measure(
        {
            "codes in files": lambda: stored.search(Dense(one), 10),
            "FAISS as installed": lambda: faiss.knn(one, matrix, 10, faiss.METRIC_INNER_PRODUCT),
            "torch matmul + topk": partial(by_torch, one, 10),
        },
        3 * options.rounds,
        one,
        matrix[:25_000],
    )
    report(1, len(stored), seconds, {})
    return 1 if failed else 0


def rows_only(index: Any, block: Any, k: int) -> list[tuple[Any, Any]]:
    """What the peers give: rows and scores, best first, without ids and without the rule for ties."""
    import numpy as np
    from cribble.index import scan

    shards = scan.Shards(index._starts, index._shard, index._codes, index.score_kind)
    found = []
    for scores, rows in filter(None, scan.search(shards, block, k)):
        order = np.argsort(-scores)[:k]
        found.append((rows[order], scores[order]))
    return found


def measure(ways: dict[str, Callable[[], Any]], rounds: int, block: Any, part: Any) -> tuple[dict, dict, dict]:
    """Answers, seconds of processor time per round, and GFLOP/s of matrix products per round."""
    import torch

    left, right = torch.from_numpy(block), torch.from_numpy(part)
    products = {"numpy": lambda: block @ part.T, "torch": lambda: left @ right.T}
    answers: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    rates: dict[str, list[float]] = {name: [] for name in products}
    for _ in range(rounds):
        for name, multiply in products.items():
            started = time.process_time()
            for _ in range(4):
                multiply()
            rates[name].append(4 * 2 * block.size * len(part) / (time.process_time() - started) / 1e9)
        for name, way in ways.items():
            started = time.process_time()
            answers[name] = way()
            seconds[name].append(time.process_time() - started)
    return answers, seconds, rates


def report(batch: int, rows: int, seconds: dict[str, list[float]], rates: dict[str, list[float]]) -> None:
    for name, taken in rates.items():
        ceiling = max(taken) * 1e9 / (2 * rows * DIM)
        print(f"  {name + ' product alone':30} {max(taken):6.1f} GFLOP/s at best: no more than {ceiling:.0f} queries/s")
    ours = next(iter(seconds))
    for name, taken in seconds.items():
        ratios = [peer / own for peer, own in zip(taken, seconds[ours], strict=True)]
        against = (
            "" if name == ours else f"   ours {min(ratios):5.2f} x at least, {statistics.median(ratios):5.2f} x median"
        )
        best, middle = batch / min(taken), batch / statistics.median(taken)
        print(f"  {name:30} {middle:7.1f} queries/s median, {best:7.1f} best{against}")


def same(answers: dict[str, Any], index: Any, block: Any, k: int) -> bool:
    """Whether all ways agree: ours to the last bit, FAISS up to what float32 can tell apart."""
    import numpy as np
    from cribble.vectors import Dense

    few = 8
    index.scan = "plain"
    plain = index.search(Dense(block[:few]), k)
    index.scan = "int8"
    ours, other = answers["codes in files"], answers["codes on the fly"]
    equal = all(
        list(one.ids) == list(two.ids) and np.array_equal(one.scores, two.scores)
        for one, two in [*zip(ours, other, strict=True), *zip(ours[:few], plain, strict=True)]
    )
    scores, found = answers["FAISS, BLAS from 20 queries"]
    differing, excused = 0, True
    for ranking, theirs, values in zip(ours, found, scores, strict=True):
        mine = {int(i) for i in ranking.ids}
        odd = mine.symmetric_difference(theirs.tolist())
        differing += len(odd) // 2
        known = dict(zip(ranking.ids, ranking.scores, strict=True)) | dict(zip(map(str, theirs), values, strict=True))
        excused &= all(abs(known[str(i)] - ranking.scores[-1]) < 1e-5 for i in odd)
    print(f"  identical to the plain scan and on the fly: {equal}; {differing} of {found.size} not in FAISS's answer"
          + (", all within 1e-5 of the k-th score" if differing and excused else ""))  # fmt: skip
    return equal and excused


def synthetic(count: int, *, seed: int, at_once: int = 4096) -> Iterator[Any]:
    """Unit vectors (at_once, 384) float32 around 2,000 centres."""
    import numpy as np

    fixed, drawn = np.random.default_rng(0), np.random.default_rng(seed)
    spread = (1 / np.sqrt(np.arange(1, DIM + 1))).astype(np.float32)
    rotation = np.linalg.qr(fixed.standard_normal((DIM, DIM)))[0].astype(np.float32)
    centres = fixed.standard_normal((CLUSTERS, DIM), np.float32) * spread
    for start in range(0, count, at_once):
        size = min(at_once, count - start)
        near = centres[drawn.integers(0, CLUSTERS, size)]
        values = (near + 0.7 * drawn.standard_normal((size, DIM), np.float32) * spread) @ rotation
        yield values / np.linalg.norm(values, axis=1, keepdims=True)


def build(folder: Path, count: int) -> None:
    from cribble.index.flat import FlatIndex
    from cribble.records import Document
    from cribble.vectors import Dense, EncoderSpec

    blocks = synthetic(count, seed=2)
    FlatIndex.build(
        folder,
        (Document(str(i), "") for i in range(count)),
        lambda documents: Dense(next(blocks)),
        spec=EncoderSpec("synthetic", dim=DIM),
        corpus=f"synthetic-{count}",
        similarity="dot",
        codes=True,
    )


if __name__ == "__main__":
    sys.exit(main())
