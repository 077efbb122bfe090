"""Search of packed codes: ours against FAISS's binary indexes, FAISS's exact float search, and usearch's, at equal bytes.

    python -m cribble.bench.bench_binary [--vectors 500000] [--rounds 3] [--parts exhaustive lists verified] [--usearch PYTHON]

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

#: Inverted lists, ours and FAISS's, and codes that each learns from.
LISTS, TRAINED = 1024, 40


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vectors", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", nargs="+", default=["exhaustive", "lists", "verified"])
    parser.add_argument("--binariser", type=Path, help="a folder that `cribble train bebr` made")
    parser.add_argument("--usearch", help="a Python that has usearch")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        compare(Path(temporary), options)
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


class Codes:
    """Codes of all documents and of the queries, in tiles and in inverted lists."""

    def __init__(self, name: str, binariser: Any, blocks: list[Any], queries: Any, folder: Path, lists: int) -> None:
        import numpy as np
        from cribble.index import sdc
        from cribble.index.binary_files import Run
        from cribble.index.binary_lists import Lists, directions, write_lists

        self.name = name
        width, planes = binariser.identity["width"], binariser.identity["planes"]
        self.packed = np.concatenate([binariser.codes(block) for block in blocks])
        asked = binariser.codes(queries)
        self.asked = sdc.Queries(asked, width, planes, 1 / sdc.norms(asked, width, planes))
        rows = np.arange(len(self.packed))
        self.tiles = sdc.make_tiles(self.packed, rows, width, planes, cosine=True)
        if lists:
            started = time.process_time()
            home = folder / f"lists {name}"
            home.mkdir(parents=True)
            write_lists(home, [Run(self.packed, binariser.identity)], lists, TRAINED * lists, 1234)
            self.lists = Lists(home, [(0, self.packed, width, planes)], cosine=True)
            self.coarse = directions
            print(f"lists of {name} made in {time.process_time() - started:.0f} s of processor time")

    def search(self, nprobe: int | None = None, count: int = BATCH) -> Any:
        """Rows, best first, as the peers give them; without ids and the rule for ties."""
        import numpy as np
        from cribble.index import sdc

        asked, tiles, probed = self.asked[:count], [self.tiles], None
        if nprobe is not None:
            near = self.coarse(asked.packed, asked.width, asked.planes)
            tiles, probed = self.lists.tiles, self.lists.probed(near, K, 1.0, nprobe)
        found = sdc.search(tiles, asked, K, probed=probed, ranks=lambda: np.arange(len(self.packed)))
        return [rows[np.argsort(-scores, kind="stable")[:K]] for scores, rows in found]


def compare(folder: Path, options: argparse.Namespace) -> None:
    import faiss
    import numpy as np
    import torch
    from cribble.index.binary_rotations import signs
    from cribble.models.recurrent_binarisation import RecurrentBinariser

    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    faiss.cvar.distance_compute_blas_threshold = 20  # its wheel never uses BLAS as installed
    queries = next(synthetic(BATCH, seed=1))
    sample = np.concatenate(list(synthetic(20_000, seed=3)))
    binarisers: dict[str, Any] = {"sign": signs(DIM), f"{WIDTH} x {PLANES}": Recurrence(sample)}
    if options.binariser:
        trained = RecurrentBinariser.load(options.binariser)
        binarisers[f"trained {trained.shape.width} x {trained.shape.planes}"] = trained
    blocks = list(synthetic(options.vectors, seed=2))
    matrix = np.concatenate(blocks)
    truth = faiss.knn(queries, matrix, K, faiss.METRIC_INNER_PRODUCT)[1]
    lists = LISTS if "lists" in options.parts else 0
    codes = {name: Codes(name, made, blocks, queries, folder, lists) for name, made in binarisers.items()}
    plain, asked = codes["sign"].packed, codes["sign"].asked.packed
    print(f"{len(matrix):,} vectors, {matrix.nbytes / 2**20:.0f} MiB; codes {plain.nbytes / 2**20:.1f} MiB; "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    hamming = faiss.IndexBinaryFlat(DIM)
    hamming.add(plain)
    if "exhaustive" in options.parts:
        ways: dict[str, Callable[[], Any]] = {f"{name}, exhaustive": codes[name].search for name in codes}
        ways["FAISS BinaryFlat, sign"] = lambda: hamming.search(asked, K)[1]
        ways["FAISS float flat, tuned"] = lambda: faiss.knn(queries, matrix, K, faiss.METRIC_INNER_PRODUCT)[1]
        print("\nExhaustive, 200 queries at once, k = 10, without re-scoring")
        report(measured(ways, options.rounds), truth, "FAISS BinaryFlat, sign", "FAISS float flat, tuned")
        ceiling(codes, hamming, asked)
    if "lists" in options.parts:
        faiss_lists = faiss_ivf(plain)
        ways = {}
        for nprobe in (4, 8, 16, 32, 64):
            ways[f"FAISS BinaryIVF, nprobe {nprobe}"] = partial(probed, faiss_lists, asked, nprobe)
            for name in codes:
                ways[f"{name}, lists, nprobe {nprobe}"] = partial(codes[name].search, nprobe)
        print(f"\n{LISTS} inverted lists, without re-scoring")
        report(measured(ways, options.rounds), truth, "FAISS BinaryIVF, nprobe 32", None)
    if "verified" in options.parts:
        verified(folder, options, binarisers, hamming, asked, queries, matrix, truth)
    if options.usearch:
        print("\nusearch, Hamming graph of the same codes")
        print(in_usearch(options.usearch, folder, plain, asked, queries, matrix, truth))


def verified(
    folder: Path, options: argparse.Namespace, binarisers: dict[str, Any], hamming: Any, asked: Any, queries: Any,
    matrix: Any, truth: Any,
) -> None:  # fmt: skip
    """Codes of an index propose, its stored vectors decide; ours gives ids, exact scores and ties by rule."""
    from cribble.index.opening import open_index
    from cribble.vectors import Dense

    ways: dict[str, Callable[[], Any]] = {}
    for name, binariser in binarisers.items():
        index = open_index(built(folder, name, options.vectors, binariser), verify=False)
        if name != "sign":
            index.use(binariser)
        for depth in (100, 400):
            ways[f"{name}, verify={depth}"] = partial(with_ids, index, Dense(queries), verify=depth)
    for depth in (100, 400):
        ways[f"FAISS BinaryFlat + numpy, {depth}"] = partial(rescored, hamming, asked, queries, matrix, depth)
    print("\nExhaustive, re-scored by the vectors")
    report(measured(ways, options.rounds), truth, "FAISS BinaryFlat + numpy, 400", None)


# ---- ours ---------------------------------------------------------------------------------------------------------------


def built(folder: Path, name: str, count: int, binariser: Any) -> Path:
    """An index of the synthetic vectors."""
    from cribble.index.binary_writer import WithCodes
    from cribble.index.opening import find_kind
    from cribble.records import Document
    from cribble.vectors import Dense, EncoderSpec

    path = folder / f"{name} {count}"
    if (path / "manifest.json").exists():
        return path
    blocks = synthetic(count, seed=2)

    def encode(documents: Any) -> Any:
        return Dense(next(blocks))

    find_kind("sign" if name == "sign" else "bebr").build(
        path, (Document(f"{i:07d}", "") for i in range(count)), encode if name == "sign" else WithCodes(encode, binariser),
        spec=EncoderSpec("synthetic", dim=DIM), corpus=f"synthetic-{count}", similarity="cosine",
    )  # fmt: skip
    return path


def with_ids(index: Any, queries: Any, **parameters: Any) -> Any:
    return [[int(doc_id) for doc_id in ids] for ids, _ in index.search(queries, K, **parameters)]


# ---- peers --------------------------------------------------------------------------------------------------------------


def faiss_ivf(signs: Any) -> Any:
    import faiss

    coarse = faiss.IndexBinaryFlat(DIM)
    index = faiss.IndexBinaryIVF(coarse, DIM, LISTS)
    index.cp.max_points_per_centroid = TRAINED
    started = time.process_time()
    index.train(signs)
    index.add(signs)
    print(f"FAISS BinaryIVF built in {time.process_time() - started:.0f} s of processor time")
    return index


def probed(index: Any, asked: Any, nprobe: int) -> Any:
    index.nprobe = nprobe
    return index.search(asked, K)[1]


def rescored(index: Any, asked: Any, queries: Any, matrix: Any, depth: int) -> Any:
    import numpy as np

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


def ceiling(codes: dict[str, Codes], hamming: Any, asked: Any) -> None:
    """One query alone: bytes of codes that are read a second, and those that reading the same bytes only reaches."""
    import numpy as np

    words = codes["sign"].tiles.words
    ways: dict[str, Callable[[], Any]] = {f"{name}, one query": partial(codes[name].search, count=1) for name in codes}
    ways["FAISS BinaryFlat, one query"] = lambda: hamming.search(asked[:1], K)
    ways["numpy's OR of the same bytes"] = lambda: np.bitwise_or.reduce(words, axis=None)
    for name, (_, taken) in measured(ways, 9).items():
        print(f"  {name:40} {1e3 * min(taken):6.2f} ms at best   {words.nbytes / min(taken) / 1e9:5.1f} GB/s")


if __name__ == "__main__":
    sys.exit(main())
