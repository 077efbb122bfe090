"""Token vectors as a centroid's number and b bits a dimension of what is left of them (ColBERTv2; read in
`colbert/indexing/codecs/residual.py` of stanford-futuredata/ColBERT).

A residual is cut into 2^b buckets by cut-offs that all dimensions share, and read back as its bucket's weight. Bits are
packed as Stanford packs them: dimension after dimension, a bucket's lowest bit first, each next bit into the highest free
bit of its byte. Where d · b is no multiple of 8, a token's last byte is filled with zeros (Stanford's refuses these).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import InputError, UsageError
from .plaid_options import BITS
from .residual_decoding import decode_tokens
from .residual_loops import encode_residuals
from .token_clusters import NearestCentroids


@dataclass(frozen=True)
class ResidualCodec:
    """Turns tokens into codes and packed residuals, and back.

    `centroids` (K, d) float32, `cutoffs` (2^bits - 1,) float32 ascending, `weights` (2^bits,) float32, `bits` 1, 2, 4 or 8.
    """

    centroids: np.ndarray
    cutoffs: np.ndarray
    weights: np.ndarray
    bits: int

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise UsageError(f"residual codec: bits is {self.bits!r}, expected 1, 2, 4 or 8")
        if len(self.weights) != 2**self.bits or len(self.cutoffs) != 2**self.bits - 1 or not len(self.centroids):
            raise InputError(
                f"residual codec: {len(self.centroids)} centroids, {len(self.cutoffs)} cut-offs and {len(self.weights)} "
                f"weights, expected centroids, {2**self.bits - 1} cut-offs and {2**self.bits} weights at {self.bits} bits"
            )

    @property
    def dim(self) -> int:
        """Dimensions of a token."""
        return int(self.centroids.shape[1])

    @property
    def packed_bytes(self) -> int:
        """Bytes of a packed residual."""
        return -(-self.dim * self.bits // 8)

    @property
    def code_dtype(self) -> type[np.uint16] | type[np.uint32]:
        """The narrowest type of a centroid's number that the files have."""
        return np.uint16 if len(self.centroids) <= 1 << 16 else np.uint32

    @cached_property
    def nearest(self) -> NearestCentroids:
        """What finds a token's centroid."""
        return NearestCentroids(self.centroids)

    @cached_property
    def byte_weights(self) -> np.ndarray:
        """The weights (256, 8 / bits) float32 that a packed byte stands for, dimension after dimension."""
        bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).reshape(256, 8 // self.bits, self.bits)
        buckets = (bits.astype(np.int64) << np.arange(self.bits)).sum(axis=2)
        return np.ascontiguousarray(self.weights[buckets], np.float32)

    def encode(self, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes (T,) uint16 or uint32 and packed residuals (T, ⌈d · bits / 8⌉) uint8 of `tokens` (T, d) float32 of unit
        length: the nearest centroid by inner product, of which above 512 one in a hundred is missed (token_clusters.py), and the
        buckets of token minus centroid. A residual equal to a cut-off lies below it, as torch.bucketize has it. Neither
        depends on the other tokens.
        """
        tokens = np.ascontiguousarray(tokens, np.float32)
        codes = self.nearest.of(tokens)
        return codes.astype(self.code_dtype), self.pack(tokens, codes)

    def pack(self, tokens: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Packed residuals (T, ⌈d · bits / 8⌉) uint8 of `tokens` (T, d) float32 whose centroids are `codes` (T,)."""
        out = np.zeros((len(tokens), self.packed_bytes), np.uint8)
        encode_residuals(tokens, codes, self.centroids, self.cutoffs, self.bits, out)
        return out

    def decode(self, codes: np.ndarray, residuals: np.ndarray, places: np.ndarray | None = None) -> np.ndarray:
        """Tokens (T, d) float32, all or those at `places` (T,) int64: centroid and weights added, of unit length."""
        places = np.arange(len(codes)) if places is None else places
        out = np.empty((len(places), self.dim), np.float32)
        decode_tokens(codes, residuals, places, self.centroids, self.byte_weights, out)
        return out


def rounded_centroids(centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`centroids` (K, d) as the index keeps them: numbers (K, d) int8 and scales (K,) float32, the largest of each / 127."""
    scales = np.abs(centroids).max(axis=1, initial=0).astype(np.float32) / np.float32(127)
    scales[scales == 0] = 1
    return np.rint(centroids / scales[:, None]).astype(np.int8), scales


def read_centroids(numbers: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Centroids (K, d) float32 from what `rounded_centroids` made."""
    return numbers.astype(np.float32) * scales[:, None]
