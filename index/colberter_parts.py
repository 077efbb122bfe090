"""One of the two kinds of vectors of a ColBERTer index, scored exactly: [CLS] vectors, or bags in which all words match."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..vectors import MultiVector
from .best import sort_descending
from .colberter_files import Shards
from .maxsim import maxsim_all
from .maxsim_blocks import blocks, product
from .maxsim_kernel import exact_sum_of_best
from .maxsim_stored import StoredQueries
from .multivector import batches
from .multivector_files import TokenShard, token_places

#: Vectors that are scored, or raised to float32, at a time.
_AT_ONCE = 1 << 13

_NOTHING = np.zeros(0, np.float32)


class Part:
    """Vectors of all documents, `part` (cls or bags) of `shards`, whose rows begin at `starts`, with norms up to `largest`.

    A document's score is the sum over a query's vectors of their greatest inner product with one of its own, in float64
    over the vectors as they are stored; a document without vectors scores 0.
    """

    def __init__(self, shards: Shards, part: str, starts: np.ndarray, largest: float, ranks: np.ndarray) -> None:
        self._shards, self._part, self._starts, self._largest, self._ranks = shards, part, starts, largest, ranks
        self.filled = np.concatenate([np.diff(self._shard(number).offsets) > 0 for number in range(len(shards))])

    def _shard(self, number: int) -> TokenShard:
        shard: TokenShard = getattr(self._shards[number], self._part)
        return shard

    def best(self, queries: MultiVector, count: int, selection: np.ndarray | None) -> list[np.ndarray]:
        """Per query the rows of the best `count` of `selection`, of all where it is None, ascending: exact scores, then ids.

        Documents without vectors are never among them, and a query without vectors has none.
        """
        rows = np.flatnonzero(self.filled) if selection is None else selection[self.filled[selection]]
        if count >= len(rows):
            return [rows if len(queries[i]) else rows[:0] for i in range(len(queries))]
        found: list[np.ndarray] = []
        for part in batches(queries, len(queries)):
            scores, errors = self._scan(part, rows)
            found += [self._settled(part[i], scores[i], errors[i], rows, count) for i in range(len(part))]
        return found

    def scores(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Exact scores (m,) float64 of the documents in `rows` (m,), ascending, for one `query` (t, d) float32."""
        values = np.zeros(len(rows))
        having = np.flatnonzero(self.filled[rows])
        if len(query) and len(having):
            errors = self._errors(query).astype(np.float32)
            for first, tokens, offsets in self._batches(rows[having]):
                out = np.empty(len(offsets) - 1)
                similarities = product(tokens, np.ascontiguousarray(query.T))
                exact_sum_of_best(query, tokens, similarities, _NOTHING, _NOTHING, offsets, errors, False, out)
                values[having[first : first + len(out)]] = out
        return values

    def _scan(self, queries: MultiVector, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores (queries, m) float32, and by how much those of each query may err (queries,)."""
        scores = np.empty((len(queries), len(rows)), np.float32)
        if self._shards.storage == "float32":
            for first, tokens, offsets in self._batches(rows):
                scores[:, first : first + len(offsets) - 1] = maxsim_all(queries, MultiVector(tokens, offsets))
            errors = self._errors(queries.tokens)
        else:
            side = StoredQueries.of(queries.tokens, queries.offsets, self._shards.storage)
            for done, shard, own in self._of_shards(rows):
                last = done + len(own)
                if 2 * len(own) > len(shard):
                    every = np.empty((len(queries), len(shard)), np.float32)
                    side.score(shard.numbers, shard.scales, shard.offsets, every, 0)
                    scores[:, done:last] = every[:, own]
                else:
                    kept = shard.kept(own)
                    side.score(kept.numbers, kept.scales, np.concatenate([[0], np.cumsum(kept.sizes)]), scores, done)
            errors = side.errors(queries.tokens.shape[1], self._largest)
        norms = np.linalg.norm(queries.tokens.astype(np.float64), axis=1)
        summed = np.concatenate([[0.0], np.cumsum(errors + 2.0**-23 * norms * self._largest)])
        return scores, np.diff(summed[queries.offsets])

    def _settled(self, query: np.ndarray, scores: np.ndarray, error: float, rows: np.ndarray, count: int) -> np.ndarray:
        if not len(query):
            return rows[:0]
        least = float(np.partition(scores, -count)[-count]) - 2 * error
        near = rows[scores >= least]
        if len(near) > count:
            best, values = np.empty(count, np.int64), np.empty(count)
            sort_descending(near, self.scores(query, near), self._ranks, best, values)
            near = np.sort(best)
        return near

    def _errors(self, query: np.ndarray) -> np.ndarray:
        """Bounds (t,) on what a float32 product can be off: n terms err by n · 2^-24 of their absolute sum."""
        norms = np.linalg.norm(query.astype(np.float64), axis=1)
        errors: np.ndarray = (query.shape[1] + 8) * 2.0**-24 * norms * self._largest
        return errors

    def _of_shards(self, rows: np.ndarray) -> Iterator[tuple[int, TokenShard, np.ndarray]]:
        """Each shard with those of the ascending `rows` that are its own, if any, and the place of their first among all."""
        cuts = np.searchsorted(rows, self._starts)
        for number in np.flatnonzero(np.diff(cuts)).tolist():
            first, last = cuts[number : number + 2].tolist()
            yield first, self._shard(number), rows[first:last] - self._starts[number]

    def _batches(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Vectors and offsets of ascending `rows`, and the place of their first among these, `_AT_ONCE` at a time."""
        for done, shard, own in self._of_shards(rows):
            _, offsets = token_places(shard.offsets, own)
            for first, last in blocks(offsets, _AT_ONCE):
                tokens, part = shard.vectors(own[first:last])
                yield done + first, tokens, part
