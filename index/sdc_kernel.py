"""Compiled loops of the symmetric distance calculation (`sdc.py`): weighted Hamming distances, and the best of them.

Numba compiles them at first use and keeps the machine code. The distances are written in LLVM's own instructions, which
name no processor: eight documents lie side by side in a register of 64-bit words, and `ctpop` counts the bits of each; with
AVX-512's VPOPCNTDQ that is one instruction, elsewhere LLVM makes it of others.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, types

from ..compiling import compiled
from .scan_kernel import kth_largest

#: Documents of one tile: the 64-bit lanes of a register.
LANES = 8

#: Queries that one pass over a tile serves, and tiles that one pass with a single query takes.
QUERIES = TILES = 4

#: What a query needs: the largest score in whole numbers, the threshold before the query's factor, that factor, and the
#: threshold of finished scores.
TERMS = 4

#: Scores are rounded to float32 in the end; so much less may still be rounded up to the threshold.
_SLACK = 2.0**-22

intrinsic: Any = extending.intrinsic

_BIT, _INT, _LONG, _DOUBLE = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.DoubleType()
_WORDS, _DOUBLES = ir.VectorType(_LONG, LANES), ir.VectorType(_DOUBLE, LANES)
_ONES = ir.Constant(_WORDS, [1] * LANES)


def _constant(value: int) -> ir.Constant:
    return ir.Constant(_LONG, value)


def _load(builder: ir.IRBuilder, address: Any, kind: ir.Type) -> Any:
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = 8
    return value


def _at(builder: ir.IRBuilder, address: Any, stride: Any, number: int) -> Any:
    """`address` after `number` strides."""
    return builder.add(address, builder.mul(stride, _constant(number)))


def _spread(builder: ir.IRBuilder, value: Any) -> Any:
    """`value` in all lanes of a register."""
    kind = ir.VectorType(value.type, LANES)
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES))


def _distances(builder: ir.IRBuilder, tiles: int, queries: int, arguments: Any) -> list[Any]:
    """Weighted Hamming distances, a register for each tile and query: for each weight twice the sum so far, and what its
    steps add."""
    tile, tile_stride, query, query_stride, groups, starts, steps = arguments
    count = tiles * queries
    population = builder.module.declare_intrinsic("llvm.ctpop.v8i64", (), ir.FunctionType(_WORDS, [_WORDS]))
    entry = builder.block
    outer, inner, closed, after = (
        builder.append_basic_block(name) for name in ("weights", "steps", "closed", "scores")
    )
    builder.branch(outer)
    builder.position_at_end(outer)
    group = builder.phi(_LONG)
    group.add_incoming(_constant(0), entry)
    totals = [builder.phi(_WORDS) for _ in range(count)]
    doubled = [builder.shl(total, _ONES) for total in totals]
    at = builder.add(starts, builder.shl(group, _constant(3)))
    begin, end = _load(builder, at, _LONG), _load(builder, builder.add(at, _constant(8)), _LONG)
    builder.branch(inner)

    builder.position_at_end(inner)
    step = builder.phi(_LONG)
    step.add_incoming(begin, outer)
    sums = [builder.phi(_WORDS) for _ in range(count)]
    place = builder.add(steps, builder.shl(step, _constant(4)))
    in_tile = builder.add(tile, _load(builder, place, _LONG))
    in_query = builder.add(query, _load(builder, builder.add(place, _constant(8)), _LONG))
    documents = [_load(builder, _at(builder, in_tile, tile_stride, t), _WORDS) for t in range(tiles)]
    asked = [_spread(builder, _load(builder, _at(builder, in_query, query_stride, q), _LONG)) for q in range(queries)]
    new = [
        builder.add(total, builder.call(population, [builder.xor(document, word)]))
        for total, (document, word) in zip(sums, itertools.product(documents, asked), strict=True)
    ]
    following = builder.add(step, _constant(1))
    step.add_incoming(following, inner)
    for total, start, value in zip(sums, doubled, new, strict=True):
        total.add_incoming(start, outer)
        total.add_incoming(value, inner)
    builder.cbranch(builder.icmp_signed("<", following, end), inner, closed)

    builder.position_at_end(closed)
    next_group = builder.add(group, _constant(1))
    group.add_incoming(next_group, closed)
    for total, value in zip(totals, new, strict=True):
        total.add_incoming(ir.Constant(_WORDS, [0] * LANES), entry)
        total.add_incoming(value, closed)
    builder.cbranch(builder.icmp_signed("<", next_group, groups), outer, after)
    builder.position_at_end(after)
    return new


def _good(builder: ir.IRBuilder, tiles: int, queries: int, distances: list[Any], arguments: Any) -> Any:
    """Store the scores of `distances`; a bit for each that reaches its query's threshold."""
    factors, factor_stride, terms, out = arguments
    mask: Any = _constant(0)
    for number, (t, q) in enumerate(itertools.product(range(tiles), range(queries))):
        place = builder.add(terms, _constant(8 * TERMS * q))
        most, threshold = (
            _spread(builder, _load(builder, builder.add(place, _constant(8 * i)), _DOUBLE)) for i in range(2)
        )
        twice = builder.uitofp(builder.shl(distances[number], _ONES), _DOUBLES)
        score = builder.fmul(
            builder.fsub(most, twice), _load(builder, _at(builder, factors, factor_stride, t), _DOUBLES)
        )
        address = builder.add(out, _constant(8 * LANES * number))
        builder.store(score, builder.inttoptr(address, _DOUBLES.as_pointer())).align = 8
        good = builder.bitcast(builder.fcmp_ordered(">=", score, threshold), ir.IntType(LANES))
        mask = builder.or_(mask, builder.shl(builder.zext(good, _LONG), _constant(LANES * number)))
    return mask


