"""Which vectors are compared with which in a batch: neighbours, as a ranking is decided among them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

#: Nearest neighbours of each vector that batches draw from.
NEIGHBOURS = 32

#: Rows whose products with all others are held at a time.
_ROWS = 512


def nearest(anchors: np.ndarray, vectors: np.ndarray, k: int, skip: np.ndarray | None = None) -> np.ndarray:
    """Rows (a, k) of the `k` vectors with the largest inner products with each of `anchors` (a, d), best first.

    `skip` (a,) names a row for each anchor that does not count, such as itself; -1 for none.
    """
    import torch

    wide = torch.from_numpy(np.ascontiguousarray(vectors.T, np.float32))
    found = np.empty((len(anchors), k), np.int64)
    for start in range(0, len(anchors), _ROWS):
        scores = torch.from_numpy(np.ascontiguousarray(anchors[start : start + _ROWS], np.float32)) @ wide
        if skip is not None:
            mine = torch.from_numpy(skip[start : start + _ROWS])
            rows = torch.nonzero(mine >= 0)[:, 0]
            scores[rows, mine[rows]] = -torch.inf
        found[start : start + len(scores)] = torch.topk(scores, k, dim=1).indices.numpy()
    return found


def batches(
    neighbours: np.ndarray, size: int, per_seed: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """An epoch over anchors with `neighbours` (a, k), rows of documents: the batch's anchors, and up to `size` document rows,
    `per_seed` neighbours of each anchor, each once and ascending. As many anchors are drawn as make about as many rows as
    there are anchors."""
    order = rng.permutation(len(neighbours))[: -(-len(neighbours) // per_seed)]
    step = max(1, size // per_seed)
    for start in range(0, len(order), step):
        seeds = order[start : start + step]
        places = rng.permuted(np.tile(np.arange(neighbours.shape[1]), (len(seeds), 1)), axis=1)[:, :per_seed]
        yield seeds, np.unique(np.take_along_axis(neighbours[seeds], places, axis=1))
