"""Search of packed codes: ours against FAISS's binary indexes, FAISS's exact float search, and usearch's, at equal bytes.

    python -m cribble.bench.bench_binary [--vectors 500000] [--rounds 3] [--folder DIR] [--usearch PYTHON]

384-dimensional synthetic vectors (`bench_exact.synthetic`), 48 bytes a document everywhere but in float. All read the same
vectors in one process, in turns, on one pinned core; `usearch` in a process of the interpreter that is named, on the same
codes and core. Queries per second are by processor time (which neighbours disturb least); recall@10 is against exact
float search. Ratios are those of each round: least and median.

Codes: `sign` of the vectors; `192 x 2` two bits a coordinate by a recurrence without training (the first principal axes,
rotated, as BEBR's linear maps, and their transpose); `--binariser` a model that `cribble train bebr` made.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from .bench_exact import DIM, synthetic

WIDTH, PLANES = 192, 2
K, BATCH = 10, 200


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vectors", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where indexes are kept (default: a temporary folder)")
    parser.add_argument("--binariser", type=Path, help="a folder that `cribble train bebr` made")
    parser.add_argument("--usearch", help="a Python that has usearch")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        compare(options.folder or Path(temporary), options)
    return 0


class Recurrence:
    """Two signs of a rotated projection: of the vector, then of what the first leaves over."""

    def __init__(self, sample: Any) -> None:
        import numpy as np

        axes = np.linalg.eigh(sample.T.astype(np.float64) @ sample)[1][:, ::-1][:, :WIDTH]
        self.rotation = axes @ np.linalg.qr(np.random.default_rng(3).standard_normal((WIDTH, WIDTH)))[0]
        self.identity = {"name": "rotated", "width": WIDTH, "planes": PLANES, "sha256": "untrained"}

    def codes(self, vectors: Any) -> Any:
        import numpy as np
        from cribble.index.binary_codes import pack

        values = vectors.astype(np.float64) @ self.rotation
        first = values >= 0
        step = np.abs(values).mean(axis=1, keepdims=True)
        second = values - np.where(first, step, -step) >= 0
        return pack((2 * first + second).astype(np.uint8), PLANES)


def compare(folder: Path, options: argparse.Namespace) -> None:
    import faiss
    import numpy as np
    import torch
    from cribble.index.opening import open_index
    from cribble.models.recurrent_binarisation import RecurrentBinariser
    from cribble.vectors import Dense

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    queries = next(synthetic(BATCH, seed=1))
    sample = np.concatenate([block for block, _ in zip(synthetic(20_000, seed=3), range(5), strict=False)])
    binarisers: dict[str, Any] = {f"{WIDTH} x {PLANES}": Recurrence(sample)}
    if options.binariser:
        trained = RecurrentBinariser.load(options.binariser)
        binarisers[f"trained {trained.shape.width} x {trained.shape.planes}"] = trained
    indexes: dict[str, Any] = {}
    for structure in ("flat", "ivf"):
        indexes[f"sign {structure}"] = open_index(built(folder, "sign", structure, options.vectors), verify=False)
        for name, binariser in binarisers.items():
            path = built(folder, "bebr", structure, options.vectors, binariser)
            indexes[f"{name} {structure}"] = open_index(path, verify=False, binariser=binariser)
    sign = indexes["sign flat"]
    matrix = sign.vectors(np.arange(len(sign)))
    signs = np.ascontiguousarray(sign.segments[0][1])
    asked = np.packbits(queries >= 0, axis=1)
    print(
        f"{len(sign):,} vectors, {matrix.nbytes / 2**20:.0f} MiB; codes {signs.nbytes / 2**20:.1f} MiB; load {os.getloadavg()[0]:.1f}"
    )

    hamming = faiss.IndexBinaryFlat(DIM)
    hamming.add(signs)
    faiss.cvar.distance_compute_blas_threshold = 20  # its wheel never uses BLAS as installed
    truth = faiss.knn(queries, matrix, K, faiss.METRIC_INNER_PRODUCT)[1]

    ways: dict[str, Callable[[], Any]] = {
        f"{name}": partial(rows_only, index, queries) for name, index in indexes.items() if "flat" in name
    }
    ways["FAISS BinaryFlat, sign"] = lambda: hamming.search(asked, K)[1]
    ways["FAISS float flat, tuned"] = lambda: faiss.knn(queries, matrix, K, faiss.METRIC_INNER_PRODUCT)[1]
    print("\nExhaustive, 200 queries at once, k = 10, without re-scoring")
    report(measured(ways, options.rounds), truth, "FAISS BinaryFlat, sign", "FAISS float flat, tuned")
    ceiling(indexes, queries)

    print("\nWith ids, scores and ties by rule; re-scored by the stored vectors")
    ways = {}
    for name in (name for name in indexes if "flat" in name):
        for verify in (100, 400):
            ways[f"{name}, verify={verify}"] = partial(with_ids, indexes[name], Dense(queries), verify=verify)
    for depth in (100, 400):
        ways[f"FAISS BinaryFlat + numpy re-scoring of {depth}"] = partial(
            rescored, hamming, asked, queries, matrix, depth
        )
    report(measured(ways, options.rounds), truth, "FAISS BinaryFlat + numpy re-scoring of 400", None)

    print("\nInverted lists, without re-scoring")
    faiss_lists = faiss_ivf(signs, 1024)
    ways = {}
    for nprobe in (4, 8, 16, 32, 64):
        ways[f"FAISS BinaryIVF 1024, nprobe {nprobe}"] = partial(probed, faiss_lists, asked, nprobe)
        for name in (name for name in indexes if "ivf" in name):
            ways[f"{name}, nprobe {nprobe}"] = partial(rows_only, indexes[name], queries, nprobe=nprobe)
    report(measured(ways, options.rounds), truth, "FAISS BinaryIVF 1024, nprobe 32", None)

    print("\nInverted lists, re-scored: FAISS by numpy, ours with ids and exact order")
    ways = {}
    for nprobe in (8, 32):
        ways[f"FAISS BinaryIVF 1024, nprobe {nprobe}, 100"] = partial(
            rescored, faiss_lists, asked, queries, matrix, 100, nprobe
        )
        for name in (name for name in indexes if "ivf" in name):
            ways[f"{name}, nprobe {nprobe}, 100"] = partial(
                with_ids, indexes[name], Dense(queries), nprobe=nprobe, verify=100
            )
    report(measured(ways, options.rounds), truth, "FAISS BinaryIVF 1024, nprobe 32, 100", None)
    if options.usearch:
        print("\nusearch, Hamming graph of the same codes")
        print(in_usearch(options.usearch, folder, signs, asked, queries, matrix, truth))


# ---- ours ---------------------------------------------------------------------------------------------------------------


def built(folder: Path, kind: str, structure: str, count: int, binariser: Any = None) -> Path:
    """An index of the synthetic vectors; those of codes by a binariser leave the vectors to be stored as well."""
    from cribble.index.binary_writer import WithCodes
    from cribble.index.opening import find_kind
    from cribble.records import Document
    from cribble.vectors import Dense, EncoderSpec

    shape = "" if binariser is None else f"-{binariser.identity['sha256'][:8]}"
    path = folder / f"{kind}{shape}-{structure}-{count}"
    if (path / "manifest.json").exists():
        return path
    blocks = synthetic(count, seed=2)

    def encode(documents: Any) -> Any:
        return Dense(next(blocks))

    started = time.process_time()
    find_kind(kind).build(
        path, (Document(f"{i:07d}", "") for i in range(count)), encode if binariser is None else WithCodes(encode, binariser),
        spec=EncoderSpec("synthetic", dim=DIM), corpus=f"synthetic-{count}", similarity="cosine", structure=structure,
    )  # fmt: skip
    print(f"built {path.name} in {time.process_time() - started:.0f} s of processor time")
    return path


def rows_only(index: Any, queries: Any, nprobe: int | None = None) -> Any:
    """What the peers give: rows, best first; without ids and the rule for ties."""
    import numpy as np
    from cribble.vectors import Dense

    values = index._prepared(Dense(queries))
    found = index._proposed(values, K, None, len(index), {"nprobe": nprobe})
    return [rows[np.argsort(-scores, kind="stable")[:K]] for scores, rows in found]


def with_ids(index: Any, queries: Any, **parameters: Any) -> Any:
    return [[int(doc_id) for doc_id in ids] for ids, _ in index.search(queries, K, **parameters)]


# ---- peers --------------------------------------------------------------------------------------------------------------


def faiss_ivf(signs: Any, lists: int) -> Any:
    import faiss

    coarse = faiss.IndexBinaryFlat(DIM)
    index = faiss.IndexBinaryIVF(coarse, DIM, lists)
    index.own_fields = False
    index.cp.max_points_per_centroid = 64
    index.coarse = coarse  # keeps it alive
    started = time.process_time()
    index.train(signs)
    index.add(signs)
    print(f"FAISS BinaryIVF built in {time.process_time() - started:.0f} s of processor time")
    return index


def probed(index: Any, asked: Any, nprobe: int) -> Any:
    index.nprobe = nprobe
    return index.search(asked, K)[1]


def rescored(index: Any, asked: Any, queries: Any, matrix: Any, depth: int, nprobe: int | None = None) -> Any:
    import numpy as np

    if nprobe is not None:
        index.nprobe = nprobe
    rows = index.search(asked, depth)[1]
    found = []
    for query, mine in zip(queries, rows, strict=True):
        mine = mine[mine >= 0]
        found.append(mine[np.argsort(-(matrix[mine] @ query))[:K]])
    return found


_USEARCH = """
import sys, time, json, os
os.environ["OMP_NUM_THREADS"] = "1"
import numpy as np
from usearch.index import Index, MetricKind, ScalarKind
folder, depth = sys.argv[1], 100
signs, asked, queries, truth = (np.load(f"{folder}/{n}.npy") for n in ("signs", "asked", "queries", "truth"))
matrix = np.load(f"{folder}/matrix.npy", mmap_mode="r")
index = Index(ndim=384, metric=MetricKind.Hamming, dtype=ScalarKind.B1, connectivity=32, expansion_add=100)
start = time.process_time()
index.add(np.arange(len(signs)), signs, threads=1)
said = {"build_s": round(time.process_time() - start)}
for ef in (128, 256):
    index.expansion_search = ef
    best = 1e9
    for _ in range(3):
        start = time.process_time()
        found = index.search(asked, depth, threads=1).keys
        rows = [m[np.argsort(-(matrix[m] @ q))[:10]] for q, m in zip(queries, found)]
        best = min(best, time.process_time() - start)
    recall = np.mean([len(set(r.tolist()) & set(t.tolist())) / 10 for r, t in zip(rows, truth)])
    said[f"ef {ef}, 100 re-scored"] = [round(len(asked) / best), round(float(recall), 3)]
