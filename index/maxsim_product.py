"""The product of many rows with few columns, float32: document tokens with the tokens of a query.

MKL and OpenBLAS pack both sides before they multiply, which costs as much as the work itself where one side has 32
columns. Here the products of a tile of rows stay in registers while rows and columns pass by, and rows of a later tile are
fetched meanwhile: nothing is packed, and memory is read as fast as it can be. The tile is written in LLVM's instructions,
as no loop makes a compiler keep it in registers.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import extending, types
from numba.core import cgutils

from .compiling import compiled

intrinsic: Any = extending.intrinsic


@cache
def _tile_shape() -> tuple[int, int]:
    """Rows of a tile and numbers of a register; no rows where the CPU lacks what it takes."""
    features = binding.get_host_cpu_features()
    if vars(numba.config)["DISABLE_JIT"] or not features.get("fma"):
        return 0, 8
    return (12, 16) if features.get("avx512f") else (6, 8)


ROWS, LANES = _tile_shape()

#: Columns of a tile: two registers.
COLUMNS = 2 * LANES

#: Tiles between the one that is multiplied and the one whose rows are fetched.
_AHEAD = 2

#: Up to so many columns this is faster than MKL, whose rows then come from a cache.
WIDEST = 64

_FLOAT, _LONG = ir.FloatType(), ir.IntType(64)


@intrinsic
def _tile(context: Any, tokens: Any, factors: Any, dim: Any, token_bytes: Any, factor_bytes: Any, out: Any) -> Any:
    """Write the products of `ROWS` rows at the address `tokens` with `COLUMNS` columns at `factors` to `out`.

    Rows lie `token_bytes` apart; those of `factors` (dim, columns) and of the result `factor_bytes`.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        tokens, factors, dim, token_bytes, factor_bytes, out = arguments
        vector = ir.VectorType(_FLOAT, LANES)
        fma = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{LANES}f32"
        )
        pointer = ir.IntType(8).as_pointer()
        prefetch = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [pointer] + [ir.IntType(32)] * 3), "llvm.prefetch.p0"
        )
        coming = builder.add(tokens, builder.mul(token_bytes, ir.Constant(_LONG, _AHEAD * ROWS)))
        zero, nothing = ir.Constant(vector, None), ir.Constant(vector, ir.Undefined)
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)

        def at(base: Any, offset: Any, kind: Any) -> Any:
            return builder.inttoptr(builder.add(base, offset), kind.as_pointer())

        def number(value: int) -> Any:
            return ir.Constant(_LONG, value)

        rows = [builder.add(tokens, builder.mul(token_bytes, number(row))) for row in range(ROWS)]
        before, loop, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(_LONG)
        sums = [[builder.phi(vector) for _ in range(2)] for _ in range(ROWS)]
        column = builder.add(factors, builder.mul(step, factor_bytes))
        columns = [builder.load(at(column, number(4 * LANES * half), vector), align=4) for half in range(2)]
        offset = builder.mul(step, number(4))
        ahead = builder.add(coming, builder.mul(step, number(4 * ROWS)))
        flags = [ir.Constant(ir.IntType(32), flag) for flag in (0, 3, 1)]  # to be read, into the first cache, of data
        builder.call(prefetch, [builder.inttoptr(ahead, pointer), *flags])
        added = []
        for row, own in zip(rows, sums, strict=True):
            value = builder.load(at(row, offset, _FLOAT), align=4)
            first = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
            spread = builder.shuffle_vector(first, nothing, everywhere)
            added.append([builder.call(fma, [spread, columns[half], own[half]]) for half in range(2)])
        following = builder.add(step, number(1))
        builder.cbranch(builder.icmp_signed("<", following, dim), loop, after)
        step.add_incoming(number(0), before)
        step.add_incoming(following, loop)
        for own, new in zip(sums, added, strict=True):
            for half in range(2):
                own[half].add_incoming(zero, before)
                own[half].add_incoming(new[half], loop)
        builder.position_at_end(after)
        for row, new in enumerate(added):
            target = builder.add(out, builder.mul(factor_bytes, number(row)))
            for half in range(2):
                builder.store(new[half], at(target, number(4 * LANES * half), vector), align=4)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 6), generate


@compiled
def _products(tokens: int, rows: int, token_bytes: int, factors: int, dim: int, width: int, out: int) -> None:
    for column in range(0, width, COLUMNS):
        for row in range(0, rows, ROWS):
            first = min(row, rows - ROWS)  # the last tile goes over some rows again
            _tile(
                tokens + first * token_bytes,
                factors + 4 * column,
                dim,
                token_bytes,
                4 * width,
                out + 4 * (first * width + column),
            )


def padded(factors: np.ndarray) -> np.ndarray:
    """`factors` (d, t) with columns of zeros, up to a multiple of `COLUMNS`, where that makes `narrow_product` possible."""
    missing = -factors.shape[1] % COLUMNS
    if not ROWS or factors.shape[1] > WIDEST:
        return np.ascontiguousarray(factors)
    return np.ascontiguousarray(np.pad(factors, ((0, 0), (0, missing))))


def suits(rows: np.ndarray, factors: np.ndarray) -> bool:
    """Whether `narrow_product` can multiply the two, and is faster."""
    width = factors.shape[1]
    return (
        0 < ROWS <= len(rows)
        and 0 < width <= WIDEST
        and width % COLUMNS == 0
        and len(factors) > 0
        and rows.dtype == factors.dtype == np.float32
        and rows.strides[1] == 4
        and factors.flags.c_contiguous
    )


def narrow_product(rows: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """`rows` (T, d) float32 times `factors` (d, t) float32, contiguous, t a multiple of `COLUMNS`: (T, t) float32."""
    out = np.empty((len(rows), factors.shape[1]), np.float32)
    _products(
        rows.ctypes.data,
        len(rows),
        rows.strides[0],
        factors.ctypes.data,
        len(factors),
        factors.shape[1],
        out.ctypes.data,
    )
    return out
