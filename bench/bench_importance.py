"""Learning what documents are worth: ours beside ragbooster's Rust, on the same retrievals, interleaved, one thread.

    python -m cribble.bench.bench_importance [--peer SITE_PACKAGES] [--queries 1000] [--depth 100] [--k 10] [--epochs 20]

`--peer` is the site-packages folder that ragbooster was installed into (it pins old libraries, so an environment of its
own; only its compiled module is loaded). Prints processor seconds of each round, their ratio, and the largest difference.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..eval.importance import Retrievals, learn_weights


def made(queries: int, depth: int, corpus: int = 20_000) -> list[tuple[list[int], list[float]]]:
    """Random retrievals of which three in ten items are right."""
    rng = np.random.default_rng(0)
    return [
        (rng.permutation(corpus)[:depth].tolist(), (rng.random(depth) < 0.3).astype(float).tolist())
        for _ in range(queries)
    ]


def peer(folder: str | None) -> Any:
    files = sorted(Path(folder).glob("ragbooster/ragbooster*.so")) if folder else []
    if not files:
        return None
    spec = importlib.util.spec_from_file_location("ragbooster", files[0])
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer")
    for name, value in (("queries", 1000), ("depth", 100), ("k", 10), ("epochs", 20), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    rows = made(options.queries, options.depth)
    ours = Retrievals.of([(str(q), list(map(str, items)), values) for q, (items, values) in enumerate(rows)])
    theirs = [{"retrieved": items, "utility_contributions": values} for items, values in rows]
    order = [int(name) for name in ours.names]
    other = peer(options.peer)
    for number in range(1, options.rounds + 1):
        start = time.process_time()
        weights = learn_weights(ours, options.k, epochs=options.epochs)
        middle = time.process_time()
        line = f"round {number}: cribble {middle - start:.3f} s"
        if other is not None:
            learned = other.learn_importance(theirs, options.k, 10.0, options.epochs, 1, None)
            seconds = time.process_time() - middle
            difference = np.abs(weights - np.array(learned)[order]).max()
            line += f", ragbooster {seconds:.3f} s ({(middle - start) / seconds:.2f} x), largest difference {difference:.1e}"
        print(line)


if __name__ == "__main__":
    main()
