"""Compiled: tokens from packed residuals.

Sixteen dimensions are read at a time; of 1 and 2 bits a bucket is cut out of a word by shifts, which a compiler makes
vector instructions of, of 4 and 8 bits a byte's weights are looked up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiling import compiled

#: Dimensions that are read at a time.
_LANES = 16

#: Where the buckets of as many dimensions lie in a word of their bytes, the first in the lowest bits.
_SHIFTS_1 = np.array([8 * (i // 8) + 7 - i % 8 for i in range(_LANES)], np.uint32)
_SHIFTS_2 = np.array([8 * (i // 4) + 6 - 2 * (i % 4) for i in range(_LANES)], np.uint32)


@compiled
def _word(packed: Any, first: int, count: int) -> Any:
    word = np.uint32(0)
    for i in range(count):
        word |= np.uint32(packed[first + i]) << np.uint32(8 * i)
    return word


@compiled
def _add_1(centroid: Any, packed: Any, weights: Any, row: Any, sums: Any) -> None:
    unset, isset = weights[0, 0], weights[128, 0]
    for i in range(0, len(row) - _LANES + 1, _LANES):
        word = _word(packed, i // 8, 2)
        for lane in range(_LANES):
            found = (word >> _SHIFTS_1[lane]) & np.uint32(1)
            value = centroid[i + lane] + (isset if found else unset)
            row[i + lane] = value
            sums[lane] += value * value


@compiled
def _add_2(centroid: Any, packed: Any, weights: Any, row: Any, sums: Any) -> None:
    zero, one, two, three = weights[0, 0], weights[64, 0], weights[128, 0], weights[192, 0]
    for i in range(0, len(row) - _LANES + 1, _LANES):
        word = _word(packed, i // 4, 4)
        for lane in range(_LANES):
            found = (word >> _SHIFTS_2[lane]) & np.uint32(3)
            low = one if found == np.uint32(1) else zero
            high = three if found == np.uint32(3) else two
            value = centroid[i + lane] + (high if found > np.uint32(1) else low)
            row[i + lane] = value
            sums[lane] += value * value


@compiled
def _add_4(centroid: Any, packed: Any, weights: Any, row: Any, sums: Any) -> None:
    for i in range(0, len(row) - _LANES + 1, _LANES):
        for pair in range(_LANES // 2):
            byte = packed[i // 2 + pair]
            row[i + 2 * pair] = weights[byte, 0]
            row[i + 2 * pair + 1] = weights[byte, 1]
        for lane in range(_LANES):
            value = row[i + lane] + centroid[i + lane]
            row[i + lane] = value
            sums[lane] += value * value


@compiled
def _add_8(centroid: Any, packed: Any, weights: Any, row: Any, sums: Any) -> None:
    for i in range(0, len(row) - _LANES + 1, _LANES):
        for lane in range(_LANES):
            value = centroid[i + lane] + weights[packed[i + lane], 0]
            row[i + lane] = value
            sums[lane] += value * value


@compiled
def decode_tokens(codes: Any, residuals: Any, centroids: Any, byte_weights: Any, out: Any) -> None:
    """Write centroid and weights, added and divided by their length, into `out` (T, d) float32.

    `codes` (T,) and `residuals` (T, bytes) are packed tokens, `centroids` (K, d) and `byte_weights` (256, dimensions a
    byte) the codec's.
    """
    dim, each = centroids.shape[1], byte_weights.shape[1]
    sums = np.empty(_LANES, np.float32)
    for t in range(len(codes)):
        centroid, packed, row = centroids[codes[t]], residuals[t], out[t]
        sums[:] = 0
        if each == 4:
            _add_2(centroid, packed, byte_weights, row, sums)
        elif each == 8:
            _add_1(centroid, packed, byte_weights, row, sums)
        elif each == 2:
            _add_4(centroid, packed, byte_weights, row, sums)
        else:
            _add_8(centroid, packed, byte_weights, row, sums)
        total = np.float32(0)
        for lane in range(_LANES):
            total += sums[lane]
        for i in range(dim - dim % _LANES, dim):
            value = centroid[i] + byte_weights[packed[i // each], i % each]
            row[i] = value
            total += value * value
        factor = np.float32(1) / np.sqrt(total) if total > 0 else np.float32(0)
        for i in range(dim):
            row[i] *= factor
