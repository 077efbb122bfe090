"""PyLate's PLAID (Stanford's code) in an environment of its own, as a process that builds and searches when it is told to
by a line of JSON. It imports nothing of cribble.

    PYTHON late_peers.py DATA.npz FOLDER      tokens (T, d), offsets (n + 1,), queries (q, t, d); the index stays in FOLDER

{"do": "build"}              → documents a second by process time and clock, bytes of the index (without SQLite's maps of ids)
{"do": "search", "query": 3} → seconds of process time, the best 10 rows
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def used() -> float:
    """Seconds of process time, children's too."""
    return sum(os.times()[:4])


class Plaid:
    """PyLate's index with its defaults: 8 cells, threshold 0.35, 8,192 candidates."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.folder, self.facts = folder, folder / "build.json"
        with np.load(data) as arrays:
            self.tokens, self.offsets, self.queries = (arrays[name] for name in ("tokens", "offsets", "queries"))
        self.documents = len(self.offsets) - 1

    def _index(self, name: str, *, override: bool) -> Any:
        plaid = importlib.import_module("pylate.indexes").PLAID
        width = self.tokens.shape[1]
        return plaid(index_folder=str(self.folder), index_name=name, override=override, embedding_size=width, nbits=2)

    def build(self) -> dict[str, float]:
        """Builds, or reads what an earlier build in this folder took. C++ extensions are compiled before the clock starts."""
        if self.facts.exists():
            self.index = self._index("documents", override=False)
            self.search(0)
            return dict(json.loads(self.facts.read_text()))
        matrices = [self.tokens[a:b] for a, b in itertools.pairwise(self.offsets)]
        self._index("warm", override=True).add_documents([str(i) for i in range(200)], matrices[:200])
        start, clock = used(), time.perf_counter()
        self.index = self._index("documents", override=True)
        self.index.add_documents([str(i) for i in range(self.documents)], matrices)
        seconds, elapsed = used() - start, time.perf_counter() - clock
        files = [p for p in (self.folder / "documents").rglob("*") if p.is_file() and ".sqlite" not in p.name]
        size = sum(p.stat().st_size for p in files)
        facts = {"rate": self.documents / seconds, "clock_rate": self.documents / elapsed, "bytes": size}
        self.facts.write_text(json.dumps(facts))
        self.search(0)
        return facts

    def search(self, query: int) -> dict[str, Any]:
        start = time.process_time()
        found = self.index(self.queries[query : query + 1], k=10)[0]
        return {"seconds": time.process_time() - start, "rows": [int(hit["id"]) for hit in found]}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the libraries print goes elsewhere
    importlib.import_module("torch").set_num_threads(1)
    peer = Plaid(Path(sys.argv[1]), Path(sys.argv[2]))
    for line in sys.stdin:
        asked = json.loads(line)
        answer = peer.build() if asked["do"] == "build" else peer.search(asked["query"])
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