def _reached(tiles: int, queries: int) -> Any:
    """The intrinsic that scores `tiles` tiles for `queries` queries, of which one is 1.

    Bit 8·(tile or query) + lane of its answer is set where the score reaches the query's threshold; scores go to `out`.
    All arguments are addresses, but the strides in bytes and `groups`, the number of weights. `starts` int64 (groups + 1,)
    are the steps of each weight, `steps` int64 (steps, 2) the bytes into a tile and into a query's words; `terms` float64
    (queries, TERMS) hold the largest score and the threshold of each query first.
    """

    @intrinsic
    def reached(
        typing: Any, tile: Any, tile_stride: Any, query: Any, query_stride: Any, groups: Any, starts: Any, steps: Any,
        factors: Any, factor_stride: Any, terms: Any, out: Any,
    ) -> Any:  # fmt: skip
        def generate(_: Any, builder: ir.IRBuilder, __: Any, arguments: Any) -> Any:
            distances = _distances(builder, tiles, queries, arguments[:7])
            return _good(builder, tiles, queries, distances, arguments[7:])

        return types.int64(*[types.intp] * 11), generate

    return reached


_four_queries = _reached(1, QUERIES)
_four_tiles = _reached(TILES, 1)
_one = _reached(1, 1)


@intrinsic
def _lowest_bit(typing: Any, value: Any) -> Any:
    """The number of the lowest bit that is set in an int64."""

    def generate(_: Any, builder: ir.IRBuilder, __: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(_BIT, 1))

    return types.int64(types.int64), generate


# ---- lists of the best ----------------------------------------------------------------------------------------------


