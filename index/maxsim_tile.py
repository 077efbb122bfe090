"""Written in LLVM's instructions: tiles of products that stay in registers, and the best of rows.

No loop makes a compiler keep a tile in registers. A tile multiplies some rows of tokens with two registers of columns;
each step takes 4 bytes of a row: one float32, or four whole numbers.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
from llvmlite import binding, ir
from numba import extending, types
from numba.core import cgutils

intrinsic: Any = extending.intrinsic

FLOAT, BYTE, INT, LONG = ir.FloatType(), ir.IntType(8), ir.IntType(32), ir.IntType(64)
POINTER = BYTE.as_pointer()


@cache
def features() -> frozenset[str]:
    """What this CPU can do and numba compiles for; nothing where it compiles for another CPU, or not at all."""
    chosen = vars(numba.config)
    if chosen["DISABLE_JIT"] or chosen["CPU_NAME"] or chosen["CPU_FEATURES"] is not None:
        return frozenset()
    return frozenset(name for name, there in binding.get_host_cpu_features().items() if there)


def _shape() -> tuple[int, int]:
    """Rows of a tile and numbers of a register; no rows where the CPU lacks what it takes."""
    if not features() >= {"fma", "f16c"}:
        return 0, 8
    return (12, 16) if "avx512f" in features() else (6, 8)


ROWS, LANES = _shape()

#: Columns of a tile: two registers.
COLUMNS = 2 * LANES

#: Whether four whole numbers of 8 bits are multiplied and added at once. (`vdpbf16ps` does two of bfloat16 where this
#: does one of float32, or at the same rate; for a query of two parts that is nothing won.)
FOURS = ROWS > 0 and (features() >= {"avx512vnni", "avx512vl"} or "avxvnni" in features())


def function(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)


def number(value: int) -> Any:
    return ir.Constant(LONG, value)


def at(builder: Any, base: Any, offset: Any, kind: Any) -> Any:
    return builder.inttoptr(builder.add(base, offset), kind.as_pointer())


def fetch(builder: Any, address: Any) -> None:
    """Ask for the cache line at `address`, to be read, into the first cache; what is not there is not asked for."""
    flags = [ir.Constant(INT, flag) for flag in (0, 3, 1)]
    ask = function(builder, "llvm.prefetch.p0", ir.VoidType(), [POINTER] + [INT] * 3)
    builder.call(ask, [builder.inttoptr(address, POINTER), *flags])


def spread(builder: Any, value: Any, lanes: int) -> Any:
    """`value` in all lanes of a register."""
    nothing = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(INT, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(INT, lanes), [0] * lanes))


def _float32(builder: Any, total: Any, token: Any, column: Any) -> Any:
    kind = total.type
    fma = function(builder, f"llvm.fma.v{LANES}f32", kind, [kind] * 3)
    return builder.call(fma, [builder.bitcast(token, kind), builder.bitcast(column, kind), total])


def _int8(builder: Any, total: Any, token: Any, column: Any) -> Any:
    """Tokens are 0 to 255, columns -128 to 127. LLVM's operands are bytes from version 22 on, and were words before."""
    kind = total.type
    operand = ir.VectorType(BYTE, 4 * LANES) if binding.llvm_version_info[0] >= 22 else kind
    fours = function(builder, f"llvm.x86.avx512.vpdpbusd.{32 * LANES}", kind, [kind, operand, operand])
    return builder.call(fours, [total, builder.bitcast(token, operand), builder.bitcast(column, operand)])


def register_tile(add: Any, total: Any, there: bool) -> Any:
    """The intrinsic (tokens, token_bytes, factors, steps, factor_bytes, start, coming, stride, out) by `add`, with sums of
    type `total`.

    It writes the products of `ROWS` rows at the address `tokens`, `token_bytes` apart, with `COLUMNS` columns at
    `factors` (steps, columns of 4 bytes) to `out`, whose rows lie `factor_bytes` apart as those of `factors` do; sums begin
    with the numbers at `start`. Each step fetches what lies `stride` bytes further from `coming` on. Nothing is done
    unless `there`.
    """

    @intrinsic
    def tile(
        _: Any, tokens: Any, token_bytes: Any, factors: Any, steps: Any, pitch: Any, start: Any, coming: Any, stride: Any,
        out: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, __: Any, arguments: Any) -> Any:
            if there:
                _write_tile(builder, add, ir.VectorType(total, LANES), *arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), generate

    return tile


def _write_tile(
    builder: Any, add: Any, vector: Any, tokens: Any, token_bytes: Any, factors: Any, steps: Any, pitch: Any, start: Any,
    coming: Any, stride: Any, out: Any,
) -> None:  # fmt: skip
    rows = [builder.add(tokens, builder.mul(token_bytes, number(row))) for row in range(ROWS)]
    begin = [builder.load(at(builder, start, number(4 * LANES * half), vector), align=4) for half in range(2)]
    before, loop, after = builder.block, builder.append_basic_block("loop"), builder.append_basic_block("after")
    builder.branch(loop)
    builder.position_at_end(loop)
    step = builder.phi(LONG)
    sums = [[builder.phi(vector) for _ in range(2)] for _ in range(ROWS)]
    column = builder.add(factors, builder.mul(step, pitch))
    columns = [builder.load(at(builder, column, number(4 * LANES * half), vector), align=4) for half in range(2)]
    offset = builder.mul(step, number(4))
    fetch(builder, builder.add(coming, builder.mul(step, stride)))
    added = []
    for row, own in zip(rows, sums, strict=True):
        token = spread(builder, builder.load(at(builder, row, offset, INT), align=1), LANES)
        added.append([add(builder, own[half], token, columns[half]) for half in range(2)])
    following = builder.add(step, number(1))
    builder.cbranch(builder.icmp_signed("<", following, steps), loop, after)
    step.add_incoming(number(0), before)
    step.add_incoming(following, loop)
    for own, new in zip(sums, added, strict=True):
        for half in range(2):
            own[half].add_incoming(begin[half], before)
            own[half].add_incoming(new[half], loop)
    builder.position_at_end(after)
    for row, new in enumerate(added):
        target = builder.add(out, builder.mul(pitch, number(row)))
        for half in range(2):
            builder.store(new[half], at(builder, target, number(4 * LANES * half), vector), align=4)


float32_tile = register_tile(_float32, FLOAT, ROWS > 0)
int8_tile = register_tile(_int8, INT, FOURS)
