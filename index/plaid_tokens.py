"""The tokens of a PLAID index over its shards: scored by their centroids, or decoded and scored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..vectors import MultiVector
from .maxsim_blocks import NOTHING, blocks
from .maxsim_kernel import sum_of_best
from .maxsim_product import COLUMNS, ROWS, narrow_product
from .multivector_files import token_places
from .plaid_files import PlaidShard
from .plaid_kernels import centroid_sums
from .residual_codec import ResidualCodec

#: Numbers of decoded tokens that are held at a time: 1 MB, which stays in a core's second cache.
_DECODED = 1 << 18


@dataclass(frozen=True)
class PlaidTokens:
    """The documents' tokens: `shards`, and what `codec` makes of them."""

    shards: list[PlaidShard]
    codec: ResidualCodec

    @cached_property
    def starts(self) -> np.ndarray:
        """The first row of each shard, and the number of all: (shards + 1,) int64."""
        return np.concatenate([[0], np.cumsum([len(shard) for shard in self.shards])]).astype(np.int64)

    @cached_property
    def filled(self) -> np.ndarray:
        """Which documents have tokens: (n,) bool."""
        return np.concatenate([np.diff(shard.offsets) > 0 for shard in self.shards])

    def centroid_scores(self, query: np.ndarray) -> np.ndarray:
        """Products of the centroids and the tokens of `query` (t, d): (K, t or some columns more) float32."""
        return product(self.codec.centroids, factors_of(query))

    def centroid_sums(self, rows: np.ndarray, scores: np.ndarray, terms: int, kept: np.ndarray) -> np.ndarray:
        """MaxSim (m,) float64 over the `kept` (K,) centroids of the documents `rows` (m,), ascending, by `scores` of these
        and a query's `terms` tokens. A document that has none of them comes below all others.
        """
        out = np.empty(len(rows))
        for shard, first, own in self.pieces(rows):
            centroid_sums(shard.codes, shard.offsets, own, scores, terms, kept, out[first : first + len(own)])
        none = np.isneginf(out)
        if none.any():
            out[none] = out[~none].min(initial=0) - 1
        return out

    def maxsim(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """MaxSim (m,) float64 of `query` (t, d) and the decoded tokens of the documents `rows` (m,), ascending, all with
        tokens: products in float32, summed in float64.
        """
        factors = factors_of(query)
        ends, zero = np.array([0, len(query)]), np.zeros(1)
        out = np.empty((1, len(rows)))
        for first, tokens, offsets in self._decoded(rows):
            sum_of_best(product(tokens, factors), NOTHING, NOTHING, offsets, ends, zero, zero, out, first)
        return out[0]

    def vectors(self, rows: np.ndarray) -> MultiVector:
        """The decoded tokens of the documents `rows` (m,), ascending."""
        parts = list(self._decoded(rows))
        sizes = [np.diff(offsets) for _, _, offsets in parts]
        tokens = np.concatenate([np.zeros((0, self.codec.dim), np.float32), *(tokens for _, tokens, _ in parts)])
        return MultiVector(tokens, np.concatenate([[0], np.cumsum(np.concatenate([np.zeros(0, np.int64), *sizes]))]))

    def pieces(self, rows: np.ndarray) -> Iterator[tuple[PlaidShard, int, np.ndarray]]:
        """Shards that have some of `rows`, ascending: the shard, the place of its first among these, its own row numbers."""
        places = np.searchsorted(rows, self.starts)
        for number in np.flatnonzero(np.diff(places)):
            first, last = int(places[number]), int(places[number + 1])
            yield self.shards[number], first, rows[first:last] - self.starts[number]

    def _decoded(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Decoded tokens of `rows`, some documents at a time: the place of the first, tokens (T, d), offsets."""
        for shard, start, own in self.pieces(rows):
            places, offsets = token_places(shard.offsets, own)
            for first, last in blocks(offsets, max(1, _DECODED // self.codec.dim)):
                tokens = self.codec.decode(shard.codes, shard.residuals, places[offsets[first] : offsets[last]])
                yield start + first, tokens, offsets[first : last + 1] - offsets[first]


def factors_of(query: np.ndarray) -> np.ndarray:
    """The tokens of `query` (t, d) as columns (d, t), with columns of zeros up to a multiple of what is multiplied at once."""
    return np.ascontiguousarray(np.pad(query.T, ((0, 0), (0, -len(query) % COLUMNS))))


def product(rows: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """`rows` (n, d) times `factors` (d, columns) in float32. With FMA a number depends on its row and column alone."""
    if not ROWS:
        return rows @ factors
    missing = max(0, ROWS - len(rows))
    if missing:
        rows = np.concatenate([rows, np.zeros((missing, rows.shape[1]), np.float32)])
    products: np.ndarray = narrow_product(rows, factors)
    return products[: len(products) - missing]