@compiled
def _shrink(
    q: int, k: int, terms: Any, scores: Any, rows: Any, count: Any, limit: Any, ranks: Any, scratch: Any
) -> None:
    """Raise query q's threshold to its k-th best score and drop what is below; what ties with it stays.

    With `ranks` (rows,) int64, of which more is better, only the best of those that tie stay. Without, a list that is
    still full afterwards is given up: its count becomes -1.
    """
    held, room = count[q], rows.shape[1]
    if held >= k:
        for i in range(held):
            scratch[i] = scores[q, i]
        threshold = kth_largest(scratch, held, k)
        terms[q, 3] = threshold
        terms[q, 1] = (threshold - abs(threshold) * _SLACK) / terms[q, 2]
        least = -1.0
        if ranks.size:
            above, ties = 0, 0
            for i in range(held):
                if scores[q, i] > threshold:
                    above += 1
                elif scores[q, i] == threshold:
                    scratch[ties] = np.float64(ranks[rows[q, i]])
                    ties += 1
            least = kth_largest(scratch, ties, k - above)
        kept = 0
        for i in range(held):
            better = scores[q, i] > threshold
            if better or (scores[q, i] == threshold and (not ranks.size or ranks[rows[q, i]] >= least)):
                scores[q, kept], rows[q, kept] = scores[q, i], rows[q, i]
                kept += 1
        count[q] = kept
    limit[q] = min(room, max(limit[q], 2 * count[q]))
    if 4 * count[q] > 3 * room:
        terms[q, 1] = terms[q, 3] = np.inf
        count[q] = -1


@compiled
def _take(
    good: int, q: int, each_query: int, tile: int, each_tile: int, tile_rows: Any, allowed: Any, out: Any, k: int,
    terms: Any, scores: Any, rows: Any, count: Any, limit: Any, ranks: Any, scratch: Any,
) -> None:  # fmt: skip
    """Add the documents whose bits are set in `good` to the lists. Bit LANES · j + lane is of query q + j · `each_query` and
    of tile `tile` + j · `each_tile`; row j of `out` has its score.
    """
    while good:
        bit = _lowest_bit(good)
        good &= good - 1
        j, lane = bit // LANES, bit % LANES
        row, mine = tile_rows[tile + j * each_tile, lane], q + j * each_query
        if row < 0 or (allowed.size and not allowed[row]):
            continue
        if count[mine] == limit[mine]:
            _shrink(mine, k, terms, scores, rows, count, limit, ranks, scratch)
        score = np.float64(np.float32(out[j, lane] * terms[mine, 2]))
        if score < terms[mine, 3]:
            continue
        scores[mine, count[mine]], rows[mine, count[mine]] = score, row
        count[mine] += 1


@compiled
def scan(
    tiles: Any, tile_rows: Any, factors: Any, starts: Any, steps: Any, allowed: Any, queries: Any, terms: Any, k: int,
    scores: Any, rows: Any, count: Any, limit: Any, ranks: Any, scratch: Any, out: Any,
) -> None:  # fmt: skip
    """Add to each query's list the documents of all tiles that reach its threshold.

    `tiles` are uint64 (t, words, LANES), `tile_rows` int64 (t, LANES) their rows, -1 where there is none, `factors`
    float64 (t or 1, LANES) what scores are multiplied by, `allowed` (rows,) bool or empty, `queries` uint64 (b, words').
    """
    tile_bytes, query_bytes = tiles.shape[1] * 8 * LANES, queries.shape[1] * 8
    factor_bytes = 8 * LANES if factors.shape[0] > 1 else 0
    at_tiles, at_queries, at_factors = tiles.ctypes.data, queries.ctypes.data, factors.ctypes.data
    at_starts, at_steps, at_terms, at_out = starts.ctypes.data, steps.ctypes.data, terms.ctypes.data, out.ctypes.data
    groups, full = starts.shape[0] - 1, queries.shape[0] // QUERIES * QUERIES
    for tile in range(tiles.shape[0]):
        at_tile, at_factor = at_tiles + tile * tile_bytes, at_factors + tile * factor_bytes
        for first in range(0, full, QUERIES):
            good = _four_queries(
                at_tile, tile_bytes, at_queries + first * query_bytes, query_bytes, groups, at_starts, at_steps,
                at_factor, factor_bytes, at_terms + 8 * TERMS * first, at_out,
            )  # fmt: skip
            if good:
                _take(
                    good, first, 1, tile, 0, tile_rows, allowed, out, k, terms, scores, rows, count, limit, ranks, scratch,
                )  # fmt: skip
    for q in range(full, queries.shape[0]):
        scan_one(
            tiles, tile_rows, factors, 0, tiles.shape[0], starts, steps, allowed, queries, q, terms, k, scores, rows,
            count, limit, ranks, scratch, out,
        )  # fmt: skip


