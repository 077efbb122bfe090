"""Compiled: packing residuals of tokens."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiling import compiled


@compiled
def encode_residuals(tokens: Any, codes: Any, centroids: Any, cutoffs: Any, bits: int, out: Any) -> None:
    """Write the packed buckets of `tokens[t] - centroids[codes[t]]` into `out` (T, bytes) uint8, which holds zeros."""
    buckets = len(cutoffs) + 1
    dim = tokens.shape[1]
    residual = np.empty(dim, np.float32)
    found = np.empty(dim, np.uint8)
    for t in range(len(tokens)):
        code = codes[t]
        for i in range(dim):
            residual[i] = tokens[t, i] - centroids[code, i]
        if buckets <= 16:
            found[:] = 0
            for bound in cutoffs:
                for i in range(dim):
                    found[i] += np.uint8(residual[i] > bound)
        else:
            for i in range(dim):
                low, high = 0, buckets - 1
                while low < high:
                    middle = (low + high) // 2
                    if cutoffs[middle] < residual[i]:
                        low = middle + 1
                    else:
                        high = middle
                found[i] = low
        per_byte = 8 // bits
        for i in range(dim):
            first = 7 - (i % per_byte) * bits
            byte = 0
            for bit in range(bits):
                byte |= ((found[i] >> bit) & 1) << (first - bit)
            out[t, i // per_byte] |= np.uint8(byte)


@compiled
def add_fidelity(tokens: Any, codes: Any, residuals: Any, centroids: Any, byte_weights: Any, sums: Any) -> None:
    """Add to `sums` (3,) float64, at 1, the cosines of `tokens` (T, d) with what is decoded for them, at 2 the lengths of
    token minus centroid.
    """
    per_byte = byte_weights.shape[1]
    for t in range(len(codes)):
        code = codes[t]
        product, square, own, rest = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for i in range(centroids.shape[1]):
            value = centroids[code, i] + byte_weights[residuals[t, i // per_byte], i % per_byte]
            product += value * tokens[t, i]
            square += value * value
            own += tokens[t, i] * tokens[t, i]
            left = tokens[t, i] - centroids[code, i]
            rest += left * left
        if square > 0 and own > 0:
            sums[1] += product / np.sqrt(np.float64(square) * np.float64(own))
        sums[2] += np.sqrt(np.float64(rest))
