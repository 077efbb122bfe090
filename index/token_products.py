"""Products of tokens with centroids whose every number is added up in one order, whatever else is multiplied with it.

A library's matrix product sums in another order at its blocks' edges, so that which of two nearly equal centroids is
nearest would depend on the batch. Here each number is a chain of fused multiplications and additions over the dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiling import compiled
from .maxsim_product import narrow_product
from .maxsim_tile import COLUMNS, ROWS


def columns_of(vectors: np.ndarray) -> np.ndarray:
    """`vectors` (n, d) as the second side of `ordered_product`: (d, n and up to `COLUMNS` - 1 more) float32, where further
    columns repeat the first, so that the first of the best in a row is never one of them.
    """
    missing = -len(vectors) % COLUMNS
    return np.ascontiguousarray(np.concatenate([vectors, np.repeat(vectors[:1], missing, axis=0)]).T, np.float32)


def ordered_product(tokens: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """`tokens` (T, d) float32, contiguous, times what `columns_of` made: (T, n and more) float32."""
    if not ROWS:
        out = np.zeros((len(tokens), columns.shape[1]), np.float32)
        plain_product(tokens, columns, out)
        return out
    if len(tokens) >= ROWS:
        return narrow_product(tokens, columns)
    filled = np.zeros((ROWS, tokens.shape[1]), np.float32)
    filled[: len(tokens)] = tokens
    return narrow_product(filled, columns)[: len(tokens)]


@compiled
def plain_product(tokens: Any, columns: Any, out: Any) -> None:
    """Add the products to `out`, which holds zeros: for a CPU without fused multiplication and addition."""
    for t in range(len(tokens)):
        for i in range(len(columns)):
            value = tokens[t, i]
            for j in range(columns.shape[1]):
                out[t, j] += value * columns[i, j]
