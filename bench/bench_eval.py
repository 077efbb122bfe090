"""Reading a TREC run of 6,980 x 1,000 and scoring it: ours against pytrec_eval and ranx, each in a fresh process.

    python -m cribble.bench.bench_eval [--rounds 3] [--ranx] [--queries 6980] [--cores 2]

Prints seconds to import, to read and to evaluate, ratios to ours, processor seconds and peak memory, and checks that the values are
equal. ranx is optional because it takes about a minute; its tie order differs, so its values are shown, not checked.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

MEASURES = ("nDCG@10", "AP", "RR@10", "R@100")
TOLERANCE = 1e-9


def make_files(folder: Path, queries: int, depth: int = 1000) -> tuple[Path, Path]:
    """A run whose every third query has many ties, in no order of ids, and 1 to 4 judgements a query."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    rng = np.random.default_rng(13)
    corpus = 8_841_823
    run, qrels = folder / "run.trec", folder / "qrels.txt"
    with run.open("wb") as out, qrels.open("w") as judged:
        for number in range(queries):
            query = str(1_048_000 + 3 * number)
            step = int(rng.integers(1, corpus // depth))
            ids = ((int(rng.integers(corpus)) + step * np.arange(depth)) % corpus)[rng.permutation(depth)]
            scores = np.sort(rng.gamma(4.0, 2.0, depth))[::-1] + 5
            scores = np.round(scores, 1 if number % 3 == 0 else 6)
            rank = pa.array(np.arange(1, depth + 1)).cast(pa.string())
            columns = (pa.array(ids).cast(pa.string()), rank, pa.array(scores).cast(pa.string()))
            rows = pc.binary_join_element_wise(f"{query} Q0", *columns, "bench\n", " ")
            out.write("".join(rows.to_pylist()).encode())
            for place in set(np.minimum(rng.geometric(0.02, int(rng.integers(1, 5))), depth + 5).tolist()):
                document = ids[place - 1] if place <= depth else corpus + place
                judged.write(f"{query} 0 {document} {int(rng.integers(0, 4))}\n")
    return run, qrels


def ours(run: str, qrels: str, clock: Any) -> dict[str, float]:
    from cribble.eval import evaluate
    from cribble.records import Qrels, Run

    clock("import")
    read = Run.read(run)
    judged = Qrels.read(qrels)
    clock("read")
    return evaluate(read, judged, MEASURES).means


def pytrec_eval(run: str, qrels: str, clock: Any) -> dict[str, float]:
    import pytrec_eval

    clock("import")
    with open(run) as stream:
        read = pytrec_eval.parse_run(stream)
    with open(qrels) as stream:
        judged = pytrec_eval.parse_qrel(stream)
    clock("read")
    rows = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.10", "map", "recip_rank", "recall.100"}).evaluate(read)
    names = ("ndcg_cut_10", "map", "recip_rank", "recall_100")
    values = [sum(row[name] for row in rows.values()) / len(judged) for name in names]
    # It has no RR@10; RR uncut is cut here, by the reciprocal's own value.
    values[2] = sum(row["recip_rank"] for row in rows.values() if row["recip_rank"] > 1 / 10.5) / len(judged)
    return dict(zip(MEASURES, values, strict=True))


def ranx(run: str, qrels: str, clock: Any) -> dict[str, float]:
    import ranx

    clock("import")
    read = ranx.Run.from_file(run, kind="trec")
    judged = ranx.Qrels.from_file(qrels, kind="trec")
    clock("read")
    values = ranx.evaluate(judged, read, ["ndcg@10", "map", "mrr@10", "recall@100"], make_comparable=True)
    return dict(zip(MEASURES, map(float, values.values()), strict=True))


PEERS = {"cribble": ours, "pytrec_eval": pytrec_eval, "ranx": ranx}


def worker(peer: str, run: str, qrels: str) -> None:
    """Run one peer in this process and print what it took as JSON."""
    import resource
    import time

    seconds: dict[str, float] = {}
    last = time.perf_counter()

    def clock(what: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[what], last = now - last, now

    values = PEERS[peer](run, qrels, clock)
    clock("evaluate")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    processor = time.process_time()
    print(json.dumps({"seconds": seconds, "processor": processor, "peak": peak, "values": values}))


def measure(peers: list[str], run: Path, qrels: Path, rounds: int, cores: int) -> dict[str, list[dict[str, Any]]]:
    """`rounds` fresh processes of each peer, in turns, on the first `cores` cores that we may use."""
    results: dict[str, list[dict[str, Any]]] = {peer: [] for peer in peers}
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    for _ in range(rounds):
        for peer in peers:
            command = [sys.executable, "-m", "cribble.bench.bench_eval", "--worker", peer, str(run), str(qrels)]
            done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=run.parent)
            results[peer].append(json.loads(done.stdout.splitlines()[-1]))
    return results


def show(results: dict[str, list[dict[str, Any]]]) -> bool:
    """Print the table; True if the checked values are equal."""

    def work(row: dict[str, Any]) -> float:
        return row["seconds"]["read"] + row["seconds"]["evaluate"]

    print(
        f"{'':12} {'import':>7} {'read':>7} {'evaluate':>9} {'read+evaluate':>14} {'median':>7} {'x ours':>7} {'cpu':>6} {'MB':>6}"
    )
    best = {peer: min(rows, key=work) for peer, rows in results.items()}
    for peer, rows in results.items():
        seconds, ratio = best[peer]["seconds"], work(best[peer]) / work(best["cribble"])
        median = sorted(map(work, rows))[len(rows) // 2]
        processor = min(row["processor"] for row in rows)
        peak = max(row["peak"] for row in rows)
        print(
            f"{peer:12} {seconds['import']:7.2f} {seconds['read']:7.2f} {seconds['evaluate']:9.3f} "
            f"{work(best[peer]):14.2f} {median:7.2f} {ratio:7.2f} {processor:6.2f} {peak:6.0f}"
        )
    equal = True
    for name in MEASURES:
        values = {peer: row["values"][name] for peer, row in best.items()}
        gap = abs(values["cribble"] - values.get("pytrec_eval", values["cribble"]))
        equal &= gap <= TOLERANCE
        shown = "  ".join(f"{peer} {value:.12f}" for peer, value in values.items())
        print(f"{name:8} {shown}  |difference| {gap:.1e}")
    return equal


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=6980)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--ranx", action="store_true", help="run ranx too (about a minute a round)")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(*options.worker)
        return 0
    peers = ["cribble", "pytrec_eval", *(["ranx"] if options.ranx else [])]
    with tempfile.TemporaryDirectory() as folder:
        run, qrels = make_files(Path(folder), options.queries)
        print(f"{options.queries} queries x 1000 rows, {run.stat().st_size / 2**20:.0f} MiB, {options.cores} cores")
        equal = show(measure(peers, run, qrels, options.rounds, options.cores))
    print("values equal to pytrec_eval at 1e-9" if equal else "VALUES DIFFER from pytrec_eval")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
