"""Memory of one and of two processes that search the same exact index: what they hold, and what of it they share.

    python -m cribble.bench.bench_shared_pages [--vectors 100000] [--folder DIR]

The index is `bench_exact`'s; `--folder` keeps it, or names one that is there. Each process searches 64 queries by the plain
scan, which touches every stored vector, and then tells its resident memory (Linux, /proc/self/smaps_rollup) in MiB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from cribble.bench.bench_exact import build, synthetic

SHOWN = ("Rss", "Pss", "Shared_Clean", "Private_Clean", "Private_Dirty")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--search", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.search:
        search(options.folder)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "index"
        if not (folder / "manifest.json").exists():
            build(folder, options.vectors)
        for count in (1, 2):
            command = [sys.executable, "-m", "cribble.bench.bench_shared_pages", "--search", "--folder", str(folder)]
            searchers = [
                subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                for _ in range(count)
            ]
            for _ in ("searched", "told"):  # all have done the one before any does the other, or ends
                told = [answer(process) for process in searchers]
            for process in searchers:
                process.communicate()
            print(f"{count} searching: {'; '.join(told)}")
    return 0


def answer(process: subprocess.Popen[str]) -> str:
    """What a searcher says to the next line."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def search(folder: Path) -> None:
    from cribble.index.flat import FlatIndex
    from cribble.vectors import Dense

    index = FlatIndex.open(folder, verify=False)
    index.scan = "plain"
    sys.stdin.readline()
    index.search(Dense(next(synthetic(64, seed=1))), 10)
    print("searched", flush=True)
    sys.stdin.readline()
    fields = dict(line.split(":") for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    print(", ".join(f"{name} {int(fields[name].split()[0]) >> 10} MiB" for name in SHOWN), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    sys.exit(main())
