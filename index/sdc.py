"""Symmetric distance calculation: exact inner products of packed codes of several bits, without decoding them.

A code's coordinate is a sum of signs s_0 + s_1/2 + … + s_u/2^u (binary_codes.py), so the inner product of two codes is one
of bit planes: with ⟨s, t⟩ = m - 2·popcount(s xor t) for planes of m signs,

    2^(u + v) · ⟨q, d⟩ = m · (2^(u+1) - 1) · (2^(v+1) - 1) - 2 · sum over i, j of 2^(u-i + v-j) · popcount(q_i xor d_j)

in whole numbers; u and v may differ. That equals the form in numbers n in 0 … 2^(u+1) - 1, [4·Σ n_q n_d - …] / 2^(u+v)
(BEBR, arXiv 2302.08714, whose authors look it up in tables held in registers); here `sdc_kernel` counts bits of eight
documents at a time. Scores are whole numbers times one float64 factor a document (for cosines 1 / its norm) times one
a query, rounded to float32: they are alike on every machine and for every batch, and what should tie does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..errors import UsageError
from .binary_codes import code_bytes

#: Queries scanned together: their words and lists stay in the caches.
_QUERIES = 256

#: Bytes of the candidate lists of one batch, 16 for each candidate.
_LIST_BYTES = 1 << 26

_LANES = 8


@dataclass(frozen=True)
class Tiles:
    """Codes of `width` coordinates and `planes` bits in memory: uint64 `words` (t, planes · ⌈width / 64⌉, 8), eight documents
    side by side; `rows` int32 (t, 8), -1 for none; `factors` float64 (t, 8), or (1, 8) for all, what a document's scores in
    whole numbers are multiplied by.
    """

    words: np.ndarray
    rows: np.ndarray
    factors: np.ndarray
    width: int
    planes: int

    @property
    def nbytes(self) -> int:
        return self.words.nbytes + self.rows.nbytes + self.factors.nbytes


def plane_words(packed: np.ndarray, width: int, planes: int) -> np.ndarray:
    """Packed codes (n, width · planes / 8) uint8 as uint64 (n, planes · ⌈width / 64⌉), each plane filled up with zeros."""
    size = code_bytes(width, planes)
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != size:
        raise UsageError(f"codes are {packed.dtype} of shape {packed.shape}, expected uint8 (n, {size})")
    words = -(-width // 64)
    if not width % 64:
        return np.ascontiguousarray(packed).view(np.uint64)
    padded = np.zeros((len(packed), planes, 8 * words), np.uint8)
    padded[:, :, : width // 8] = packed.reshape(len(packed), planes, width // 8)
    return padded.reshape(len(packed), 8 * planes * words).view(np.uint64)


def make_tiles(
    packed: np.ndarray, rows: np.ndarray, width: int, planes: int, *, cosine: bool, slots: np.ndarray | None = None
) -> Tiles:
    """Tiles of the codes `packed` (n, bytes) of the index's `rows` (n,); with `cosine` a score is divided by the document's
    norm, which follows from its code. Documents lie in `slots` (n,), eight a tile, by default one after another.
    """
    slots = np.arange(len(packed)) if slots is None else slots
    count = -(-(int(slots.max(initial=-1)) + 1) // _LANES)
    words = np.zeros((count * _LANES, planes * -(-width // 64)), np.uint64)
    words[slots] = plane_words(packed, width, planes)
    numbers = np.full(count * _LANES, -1, np.int32)
    numbers[slots] = rows
    side_by_side = np.ascontiguousarray(words.reshape(count, _LANES, -1).transpose(0, 2, 1))
    factors = _factors(side_by_side, width, planes) if cosine else np.full((1, _LANES), 2.0 ** (1 - planes))
    return Tiles(side_by_side, numbers.reshape(count, _LANES), factors, width, planes)


def _factors(words: np.ndarray, width: int, planes: int) -> np.ndarray:
    """1 / (2^v times the norms) of the documents in tiles."""
    from . import sdc_kernel as kernel

    if planes == 1:
        return np.full((1, _LANES), 1 / np.sqrt(width))
    products = np.empty((len(words), _LANES))
    kernel.self_products(words, *_program(planes, planes, -(-width // 64)), most(width, planes, planes), products)
    return 1 / np.sqrt(products)  # no code is zero: each coordinate is odd / 2^v


def most(width: int, query_planes: int, planes: int) -> int:
    """The largest inner product of two codes, times 2^(u + v)."""
    return width * ((1 << query_planes) - 1) * ((1 << planes) - 1)


@lru_cache(maxsize=64)
def _program(query_planes: int, planes: int, words: int) -> tuple[np.ndarray, np.ndarray]:
    """For each weight, the heaviest first, which words of document and query meet: starts (g + 1,) and steps (n, 2), in
    bytes."""
    starts, steps = [0], []
    for weight in range(query_planes + planes - 1):
        for i in range(query_planes):
            j = weight - i
            if 0 <= j < planes:
                steps += [(8 * _LANES * (j * words + w), 8 * (i * words + w)) for w in range(words)]
        starts.append(len(steps))
    return np.array(starts, np.int64), np.array(steps, np.int64)


@dataclass(frozen=True)
class Queries:
    """Codes of queries (b, bytes) of `planes` bits a coordinate, and what each query's scores are multiplied by (b,)."""

    packed: np.ndarray
    width: int
    planes: int
    factors: np.ndarray

    def __getitem__(self, part: slice) -> Queries:
        return Queries(self.packed[part], self.width, self.planes, self.factors[part])

    def __len__(self) -> int:
        return len(self.packed)