print(json.dumps(said))
"""


def in_usearch(python: str, folder: Path, signs: Any, asked: Any, queries: Any, matrix: Any, truth: Any) -> str:
    import numpy as np

    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for name, array in (
            ("signs", signs), ("asked", asked), ("queries", queries), ("matrix", matrix), ("truth", truth),
        ):  # fmt: skip
            np.save(f"{temporary}/{name}.npy", array)
        done = subprocess.run([python, "-c", _USEARCH, temporary], capture_output=True, text=True, check=True)
    return "\n".join(f"  {name}: {value}" for name, value in json.loads(done.stdout).items())


# ---- figures ------------------------------------------------------------------------------------------------------------


def measured(ways: dict[str, Callable[[], Any]], rounds: int) -> dict[str, tuple[Any, list[float]]]:
    """Answers, and seconds of processor time per round; one call before the rounds warms up."""
    answers = {name: way() for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            way()
            seconds[name].append(time.process_time() - started)
    return {name: (answers[name], seconds[name]) for name in ways}


def report(found: dict[str, tuple[Any, list[float]]], truth: Any, against: str, second: str | None) -> None:
    for name, (rows, taken) in found.items():
        recall = statistics.fmean(len({*map(int, r)} & {*t.tolist()}) / K for r, t in zip(rows, truth, strict=True))
        parts = [f"  {name:48} {BATCH / statistics.median(taken):9,.0f} q/s   recall@10 {recall:.3f}"]
        for peer in filter(None, (against, second)):
            if peer != name:
                ratios = [p / own for p, own in zip(found[peer][1], taken, strict=True)]
                parts.append(f"{min(ratios):6.2f} / {statistics.median(ratios):.2f} x {peer}")
        print("   ".join(parts))


def ceiling(indexes: dict[str, Any], queries: Any) -> None:
    """Bytes of codes that one query alone reads a second, and those that adding up the same bytes reads."""
    import numpy as np

    for name, index in indexes.items():
        if "flat" not in name:
            continue
        words = index._tiles[0].words
        alone, plain = [], []
        for _ in range(9):
            started = time.process_time()
            rows_only(index, queries[:1])
            alone.append(time.process_time() - started)
            started = time.process_time()
            np.bitwise_or.reduce(words, axis=None)
            plain.append(time.process_time() - started)
        print(
            f"  {name}: one query alone {1e3 * min(alone):.2f} ms, {words.nbytes / min(alone) / 1e9:.1f} GB/s; "
            f"numpy's OR of the same bytes {words.nbytes / min(plain) / 1e9:.1f} GB/s"
        )


if __name__ == "__main__":
    sys.exit(main())
