"""The product of many rows with few columns, float32: document tokens with the tokens of a query.

MKL and OpenBLAS pack both sides before they multiply, which costs as much as the work itself where one side has 32
columns. Here the products of a tile of rows stay in registers while rows and columns pass by, and rows of a later tile are
fetched meanwhile: nothing is packed, and memory is read as fast as it can be.
"""

from __future__ import annotations

import numpy as np

from ..compiling import compiled
from .maxsim_tile import COLUMNS, ROWS, float32_tile

#: Tiles between the one that is multiplied and the one whose rows are fetched.
_AHEAD = 2

#: Up to so many columns this is faster than MKL, whose rows then come from a cache.
WIDEST = 64

#: What sums begin with.
_ZEROS = np.zeros(COLUMNS, np.float32)


@compiled
def _products(tokens: int, rows: int, pitch: int, factors: int, dim: int, width: int, zeros: int, out: int) -> None:
    for column in range(0, width, COLUMNS):
        for row in range(0, rows, ROWS):
            first = min(row, rows - ROWS)  # the last tile goes over some rows again
            own, target = tokens + first * pitch, out + 4 * (first * width + column)
            coming = own + _AHEAD * ROWS * pitch
            float32_tile(own, pitch, factors + 4 * column, dim, 4 * width, zeros, coming, 4 * ROWS, target)


def padded(factors: np.ndarray) -> np.ndarray:
    """`factors` (d, t) with columns of zeros, up to a multiple of `COLUMNS`, where that makes `narrow_product` possible."""
    missing = -factors.shape[1] % COLUMNS
    if not ROWS or factors.shape[1] > WIDEST:
        return np.ascontiguousarray(factors)
    return np.ascontiguousarray(np.pad(factors, ((0, 0), (0, missing))))


def suits(rows: np.ndarray, factors: np.ndarray) -> bool:
    """Whether `narrow_product` can multiply the two, and is faster."""
    width = factors.shape[1]
    return (
        0 < ROWS <= len(rows)
        and 0 < width <= WIDEST
        and width % COLUMNS == 0
        and len(factors) > 0
        and rows.dtype == factors.dtype == np.float32
        and rows.strides[1] == 4
        and factors.flags.c_contiguous
    )


def narrow_product(rows: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """`rows` (T, d) float32 times `factors` (d, t) float32, contiguous, t a multiple of `COLUMNS`: (T, t) float32."""
    out = np.empty((len(rows), factors.shape[1]), np.float32)
    _products(
        rows.ctypes.data,
        len(rows),
        rows.strides[0],
        factors.ctypes.data,
        len(factors),
        factors.shape[1],
        _ZEROS.ctypes.data,
        out.ctypes.data,
    )
    return out
