"""Comparing 30 runs of 6,980 x 1,000 by 6 measures, with intervals and corrected tests against a baseline: ours, ranx, ir_measures.

    python -m cribble.bench.bench_compare [--runs 30] [--peer-runs 2] [--peers /tmp/peers/compare/bin/python]

Ours does all runs from files to report. The peers get `--peer-runs` of the same files and evaluate them (ranx with its paired
t-test, ir_measures without any), each in a fresh process; their time for all runs is that of one more run times the rest. Prints
seconds by clock and processor, peak memory, and the largest difference of the means.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MEASURES = "nDCG@10 AP RR@10 R@100 P@10 R@1000"
TOLERANCE = 1e-8  # ranx orders the few equal scores in its own way


def make_files(folder: Path, runs: int, distinct: int, queries: int, depth: int = 1000) -> tuple[list[Path], Path]:
    """Runs of one pool a query that get better from file to file, links to the first `distinct` beyond those; one to four judged
    documents a query.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    rng = np.random.default_rng(13)
    ids = rng.permutation(8_841_823)[: 2 * depth * 40].reshape(40, 2 * depth)  # forty pools, a query's is one of them
    names = np.array([str(1_048_000 + 3 * number) for number in range(queries)])
    judged = [rng.permutation(2 * depth)[: int(rng.integers(1, 5))] for _ in range(queries)]
    qrels = folder / "qrels.txt"
    lines = [
        f"{name} 0 {ids[q % 40][at]} {int(rng.integers(1, 4))}\n"
        for q, (name, places) in enumerate(zip(names, judged, strict=True))
        for at in places
    ]
    qrels.write_text("".join(lines))
    rank = pa.array(np.arange(1, depth + 1)).cast(pa.string())
    paths = []
    for run in range(runs):
        path = folder / f"run{run:02}.trec"
        paths.append(path)
        if run >= distinct:
            path.hardlink_to(paths[run % distinct])
            continue
        with path.open("wb") as out:
            for q, name in enumerate(names):
                score = rng.gamma(2.0, 2.0, 2 * depth)
                score[judged[q]] += 2.0 + 0.2 * run
                best = np.argsort(-score)[:depth]
                columns = (
                    pa.array(ids[q % 40][best]).cast(pa.string()),
                    rank,
                    pa.array(np.round(score[best], 7)).cast(pa.string()),
                )
                rows = pc.binary_join_element_wise(f"{name} Q0", *columns, f"run{run}\n", " ")
                out.write("".join(rows.to_pylist()).encode())
    return paths, qrels


def ours(paths: list[str], qrels: str) -> dict[str, list[float]]:
    from cribble.commands.scoring import compare_runs

    answer = compare_runs([Path(path) for path in paths], None, Path(qrels), MEASURES, baseline=None, out=None, seed=1)
    wanted = MEASURES.split()
    return {name: [row["means"][measure] for measure in wanted] for name, row in answer.results["runs"].items()}


def ranx(paths: list[str], qrels: str) -> dict[str, list[float]]:
    import ranx

    judged = ranx.Qrels.from_file(qrels, kind="trec")
    runs = [ranx.Run.from_file(path, kind="trec") for path in paths]
    for path, run in zip(paths, runs, strict=True):
        run.name = Path(path).stem
    metrics = ["ndcg@10", "map", "mrr@10", "recall@100", "precision@10", "recall@1000"]
    if len(runs) == 1:
        means = ranx.evaluate(judged, runs[0], metrics, make_comparable=True)
        return {runs[0].name: [float(value) for value in means.values()]}
    report = ranx.compare(judged, runs, metrics, make_comparable=True)
    return {
        name: [float(row["scores"][metric]) for metric in metrics]
        for name, row in report.to_dict().items()
        if isinstance(row, dict) and "scores" in row
    }


def irm(paths: list[str], qrels: str) -> dict[str, list[float]]:
    import ir_measures

    wanted = [ir_measures.parse_measure(name) for name in MEASURES.split()]
    evaluator = ir_measures.evaluator(wanted, list(ir_measures.read_trec_qrels(qrels)))
    means = {}
    for path in paths:
        found = evaluator.calc_aggregate(ir_measures.read_trec_run(path))
        means[Path(path).stem] = [float(found[measure]) for measure in wanted]
    return means


PEERS = {"cribble": ours, "ranx": ranx, "ir_measures": irm}


def worker(peer: str, qrels: str, paths: list[str]) -> None:
    """One peer in this process; prints what it took as JSON."""
    import resource

    start = time.perf_counter()
    means = PEERS[peer](paths, qrels)
    seconds = time.perf_counter() - start
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    processor = sum(usage.ru_utime + usage.ru_stime for usage in both)
    peak = sum(usage.ru_maxrss for usage in both) / 1024
    print(json.dumps({"seconds": seconds, "processor": processor, "peak": peak, "means": means}))


def call(peer: str, python: str, paths: list[Path], qrels: Path) -> dict[str, Any]:
    command = [python, str(Path(__file__).resolve()), "--worker", peer, str(qrels), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=qrels.parent)
    if done.returncode:
        raise SystemExit(f"{peer} failed: {done.stderr[-2000:]}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def cost(row: dict[str, Any]) -> str:
    return f"{row['seconds']:.1f} s, processor {row['processor']:.1f} s, peak {row['peak']:.0f} MB"


def beside(peer: str, options: argparse.Namespace, paths: list[Path], qrels: Path, whole: dict[str, Any]) -> bool:
    """Time one peer on the first runs and say what all would take; True where its means are ours."""
    one = call(peer, options.peers, paths[:1], qrels)
    some = call(peer, options.peers, paths[: options.peer_runs], qrels)
    each = {what: (some[what] - one[what]) / (options.peer_runs - 1) for what in ("seconds", "processor", "peak")}
    told = {what: one[what] + more * (options.runs - 1) for what, more in each.items()}
    gaps = [
        abs(a - b) for name in some["means"] for a, b in zip(some["means"][name], whole["means"][name], strict=True)
    ]
    ratio = told["processor"] / whole["processor"]
    print(f"{peer}, {options.peer_runs} runs: {cost(some)}", flush=True)
    print(
        f"  for {options.runs}: {cost(told)}; {ratio:.1f} x our processor time; largest difference of a mean {max(gaps):.1e}"
    )
    return max(gaps) <= TOLERANCE


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--distinct", type=int, default=6, help="of them different; the others are links to those")
    parser.add_argument("--peer-runs", type=int, default=2)
    parser.add_argument("--queries", type=int, default=6980)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--peers", default=sys.executable, help="interpreter that has ranx and ir_measures")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        peer, qrels, *paths = options.worker
        worker(peer, qrels, paths)
        return 0
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    with tempfile.TemporaryDirectory() as folder:
        paths, qrels = make_files(Path(folder), options.runs, options.distinct, options.queries)
        size = sum(path.stat().st_size for path in paths) / 2**30
        print(
            f"{options.runs} runs of {options.queries} x 1000, {size:.1f} GiB, 6 measures, {options.cores} cores",
            flush=True,
        )
        whole = call("cribble", sys.executable, paths, qrels)
        print(f"cribble, all runs with tests: {cost(whole)}", flush=True)
        equal = beside("ranx", options, paths, qrels, whole)
        equal &= beside("ir_measures", options, paths, qrels, whole)
    fast = whole["seconds"] <= 60 and whole["peak"] <= 2048
    print("within 60 s and 2 GB" if fast else "OVER 60 s or 2 GB")
    return 0 if equal and fast else 1


if __name__ == "__main__":
    sys.exit(main())
