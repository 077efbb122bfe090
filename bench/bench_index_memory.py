"""Peak memory of building a dense index, for one corpus and for another ten times as large.

    python -m cribble.bench.bench_index_memory [--documents 20000 200000] [--shard-documents 4096]

Each build runs in a process of its own: documents stream from a generator, a cheap deterministic function stands for
the encoder (384 dimensions). Reported is the growth of the peak resident set over the process before the build. What
may grow with the corpus are the id hashes that find duplicates: 8 bytes a document while building, 24 for a moment when
the id table is sorted at the end; for 200,000 documents that is 4.8 MB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from cribble.index.flat import FlatIndex
from cribble.records import Document
from cribble.vectors import Dense, EncoderSpec

DIM = 384


def stream(count: int) -> Iterator[Document]:
    """Documents of about 1,000 characters, made one at a time."""
    filler = "the quick brown fox jumps over the lazy dog while it rains " * 17
    for i in range(count):
        yield Document(f"document-{i:08d}", f"{i} {filler[i % 60 :]}", f"title {i}")


def encode(documents: list[Document]) -> Dense:
    rows = np.empty((len(documents), DIM), np.float32)
    base = np.arange(DIM, dtype=np.float32)
    for row, document in zip(rows, documents, strict=True):
        np.sin(base * (1 + int(document.id[-8:]) % 9973), out=row)
    return Dense(rows)


def peak_bytes() -> int:
    """The most memory that this process has had resident so far (Linux gives KiB, macOS bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def build_one(count: int, shard_documents: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        options = {"spec": EncoderSpec("sine", dim=DIM), "corpus": "made", "shard_documents": shard_documents}
        FlatIndex.build(Path(folder) / "warm", stream(100), encode, **options)  # type: ignore[arg-type]
        before, start = peak_bytes(), time.perf_counter()
        index = FlatIndex.build(Path(folder) / "index", stream(count), encode, total=count, **options)  # type: ignore[arg-type]
        seconds = time.perf_counter() - start
        return {
            "documents": count,
            "before": before,
            "peak": peak_bytes(),
            "seconds": seconds,
            "index_bytes": index.manifest.bytes,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--shard-documents", type=int, default=4096)
    parser.add_argument("--one", action="store_true", help="build in this process and print JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(build_one(arguments.documents[0], arguments.shard_documents)))
        return
    rows = []
    print(f"{'documents':>10} {'index MB':>9} {'before MB':>10} {'peak MB':>8} {'growth MB':>10} {'docs/s':>8}")
    for count in arguments.documents:
        command = [sys.executable, "-m", "cribble.bench.bench_index_memory", "--one", "--documents", str(count)]
        command += ["--shard-documents", str(arguments.shard_documents)]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout)
        rows.append(row)
        print(
            f"{count:>10,} {row['index_bytes'] / 1e6:>9.0f} {row['before'] / 1e6:>10.0f} {row['peak'] / 1e6:>8.0f} "
            f"{(row['peak'] - row['before']) / 1e6:>10.0f} {count / row['seconds']:>8,.0f}"
        )
    first, last = rows[0], rows[-1]
    print(
        f"{last['documents'] / first['documents']:.0f} times the documents take {last['peak'] / first['peak']:.2f} times "
        f"the peak memory and {(last['peak'] - last['before']) / (first['peak'] - first['before']):.2f} times the growth"
    )


if __name__ == "__main__":
    main()
