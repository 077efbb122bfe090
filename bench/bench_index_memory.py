"""Peak memory of building a dense index, for one corpus and for another ten times as large.

    python -m cribble.bench.bench_index_memory [--documents 20000 200000] [--shard-documents 4096] [--kind flat]

Each build runs in a process of its own: documents stream from a generator, a cheap deterministic function stands for
the encoder (384 dimensions, clustered). Reported is the growth of the peak resident set over the process before the
build, and, where /proc tells, of the peak of what is not a mapped file (`private`; sampled, with the index's own mapped
files left out). What may grow with the corpus are the id hashes that find duplicates: 8 bytes a document while building,
24 for a moment when the id table is sorted at the end (4.8 MB for 200,000 documents), and what the kind itself holds: the
training sample and the FAISS index.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from cribble.index.opening import find_kind
from cribble.records import Document
from cribble.vectors import Dense, EncoderSpec

DIM = 384


def stream(count: int) -> Iterator[Document]:
    """Documents of about 1,000 characters, made one at a time."""
    filler = "the quick brown fox jumps over the lazy dog while it rains " * 17
    for i in range(count):
        yield Document(f"document-{i:08d}", f"{i} {filler[i % 60 :]}", f"title {i}")


_SCALE = (1 / np.sqrt(np.arange(1, DIM + 1))).astype(np.float32)
_CENTRES = np.random.default_rng(0).standard_normal((2000, DIM), np.float32) * _SCALE


def encode(documents: list[Document]) -> Dense:
    """Vectors around 2,000 centres, the same for the same documents."""
    rng = np.random.default_rng(int(documents[0].id[-8:]))
    rows = rng.standard_normal((len(documents), DIM), np.float32) * (0.7 * _SCALE)
    rows += _CENTRES[rng.integers(len(_CENTRES), size=len(rows))]
    return Dense(rows)


class PrivatePeak:
    """The most memory of this process that is no mapped file, looked at every 20 ms; 0 where /proc does not tell."""

    def __init__(self) -> None:
        self.bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PrivatePeak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.bytes = max(self.bytes, private_bytes())


def private_bytes() -> int:
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def peak_bytes() -> int:
    """The most memory that this process has had resident so far (Linux gives KiB, macOS bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def build_one(kind: str, count: int, shard_documents: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        options = {"spec": EncoderSpec("made", dim=DIM), "corpus": "made", "shard_documents": shard_documents}
        cls = find_kind(kind)
        cls.build(Path(folder) / "warm", stream(100), encode, **options)
        before, private, start = peak_bytes(), private_bytes(), time.perf_counter()
        with PrivatePeak() as peak:
            index = cls.build(Path(folder) / "index", stream(count), encode, total=count, **options)
        seconds = time.perf_counter() - start
        return {
            "documents": count,
            "before": before,
            "peak": peak_bytes(),
            "private": max(0, peak.bytes - private),
            "seconds": seconds,
            "index_bytes": index.manifest.bytes,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--shard-documents", type=int, default=4096)
    parser.add_argument("--kind", default="flat")
    parser.add_argument("--one", action="store_true", help="build in this process and print JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(build_one(arguments.kind, arguments.documents[0], arguments.shard_documents)))
        return
    rows = []
    print(
        f"{'documents':>10} {'index MB':>9} {'before MB':>10} {'peak MB':>8} {'growth MB':>10} {'private MB':>11} {'docs/s':>8}"
    )
    for count in arguments.documents:
        command = [sys.executable, "-m", "cribble.bench.bench_index_memory", "--one", "--documents", str(count)]
        command += ["--shard-documents", str(arguments.shard_documents), "--kind", arguments.kind]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout)
        rows.append(row)
        print(
            f"{count:>10,} {row['index_bytes'] / 1e6:>9.0f} {row['before'] / 1e6:>10.0f} {row['peak'] / 1e6:>8.0f} "
            f"{(row['peak'] - row['before']) / 1e6:>10.0f} {row['private'] / 1e6:>11.0f} {count / row['seconds']:>8,.0f}"
        )
    first, last = rows[0], rows[-1]
    if len(rows) == 1:
        return
    print(
        f"{last['documents'] / first['documents']:.0f} times the documents take {last['peak'] / first['peak']:.2f} times "
        f"the peak memory and {(last['peak'] - last['before']) / (first['peak'] - first['before']):.2f} times the growth"
    )


if __name__ == "__main__":
    main()
