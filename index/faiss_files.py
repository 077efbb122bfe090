"""One FAISS index in one file: trained on a sample of the stored vectors, filled from the shards, extended, mapped.

`ann.faiss` is FAISS's own format; a document's id in it is its row. `ann.json` says how it was made.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import SetupError, UsageError, require

logger = logging.getLogger("cribble")

FILE, DESCRIPTION = "ann.faiss", "ann.json"

#: Vectors that are added to an index at a time.
_ADDED_AT_ONCE = 16384

#: Fewer training vectors than this per centroid make poor centroids (FAISS's own `min_points_per_centroid`).
POINTS_PER_CENTROID = 39

#: Names in a factory string of graphs, whose links depend on the order of insertion, so on the threads.
_GRAPHS = ("HNSW", "NSG", "NNDescent")


@dataclass(frozen=True)
class Recipe:
    """How a FAISS index is made: the factory string, from how many sampled vectors it learns, the sample's and the
    clusterings' seed, and HNSW's `ef_construction`.

    `threads` build a graph; with more than one the graph differs from one build to the next.
    """

    factory: str
    training_vectors: int
    seed: int
    ef_construction: int | None = None
    threads: int = 1

    def new(self, dim: int, similarity: str) -> Any:
        """An untrained FAISS index. Raises `UsageError` for a factory string that FAISS refuses."""
        faiss = require("faiss", f"an index {self.factory}")
        metric = faiss.METRIC_L2 if similarity == "l2" else faiss.METRIC_INNER_PRODUCT
        try:
            index = faiss.index_factory(dim, self.factory, metric)
        except RuntimeError as error:
            reason = str(error).rpartition("Error: ")[2].strip() or str(error)
            raise UsageError(
                f"FAISS does not make {self.factory!r} for vectors of {dim} dimensions ({reason}): see FAISS's "
                f"guidelines of the index factory"
            ) from error
        for part in parts(index):
            if isinstance(part, faiss.IndexIDMap):
                raise UsageError(f"{self.factory!r}: a document's id in FAISS is its row here: leave IDMap out")
            if isinstance(part, faiss.IndexHNSW) and self.ef_construction is not None:
                part.hnsw.efConstruction = self.ef_construction
            for clustering in (getattr(part, "cp", None), getattr(getattr(part, "pq", None), "cp", None)):
                if clustering is not None:
                    clustering.seed = self.seed
                    clustering.min_points_per_centroid = 1  # said by `_warn_of_few`, and not on FAISS's stderr
        return index


def make_faiss(folder: Path, shards: Sequence[Path], dim: int, similarity: str, recipe: Recipe) -> int:
    """Train, fill and write the index of the vectors in `shards` (`vectors.npy` each, in row order) into `folder`.

    Memory holds the training sample and the FAISS index. Returns the bytes of the FAISS file.
    """
    index = recipe.new(dim, similarity)
    rows = sum(len(mapped(shard)) for shard in shards)
    trained_on = 0
    with fast_distances(), _threads(recipe):
        if not index.is_trained:
            trained_on = min(rows, recipe.training_vectors)
            _train(index, sampled(shards, rows, dim, trained_on, recipe.seed), trained_on, rows)
        _add(index, shards)
    description = {**asdict(recipe), "rows": rows, "trained_on": trained_on, "similarity": similarity}
    return _write(folder, index, description)


def extend_faiss(old: Path, new: Path, shards: Sequence[Path]) -> int:
    """Write into the folder `new` the index of the folder `old` with the vectors of further `shards` after its own.

    Nothing is trained again. Memory holds the FAISS index. Returns the bytes of the new file.
    """
    faiss = require("faiss", "adding to an index")
    description = json.loads((old / DESCRIPTION).read_bytes())
    recipe = Recipe(**{name: description[name] for name in Recipe.__dataclass_fields__})
    index = faiss.read_index(str(old / FILE))
    with fast_distances(), _threads(recipe):
        _add(index, shards)
    return _write(new, index, description | {"rows": int(index.ntotal)})


def open_faiss(folder: Path) -> Any:
    """The FAISS index of `folder`; what it holds of the documents stays in the mapped file and is read as it is searched."""
    faiss = require("faiss", "searching an index")
    try:
        return faiss.read_index(str(folder / FILE), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as error:
        raise SetupError(
            f"{folder / FILE}: this FAISS ({faiss.__version__}) can't read it ({error}): update it, or build the index "
            f"again with overwrite"
        ) from error


def parts(index: Any) -> Iterator[Any]:
    """A FAISS index and those inside it that the search goes through, as their own classes."""
    faiss = require("faiss", "an approximate index")

    index = faiss.downcast_index(index)
    yield index
    for name in ("index", "base_index", "quantizer"):
        inner = getattr(index, name, None)
        if isinstance(inner, faiss.Index):
            yield from parts(inner)


def mapped(shard: Path) -> np.ndarray:
    """The stored vectors (n, d) of a shard, mapped."""
    vectors: np.ndarray = np.load(shard / "vectors.npy", mmap_mode="r")
    return vectors


# ---- making ---------------------------------------------------------------------------------------------------------


def sampled(shards: Sequence[Path], rows: int, dim: int, count: int, seed: int) -> np.ndarray:
    """A seeded sample (count, d) float32 of all `rows`, in row order."""
    chosen = np.arange(rows)
    if count < rows:
        chosen = np.sort(np.random.default_rng(seed).choice(rows, count, replace=False, shuffle=False))
    sample = np.empty((count, dim), np.float32)
    first = done = 0
    for shard in shards:
        vectors = mapped(shard)
        here = chosen[np.searchsorted(chosen, first) : np.searchsorted(chosen, first + len(vectors))] - first
        sample[done : done + len(here)] = vectors[here]
        first, done = first + len(vectors), done + len(here)
    return sample


def _train(index: Any, sample: np.ndarray, trained_on: int, rows: int) -> None:
    """Train on the sample, given again and again where a clustering would have more centroids than vectors. Warns of
    centroids that the options ask for and the sample can't carry; a small collection has no more.
    """
    centroids = max(map(_centroids, parts(index)))
    advised = POINTS_PER_CENTROID * centroids
    if trained_on < min(advised, rows):
        logger.warning(
            "%d centroids are learnt from %d vectors, FAISS advises %d or more: raise training_vectors",
            centroids,
            trained_on,
            advised,
        )
    if trained_on < centroids:
        sample = np.tile(sample, (-(-centroids // trained_on), 1))
    try:
        index.train(sample)
    except RuntimeError as error:
        raise UsageError(
            f"FAISS can't train the index on {trained_on} vectors ({error}): choose other options"
        ) from error


def _centroids(part: Any) -> int:
    """The centroids of the largest clustering that this part learns."""
    faiss = require("faiss", "an approximate index")

    learnt = [1, getattr(part, "nlist", 1)]
    if hasattr(part, "pq"):
        learnt.append(part.pq.ksub)
    if isinstance(part, faiss.IndexPreTransform):
        chain = [faiss.downcast_VectorTransform(part.chain.at(i)) for i in range(part.chain.size())]
        learnt += [256 for step in chain if isinstance(step, faiss.OPQMatrix)]  # OPQ learns codes of 8 bits
    return max(learnt)


def _add(index: Any, shards: Sequence[Path]) -> None:
    for shard in shards:
        vectors = mapped(shard)
        for start in range(0, len(vectors), _ADDED_AT_ONCE):
            index.add(np.ascontiguousarray(vectors[start : start + _ADDED_AT_ONCE], np.float32))


def _write(folder: Path, index: Any, description: dict[str, Any]) -> int:
    faiss = require("faiss", "an approximate index")

    path = folder / FILE
    with full_disk_explained(path):
        faiss.write_index(index, str(path))
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=1, sort_keys=True) + "\n")
    return path.stat().st_size


@contextmanager
def full_disk_explained(path: Path) -> Iterator[None]:
    """Turn what FAISS says of a full disk into the `OSError` that it came from."""
    try:
        yield
    except RuntimeError as error:
        for number in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
            if os.strerror(number) in str(error):
                raise OSError(number, os.strerror(number), str(path)) from error
        raise


@contextmanager
def fast_distances() -> Iterator[None]:
    """Distances through BLAS, as FAISS does by default: its 1.15.1 wheel never does, which makes k-means 20 times slower."""
    faiss = require("faiss", "an approximate index")

    installed = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = 20
    try:
        yield
    finally:
        faiss.cvar.distance_compute_blas_threshold = installed


@contextmanager
def _threads(recipe: Recipe) -> Iterator[None]:
    """A graph is built by `threads`, everything else by all that FAISS has: that gives the same bytes in any number."""
    faiss = require("faiss", "an approximate index")

    installed = faiss.omp_get_max_threads()
    if any(name in recipe.factory for name in _GRAPHS):
        faiss.omp_set_num_threads(recipe.threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(installed)
