"""Rows of a `.npy` file by reading, not mapping: what is read does not stay in the process's memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np


class RowFile:
    """The rows of the `.npy` file `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as stream:
            np.lib.format.read_magic(stream)
            self.shape, _, self.dtype = np.lib.format.read_array_header_1_0(stream)
            self._begin = stream.tell()

    def __len__(self) -> int:
        return int(self.shape[0])

    def read(self, first: int, last: int) -> np.ndarray:
        """The rows from `first` to `last`."""
        row = int(np.prod(self.shape[1:], dtype=np.int64))
        offset = self._begin + first * row * self.dtype.itemsize
        return np.fromfile(self.path, self.dtype, (last - first) * row, offset=offset).reshape(-1, *self.shape[1:])
