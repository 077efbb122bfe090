"""Start-up: `import cribble` (goal 0.2 s) and `cribble --help` (goal 0.5 s), beside a bare Python.

python -m cribble.bench.bench_startup [--rounds 7]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    script = str(Path(sys.executable).with_name("cribble"))
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import cribble": [sys.executable, "-c", "import cribble"],
        "cribble --help": [script, "--help"],
        "cribble list retrievers": [script, "list", "retrievers"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")
            seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
        print(f"{name:26} min {min(values):.3f} s   median {statistics.median(values):.3f} s")


if __name__ == "__main__":
    main()
