"""The place of each row among all by id descending, which decides between equal scores: `id_ranks.npy` (n,) int32, greatest
first."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..ids import order_descending
from .durable import write_array
from .texts import read_ids

_FILE = "id_ranks.npy"


def write_ranks(folder: Path) -> int:
    """Write the ranks of the ids in the `folder` of what spans all shards. Returns their number."""
    ids = read_ids(folder)
    ranks = np.empty(len(ids), np.int32)
    ranks[order_descending(ids, np.zeros(len(ids), np.int8))] = np.arange(len(ids) - 1, -1, -1, dtype=np.int32)
    write_array(folder / _FILE, [ranks], len(ids), (), np.int32)
    return len(ids)


def open_ranks(folder: Path) -> np.ndarray:
    """The ranks (n,) int32 in the `folder`, mapped."""
    return np.asarray(np.load(folder / _FILE, mmap_mode="r"))
