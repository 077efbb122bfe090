"""`.npy` files that grow at their end while they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np


class GrowingArray:
    """Rows appended to the `.npy` file `path`; a `with` block closes it, and only then it has its true shape.

    numpy leaves room in a header for the first axis to grow, so that writing it again moves nothing.
    """

    def __init__(self, path: Path, dtype: Any, row_shape: tuple[int, ...] = ()) -> None:
        self._stream = path.open("wb")
        self._dtype, self._row_shape, self.rows = np.dtype(dtype), row_shape, 0
        self._write_header()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.seek(0)
        self._write_header()
        self._stream.close()

    def append(self, rows: np.ndarray) -> None:
        if rows.shape[1:] != self._row_shape:
            raise ValueError(f"{self._stream.name}: rows of shape {rows.shape[1:]}, expected {self._row_shape}")
        self._stream.write(np.ascontiguousarray(rows, self._dtype).reshape(-1).view(np.uint8).data)
        self.rows += len(rows)

    def _write_header(self) -> None:
        shape = (self.rows, *self._row_shape)
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._stream, header)
