"""Compiled: residuals' buckets moved to their neighbours while the decoded token comes nearer in direction.

Decoded tokens are made of unit length, so the bucket that is nearest in each dimension by itself is not the best of all:
what counts is the cosine with the token.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiling import compiled

#: Passes over a token's dimensions; after three hardly any bucket moves.
_SWEEPS = 3


@compiled
def turn_nearer(
    tokens: Any, codes: Any, centroids: Any, weights: Any, bits: int, byte_weights: Any, residuals: Any
) -> None:
    """Move buckets in the packed `residuals` (T, bytes) uint8 of `tokens` (T, d) one step up or down, dimension after
    dimension, where that raises the cosine of token and decoded token; sums are float64.

    `weights` (2^bits,) float32 ascend; `byte_weights` (256, 8 / bits) are what packed bytes stand for.
    """
    per_byte, last, dim = 8 // bits, 2**bits - 1, tokens.shape[1]
    for t in range(len(tokens)):
        centroid, token, packed = centroids[codes[t]], tokens[t], residuals[t]
        product, square = 0.0, 0.0
        for i in range(dim):
            value = np.float64(centroid[i]) + byte_weights[packed[i // per_byte], i % per_byte]
            product += value * token[i]
            square += value * value
        for _ in range(_SWEEPS):
            moved = False
            for i in range(dim):
                shift = 7 - (i % per_byte) * bits
                byte = np.int64(packed[i // per_byte])
                bucket = 0
                for bit in range(bits):
                    bucket |= ((byte >> (shift - bit)) & 1) << bit
                best, own = bucket, np.float64(centroid[i]) + weights[bucket]
                best_product, best_square = product, square
                for other in (bucket - 1, bucket + 1):
                    if 0 <= other <= last:
                        value = np.float64(centroid[i]) + weights[other]
                        new_product = product + (value - own) * token[i]
                        new_square = square + value * value - own * own
                        if (
                            new_product > 0
                            and new_product * new_product * best_square > best_product * best_product * new_square
                        ):
                            best, best_product, best_square = other, new_product, new_square
                if best != bucket:
                    moved = True
                    product, square = best_product, best_square
                    for bit in range(bits):
                        place = 1 << (shift - bit)
                        byte = (byte | place) if (best >> bit) & 1 else (byte & ~place)
                    packed[i // per_byte] = byte
            if not moved:
                break
