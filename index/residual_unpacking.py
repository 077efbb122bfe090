"""Written in LLVM's instructions: sixteen dimensions of a packed residual at a time.

What numba's compiler makes of such loops checks at every step whether arrays overlap, and takes four times as long.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from .maxsim_tile import FLOAT, INT, LONG, at, intrinsic, number, spread

#: Dimensions that are unpacked at a time.
LANES = 16

_VECTOR = ir.VectorType(FLOAT, LANES)


def unpacking(bits: int) -> Any:
    """The intrinsic (centroid, packed, groups, weights, out, sums) for residuals of `bits` 1 or 2; all but one are addresses.

    It adds weights to `groups` · 16 numbers of a centroid as the packed buckets say, writes them to `out` and to `sums` 16
    sums of their squares. `packed` is as residual_codec.py says: a bucket's lowest bit lies highest.
    """

    @intrinsic
    def unpack(_: Any, centroid: Any, packed: Any, groups: Any, weights: Any, out: Any, sums: Any) -> Any:
        def generate(context: Any, builder: Any, __: Any, arguments: Any) -> Any:
            _write(builder, bits, *arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), generate

    return unpack


def _lanes(values: Any) -> Any:
    return ir.Constant(ir.VectorType(INT, LANES), list(values))


def _write(builder: Any, bits: int, centroid: Any, packed: Any, groups: Any, weights: Any, out: Any, sums: Any) -> None:
    each = 8 // bits
    shifts = _lanes(8 * (i // each) + 8 - bits - bits * (i % each) for i in range(LANES))
    buckets = [int(f"{found:0{bits}b}"[::-1], 2) for found in range(1 << bits)]
    table = [
        spread(builder, builder.load(at(builder, weights, number(4 * bucket), FLOAT), align=4), LANES)
        for bucket in buckets
    ]
    before, loop, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
    builder.branch(loop)
    builder.position_at_end(loop)
    step, total = builder.phi(LONG), builder.phi(_VECTOR)
    kind = ir.IntType(LANES * bits)
    word = builder.load(at(builder, packed, builder.mul(step, number(LANES * bits // 8)), kind), align=1)
    word = spread(builder, word if kind == INT else builder.zext(word, INT), LANES)
    fields = builder.and_(builder.lshr(word, shifts), _lanes([len(table) - 1] * LANES))
    chosen = table[0]
    for found in range(1, len(table)):
        chosen = builder.select(builder.icmp_unsigned("==", fields, _lanes([found] * LANES)), table[found], chosen)
    offset = builder.mul(step, number(4 * LANES))
    value = builder.fadd(builder.load(at(builder, centroid, offset, _VECTOR), align=4), chosen)
    builder.store(value, at(builder, out, offset, _VECTOR), align=4)
    added = builder.fadd(total, builder.fmul(value, value))
    following = builder.add(step, number(1))
    builder.cbranch(builder.icmp_signed("<", following, groups), loop, after)
    step.add_incoming(number(0), before)
    step.add_incoming(following, loop)
    total.add_incoming(ir.Constant(_VECTOR, None), before)
    total.add_incoming(added, loop)
    builder.position_at_end(after)
    builder.store(added, at(builder, sums, number(0), _VECTOR), align=4)


unpack_1, unpack_2 = unpacking(1), unpacking(2)
