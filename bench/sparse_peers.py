"""Peers of bench_sparse that live in an environment of their own (numpy, numba, bm25s, pyseismic-lsr), as a process that
builds and searches when it is told to by a line of JSON. It imports nothing of cribble.

    PYTHON sparse_peers.py seismic|bm25s FOLDER      data in FOLDER, as `bench_sparse.save` writes it
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


class Seismic:
    """Settings are (query_cut, heap_factor)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.documents, self.queries = load(folder, "documents"), load(folder, "queries")

    def build(self) -> int:
        seismic = importlib.import_module("seismic")
        indptr, ids, weights = self.documents
        dataset = seismic.SeismicDataset()
        names = [str(i) for i in range(len(indptr) - 1)]
        dataset.add_documents_by_id(names, ids.astype(np.int64), weights, indptr)
        self.index = seismic.SeismicIndex.build_from_dataset(
            dataset, n_postings=1000, centroid_fraction=0.1, summary_energy=0.4, num_threads=1
        )
        self.index.save(str(self.folder / "seismic"))
        indptr, ids, weights = self.queries
        spans = [slice(*indptr[i : i + 2]) for i in range(len(indptr) - 1)]
        self.asked = [(ids[span].astype(str).astype(seismic.get_seismic_string()), weights[span]) for span in spans]
        return sum(p.stat().st_size for p in self.folder.glob("seismic*"))

    def search(self, k: int, setting: Any) -> Any:
        cut, factor = setting
        return [self.index.search("q", terms, w, k=k, query_cut=cut, heap_factor=factor) for terms, w in self.asked]

    def rows(self, found: Any) -> list[list[int]]:
        return [[int(doc) for _, _, doc in hits] for hits in found]


class Bm25s:
    """BM25 as Lucene's, by numba."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        indptr, ids, counts = load(folder, "documents")
        tokens = np.repeat(ids, counts.astype(np.int64))
        ends = np.concatenate([[0], np.cumsum(counts.astype(np.int64))])[indptr]
        self.documents = [tokens[a:b].tolist() for a, b in itertools.pairwise(ends)]
        indptr, ids, _ = load(folder, "queries")
        self.queries = [ids[a:b].tolist() for a, b in itertools.pairwise(indptr)]
        self.terms = int(np.load(folder / "terms.npy")[0])

    def build(self) -> int:
        bm25s = importlib.import_module("bm25s")
        vocabulary = {str(i): i for i in range(self.terms)}
        self.index = bm25s.BM25(method="lucene", k1=0.9, b=0.4, backend="numba")
        self.index.index((self.documents, vocabulary), show_progress=False)
        self.index.save(str(self.folder / "bm25s"))
        return sum(p.stat().st_size for p in (self.folder / "bm25s").iterdir())

    def search(self, k: int, setting: Any) -> Any:
        return self.index.retrieve(self.queries, k=k, show_progress=False, n_threads=0)

    def rows(self, found: Any) -> list[list[int]]:
        return found.documents.tolist()


def load(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    indptr, ids, weights = (np.load(folder / f"{name}.{part}.npy") for part in ("indptr", "ids", "weights"))
    return indptr, ids, weights


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a peer prints, from Rust too, is no answer
    peer: Any = {"seismic": Seismic, "bm25s": Bm25s}[sys.argv[1]](Path(sys.argv[2]))
    for line in sys.stdin:
        order = json.loads(line)
        clock, process = time.perf_counter(), time.process_time()
        answer: Any = peer.build() if order["do"] == "build" else peer.search(order["k"], order["setting"])
        times = {"clock": time.perf_counter() - clock, "process": time.process_time() - process}
        result = {"bytes": answer} if order["do"] == "build" else {"rows": peer.rows(answer) if order["rows"] else []}
        out.write(json.dumps(times | result) + "\n")
        out.flush()


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    main()