def norms(packed: np.ndarray, width: int, planes: int) -> np.ndarray:
    """The Euclidean norms (n,) float64 of the values of codes (n, bytes)."""
    tiles = make_tiles(packed, np.arange(len(packed)), width, planes, cosine=True)
    factors = np.broadcast_to(tiles.factors, tiles.rows.shape).reshape(-1)[: len(packed)]
    found: np.ndarray = 2.0 ** (1 - planes) / factors
    return found


class _Lists:
    """Candidates of b queries, `room` for each."""

    def __init__(self, queries: int, room: int, k: int) -> None:
        self.scores = np.empty((queries, room))
        self.rows = np.empty((queries, room), np.int64)
        self.count = np.zeros(queries, np.int64)
        self.limit = np.full(queries, min(room, 2 * k + 16), np.int64)
        self.scratch = np.empty(room)
        self.out = np.empty((8, _LANES))


@dataclass(frozen=True)
class Probed:
    """Inverted lists: `tiles` int64 (l + 1,) per segment, where each list's tiles begin, and `lists` int64 (b, p) that each
    query looks at, -1 for none."""

    tiles: list[np.ndarray]
    lists: np.ndarray

    def __getitem__(self, part: slice) -> Probed:
        return Probed(self.tiles, np.ascontiguousarray(self.lists[part]))


def search(
    segments: Iterable[Tiles],
    queries: Queries,
    k: int,
    *,
    mask: np.ndarray | None = None,
    probed: Probed | None = None,
    ranks: Callable[[], np.ndarray],
    workers: int = 1,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Per query scores (m,) float64 (of float32) and rows (m,) int64 of at least its best k of the rows that `mask` (rows,) has.

    All that tie with the k-th are among them, or, where they are too many, the best of them by `ranks()` (rows,) int64, of
    which more is better; m < k only where there are fewer. With `probed`, each query looks at some inverted lists only.
    """
    segments = list(segments)
    room = 16 * k + 1024
    step = max(4, min(_QUERIES, _LIST_BYTES // (16 * room)) // 4 * 4)
    if workers > 1:  # each worker has work
        step = max(4, min(step, -(-len(queries) // workers)))
    parts = [slice(start, start + step) for start in range(0, len(queries), step)]

    def run(part: slice) -> list[tuple[np.ndarray, np.ndarray]]:
        return _search(segments, queries[part], k, room, mask, probed and probed[part], ranks)

    if workers == 1 or len(parts) == 1:
        for part in parts:
            yield from run(part)
        return
    with ThreadPoolExecutor(workers) as pool:
        for found in pool.map(run, parts):
            yield from found


def _search(
    segments: list[Tiles], queries: Queries, k: int, room: int, mask: np.ndarray | None,
    probed: Probed | None, ranks: Callable[[], np.ndarray],
) -> list[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    held = _scanned(segments, queries, k, room, mask, probed, np.empty(0, np.int64))
    found = []
    for q in range(len(queries)):
        here, at = held, q
        if held.count[q] < 0:  # more ties than the list takes
            one = slice(q, q + 1)
            here, at = _scanned(segments, queries[one], k, room, mask, probed and probed[one], ranks()), 0
        count = here.count[at]
        found.append((here.scores[at, :count].copy(), here.rows[at, :count].copy()))
    return found


def _scanned(
    segments: list[Tiles], queries: Queries, k: int, room: int, mask: np.ndarray | None,
    probed: Probed | None, ranks: np.ndarray,
) -> _Lists:  # fmt: skip
    from . import sdc_kernel as kernel

    words = plane_words(queries.packed, queries.width, queries.planes)
    held = _Lists(len(queries), room, k)
    allowed = np.empty(0, bool) if mask is None else mask
    terms = np.empty((len(queries), kernel.TERMS))
    terms[:, 1] = terms[:, 3] = -np.inf
    terms[:, 2] = queries.factors * 2.0 ** (1 - queries.planes)
    for number, tiles in enumerate(segments):
        starts, steps = _program(queries.planes, tiles.planes, -(-tiles.width // 64))
        terms[:, 0] = most(tiles.width, queries.planes, tiles.planes)
        bounded = (
            starts, steps, allowed, words, terms, k, held.scores, held.rows, held.count, held.limit, ranks, held.scratch,
            held.out,
        )  # fmt: skip
        if probed is None:
            kernel.scan(tiles.words, tiles.rows, tiles.factors, *bounded)
        else:
            kernel.scan_lists(tiles.words, tiles.rows, tiles.factors, probed.tiles[number], probed.lists, *bounded)
    return held


def inner_products(queries: np.ndarray, documents: np.ndarray, width: int, planes: int) -> Any:
    """The inner products (b, n) float64 of the values of packed codes (b, bytes) and (n, bytes): exact below 2^24 / 4^u."""
    asked = Queries(queries, width, planes, np.ones(len(queries)))
    tiles = make_tiles(documents, np.arange(len(documents)), width, planes, cosine=False)
    found = np.empty((len(queries), len(documents)))
    everything = search([tiles], asked, max(1, len(documents)), ranks=lambda: np.arange(len(documents)))
    for line, (scores, rows) in zip(found, everything, strict=True):
        line[rows] = scores
    return found