@compiled
def scan_one(
    tiles: Any, tile_rows: Any, factors: Any, first: int, last: int, starts: Any, steps: Any, allowed: Any, queries: Any,
    q: int, terms: Any, k: int, scores: Any, rows: Any, count: Any, limit: Any, ranks: Any, scratch: Any, out: Any,
) -> None:  # fmt: skip
    """As `scan`, of the tiles from `first` to `last` for query `q` alone."""
    tile_bytes = tiles.shape[1] * 8 * LANES
    factor_bytes = 8 * LANES if factors.shape[0] > 1 else 0
    at_tiles, at_query = tiles.ctypes.data, queries.ctypes.data + q * queries.shape[1] * 8
    at_factors, at_terms, at_out = factors.ctypes.data, terms.ctypes.data + 8 * TERMS * q, out.ctypes.data
    groups, tile = starts.shape[0] - 1, first
    while tile < last:
        at_tile, at_factor = at_tiles + tile * tile_bytes, at_factors + tile * factor_bytes
        if tile + TILES <= last:
            taken = TILES
            good = _four_tiles(
                at_tile, tile_bytes, at_query, 0, groups, starts.ctypes.data, steps.ctypes.data, at_factor, factor_bytes,
                at_terms, at_out,
            )  # fmt: skip
        else:
            taken = 1
            good = _one(
                at_tile, tile_bytes, at_query, 0, groups, starts.ctypes.data, steps.ctypes.data, at_factor, factor_bytes,
                at_terms, at_out,
            )  # fmt: skip
        if good:
            _take(
                good, q, 0, tile, 1, tile_rows, allowed, out, k, terms, scores, rows, count, limit, ranks, scratch,
            )  # fmt: skip
        tile += taken


@compiled
def scan_lists(
    tiles: Any, tile_rows: Any, factors: Any, list_tiles: Any, probed: Any, starts: Any, steps: Any, allowed: Any,
    queries: Any, terms: Any, k: int, scores: Any, rows: Any, count: Any, limit: Any, ranks: Any, scratch: Any, out: Any,
) -> None:  # fmt: skip
    """As `scan`, of the inverted lists `probed` int64 (b, p) of each query; list i has the tiles from `list_tiles[i]` on."""
    for q in range(queries.shape[0]):
        for i in range(probed.shape[1]):
            number = probed[q, i]
            if number >= 0:
                scan_one(
                    tiles, tile_rows, factors, list_tiles[number], list_tiles[number + 1], starts, steps, allowed, queries,
                    q, terms, k, scores, rows, count, limit, ranks, scratch, out,
                )  # fmt: skip


@compiled
def self_products(tiles: Any, starts: Any, steps: Any, most: int, products: Any) -> None:
    """The inner product of each document with itself, times 4^u, into `products` float64 (t, LANES)."""
    words = np.empty((LANES, tiles.shape[1]), np.uint64)
    factors, out = np.ones((1, LANES)), np.empty((1, LANES))
    terms = np.empty((1, TERMS))
    terms[0, 0], terms[0, 1] = most, np.inf
    for tile in range(tiles.shape[0]):
        for lane in range(LANES):
            for word in range(tiles.shape[1]):
                words[lane, word] = tiles[tile, word, lane]
        for lane in range(LANES):
            _one(
                tiles.ctypes.data + tile * tiles.shape[1] * 8 * LANES, 0,
                words.ctypes.data + lane * tiles.shape[1] * 8, 0, starts.shape[0] - 1, starts.ctypes.data,
                steps.ctypes.data, factors.ctypes.data, 0, terms.ctypes.data, out.ctypes.data,
            )  # fmt: skip
            products[tile, lane] = out[0, lane]
