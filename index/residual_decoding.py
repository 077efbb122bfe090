"""Compiled: tokens from packed residuals, sixteen dimensions at a time where there are as many."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiling import compiled
from .maxsim_tile import ROWS
from .residual_unpacking import LANES, unpack_1, unpack_2

#: Whether the CPU is one that instructions are written for.
_WRITTEN = ROWS > 0


@compiled
def _add_looked_up(centroid: Any, packed: Any, weights: Any, row: Any, whole: int, sums: Any) -> None:
    """What `unpacking` does, by looking the weights of a byte up: of 4 bits two together, of 8 one."""
    pairs = weights.shape[1] == 2
    sums[:] = 0
    for i in range(0, whole, LANES):
        if pairs:
            for pair in range(LANES // 2):
                byte = packed[i // 2 + pair]
                row[i + 2 * pair] = weights[byte, 0]
                row[i + 2 * pair + 1] = weights[byte, 1]
        else:
            for lane in range(LANES):
                row[i + lane] = weights[packed[i + lane], 0]
        for lane in range(LANES):
            value = row[i + lane] + centroid[i + lane]
            row[i + lane] = value
            sums[lane] += value * value


@compiled
def decode_tokens(codes: Any, residuals: Any, places: Any, centroids: Any, byte_weights: Any, out: Any) -> None:
    """Write the tokens at `places` (m,), centroid and weights added and divided by their length, into `out` (m, d) float32.

    `codes` (T,) and `residuals` (T, bytes) are packed tokens, `centroids` (K, d) and `byte_weights` (256, dimensions a
    byte) the codec's, all contiguous.
    """
    dim, each = centroids.shape[1], byte_weights.shape[1]
    whole = dim - dim % LANES if _WRITTEN or each < 4 else 0
    groups, per_byte = whole // LANES, 8 // each
    sums, weights = np.zeros(LANES, np.float32), np.empty(1 << per_byte, np.float32)
    for bucket in range(1 << per_byte):
        field = 0
        for bit in range(per_byte):
            field |= ((bucket >> bit) & 1) << (7 - bit)
        weights[bucket] = byte_weights[field, 0]
    for m in range(len(places)):
        place, code, row = places[m], np.int64(codes[places[m]]), out[m]
        centroid, packed = centroids[code], residuals[place]
        if groups and each == 4:
            unpack_2(
                centroid.ctypes.data, packed.ctypes.data, groups, weights.ctypes.data, row.ctypes.data, sums.ctypes.data
            )
        elif groups and each == 8:
            unpack_1(
                centroid.ctypes.data, packed.ctypes.data, groups, weights.ctypes.data, row.ctypes.data, sums.ctypes.data
            )
        elif groups:
            _add_looked_up(centroid, packed, byte_weights, row, whole, sums)
        total = np.float32(0)
        for lane in range(LANES // 4):
            total += (sums[lane] + sums[lane + 8]) + (sums[lane + 4] + sums[lane + 12])
        for i in range(whole, dim):
            value = centroid[i] + byte_weights[packed[i // each], i % each]
            row[i] = value
            total += value * value
        factor = np.float32(1) / np.sqrt(total) if total > 0 else np.float32(0)
        for i in range(dim):
            row[i] *= factor
