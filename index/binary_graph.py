"""FAISS's graph (`IndexBinaryHNSW`) over codes of one bit a coordinate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SetupError, require
from .binary_files import Run
from .faiss_files import full_disk_explained

GRAPH = "binary.faiss"

EF = 128


def write_graph(folder: Path, runs: Sequence[Run], links: int, ef_construction: int) -> None:
    """Make the graph of all codes, one after another, so that the same codes give the same bytes."""
    faiss = require("faiss", "a graph of codes")
    graph = faiss.IndexBinaryHNSW(runs[0].binariser["width"], links)
    graph.hnsw.efConstruction = ef_construction
    _fill(graph, runs, 0, folder)


def extend_graph(folder: Path, before: Path, runs: Sequence[Run]) -> None:
    """Write the graph of `before` with the rows after its own, of all `runs`."""
    graph = open_graph(before)
    _fill(graph, runs, graph.ntotal, folder)


def open_graph(folder: Path) -> Any:
    faiss = require("faiss", "a graph of codes")
    try:
        return faiss.read_index_binary(str(folder / GRAPH))
    except RuntimeError as error:
        raise SetupError(
            f"{folder / GRAPH}: this FAISS ({faiss.__version__}) can't read it ({error}): update it, or build the index "
            f"again with overwrite"
        ) from error


def nearest(graph: Any, codes: np.ndarray, k: int, ef: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Hamming distances and rows (b, k), -1 where fewer are found."""
    faiss = require("faiss", "a graph of codes")
    parameters = faiss.SearchParametersHNSW(efSearch=max(ef or EF, k))
    distances, rows = graph.search(np.ascontiguousarray(codes), k, params=parameters)
    return distances, rows


def _fill(graph: Any, runs: Sequence[Run], there: int, folder: Path) -> None:
    faiss = require("faiss", "a graph of codes")
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        first = 0
        for run in runs:
            new = run.codes[max(there - first, 0) :]
            first += len(run.codes)
            if len(new):
                graph.add(np.ascontiguousarray(new))
    finally:
        faiss.omp_set_num_threads(threads)
    with full_disk_explained(folder / GRAPH):
        faiss.write_index_binary(graph, str(folder / GRAPH))
