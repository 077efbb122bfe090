"""PLAID's and WARP's searches written out straight, document by document in float64, and small random indexes in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from cribble.index.plaid_files import PlaidShard, Postings
from cribble.index.plaid_tokens import PlaidTokens
from cribble.index.residual_buckets import quantile_buckets
from cribble.index.residual_codec import ResidualCodec


@dataclass(frozen=True)
class Made:
    """An index in memory: as it is searched, and as lists of a document's codes and buckets."""

    tokens: PlaidTokens
    postings: Postings
    ranks: np.ndarray
    codes: list[np.ndarray]
    buckets: list[np.ndarray]

    @property
    def documents(self) -> int:
        return len(self.codes)


def made(
    seed: int, *, documents: int = 120, dim: int = 16, bits: int = 2, centroids: int = 24, shards: int = 3
) -> Made:
    """Documents of 0 to 11 tokens, about one in ten a copy of another, in some shards."""
    rng = np.random.default_rng(seed)
    middles = unit(rng.standard_normal((centroids, dim)))
    sizes = rng.integers(0, 12, documents)
    matrices = [unit(middles[rng.integers(0, centroids, n)] + 0.4 * rng.standard_normal((n, dim))) for n in sizes]
    for copy in rng.choice(documents, documents // 10, replace=False):
        matrices[copy] = matrices[rng.integers(documents)]
    everything = np.concatenate(matrices)
    residuals = everything - middles[(everything @ middles.T).argmax(1)]
    codec = ResidualCodec(middles, *quantile_buckets(residuals, bits), bits)
    encoded = [codec.encode(matrix) for matrix in matrices]
    parts = np.array_split(np.arange(documents), shards)
    pieces = [_shard([encoded[i] for i in part]) for part in parts]
    codes = [own for own, _ in encoded]
    return Made(
        PlaidTokens(pieces, codec),
        _postings(codes, centroids),
        rng.permutation(documents).astype(np.int32),
        codes,
        [_buckets(packed, dim, bits) for _, packed in encoded],
    )


def queries(seed: int, index: Made, count: int = 4) -> list[np.ndarray]:
    """Queries of 1 to 9 tokens: near centroids, away from all, or anything."""
    rng = np.random.default_rng(1000 + seed)
    middles = index.tokens.codec.centroids
    found = []
    for i in range(count):
        size = int(rng.integers(1, 10))
        near = middles[rng.integers(0, len(middles), size)] * (1, -1, 0, 1)[i % 4]
        found.append(unit(near + 0.5 * rng.standard_normal((size, middles.shape[1]))))
    return found


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def decoded(index: Made, document: int) -> np.ndarray:
    """Tokens (t, d) float64: centroid and weights, added, of unit length."""
    codec = index.tokens.codec
    raw = codec.centroids[index.codes[document]].astype(np.float64) + codec.weights[index.buckets[document]]
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def maxsim_by_hand(index: Made, query: np.ndarray, document: int) -> float:
    tokens = decoded(index, document)
    return sum(max(float(np.dot(q, t)) for t in tokens) for q in query.astype(np.float64))


def exhaustive(index: Made, query: np.ndarray, k: int, findable: list[int] | None = None) -> list[tuple[int, float]]:
    return ordered(index, {i: maxsim_by_hand(index, query, i) for i in _findable(index, findable)})[:k]


def plaid_by_hand(index, query, k, *, ncells, threshold, ndocs, findable=None) -> list[tuple[int, float]]:
    """The four stages; returns the best `k` documents and their scores."""
    scores = _scores(index, query)
    ndocs = max(ndocs, k)
    chosen = _candidates(index, [cell for row in scores for cell in _best_cells(row, ncells)], findable, ndocs)
    kept = {cell for cell in range(scores.shape[1]) if max(scores[:, cell]) >= threshold}
    if len(chosen) > ndocs:
        chosen = [i for i, _ in ordered(index, {i: _by_centroids(index, scores, i, kept) for i in chosen})[:ndocs]]
    last = max(k, ndocs // 4)
    if len(chosen) > last:
        every = set(range(scores.shape[1]))
        chosen = [i for i, _ in ordered(index, {i: _by_centroids(index, scores, i, every) for i in chosen})[:last]]
    return ordered(index, {i: maxsim_by_hand(index, query, i) for i in chosen})[:k]


def warp_by_hand(index, query, k, *, nprobe, t_prime, bound, findable=None) -> list[tuple[int, float]]:
    """WARP: matches of the probed centroids' tokens, not made of unit length, or the estimate for what is missing."""
    scores, codec = _scores(index, query), index.tokens.codec
    sizes = [sum(int((codes == cell).sum()) for codes in index.codes) for cell in range(scores.shape[1])]
    cells = [_best_cells(row, nprobe) for row in scores]
    missing = []
    for row in scores:
        held = 0
        for cell in _best_cells(row, bound):
            held += sizes[cell]
            if held >= t_prime:
                break
        missing.append(row[cell])
    found = {}
    for i in _candidates(index, [cell for row in cells for cell in row], findable, 0):
        found[i] = 0.0
        for j, q in enumerate(query.astype(np.float64)):
            own = [
                scores[j, code] + float(np.dot(q, codec.weights[buckets].astype(np.float64)))
                for code, buckets in zip(index.codes[i], index.buckets[i], strict=True)
                if code in cells[j]
            ]
            found[i] += max(own) if own else missing[j]
    return ordered(index, found)[:k]


def ordered(index: Made, scores: dict[int, float]) -> list[tuple[int, float]]:
    """Documents by score, equal ones by their rank, descending. Scores of copies differ by nothing but rounding."""
    return sorted(scores.items(), key=lambda item: (-round(item[1], 9), -index.ranks[item[0]]))


def _scores(index: Made, query: np.ndarray) -> np.ndarray:
    return query.astype(np.float64) @ index.tokens.codec.centroids.astype(np.float64).T


def _best_cells(row: np.ndarray, count: int) -> list[int]:
    return sorted(range(len(row)), key=lambda cell: (-row[cell], cell))[:count]


def _findable(index: Made, findable: list[int] | None) -> list[int]:
    return [i for i in (range(index.documents) if findable is None else findable) if len(index.codes[i])]


def _candidates(index: Made, cells: list[int], findable: list[int] | None, few: int) -> list[int]:
    available, probed = _findable(index, findable), set(cells)
    listed = sum(len(set(codes.tolist()) & probed) for codes in index.codes)
    if len(available) <= max(listed, few):
        return available
    return [i for i in available if set(index.codes[i].tolist()) & probed]


def _by_centroids(index: Made, scores: np.ndarray, document: int, kept: set[int]) -> float:
    cells = [code for code in index.codes[document].tolist() if code in kept]
    return sum(max(row[cell] for cell in cells) for row in scores) if cells else -1e9


def _buckets(packed: np.ndarray, dim: int, bits: int) -> np.ndarray:
    """Buckets (t, d), read bit by bit in Stanford's order."""
    unpacked = np.unpackbits(packed, axis=1)[:, : dim * bits].reshape(len(packed), dim, bits).astype(np.int64)
    found: np.ndarray = sum(unpacked[:, :, bit] << bit for bit in range(bits))
    return found


def _shard(encoded: list[tuple[np.ndarray, np.ndarray]]) -> PlaidShard:
    offsets = np.cumsum([0, *(len(codes) for codes, _ in encoded)]).astype(np.int64)
    arrays = [np.concatenate(part) for part in zip(*encoded, strict=True)]
    for array in arrays:
        array.flags.writeable = False  # as those that are mapped
    return PlaidShard(*arrays, offsets)


def _postings(codes: list[np.ndarray], centroids: int) -> Postings:
    lists = [[i for i, own in enumerate(codes) if cell in own] for cell in range(centroids)]
    rows = np.array([i for own in lists for i in own], np.uint16)
    rows.flags.writeable = False
    sizes = np.array([sum(int((own == cell).sum()) for own in codes) for cell in range(centroids)], np.uint32)
    return Postings(rows, np.cumsum([0, *map(len, lists)]).astype(np.int64), sizes)
