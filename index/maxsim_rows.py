"""Written in LLVM's instructions: rows of stored tokens as they are multiplied, and the best of rows of products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .maxsim_tile import BYTE, FLOAT, INT, LONG, at, function, intrinsic, number, spread

#: Columns that are compared at once.
GROUP = 16

#: A query of whole numbers has two parts: this times the first, and the second.
FINER = 254

_SHORT, _HALF = ir.IntType(16), ir.HalfType()


def _vector(kind: Any, like: Any) -> Any:
    return ir.VectorType(kind, like.type.count)


def _same(builder: Any, value: Any) -> Any:
    return value


def _unsigned(builder: Any, value: Any) -> Any:
    """-128 to 127 as 0 to 255."""
    return builder.xor(value, ir.Constant(value.type, [128] * value.type.count))


def _of_bfloat16(builder: Any, value: Any) -> Any:
    wide = _vector(INT, value)
    return builder.shl(builder.zext(value, wide), ir.Constant(wide, [16] * wide.count))


def _of_float16(builder: Any, value: Any) -> Any:
    return builder.fpext(builder.bitcast(value, _vector(_HALF, value)), _vector(FLOAT, value))


def _of_int8(builder: Any, value: Any) -> Any:
    return builder.sitofp(value, _vector(FLOAT, value))


def _two_bfloat16(builder: Any, value: Any) -> Any:
    """A float16 as the sum of two bfloat16, which follow each other: the rest, and the upper 8 of 11 significant bits."""
    wide = _vector(INT, value)
    whole = _of_float16(builder, value)
    upper = builder.and_(builder.bitcast(whole, wide), ir.Constant(wide, [0xFFFF0000] * wide.count))
    rest = builder.bitcast(builder.fsub(whole, builder.bitcast(upper, whole.type)), wide)
    return builder.or_(upper, builder.lshr(rest, ir.Constant(wide, [16] * wide.count)))


def _converted(kind: Any, at_once: int, convert: Callable[[Any, Any], Any]) -> Any:
    """The intrinsic (source, source_bytes, rows, count, target, target_bytes): write `count` numbers of each row at the
    address `source` to `target`, of rows that lie so many bytes apart.

    `convert` makes 64 bytes of `at_once` of them, as AMX reads them: it waits where it has to put pieces together.
    """

    @intrinsic
    def staged(_: Any, source: Any, source_bytes: Any, rows: Any, count: Any, target: Any, target_bytes: Any) -> Any:
        def generate(context: Any, builder: Any, __: Any, arguments: Any) -> Any:
            source, source_bytes, rows, count, target, target_bytes = arguments
            pieces, done = [], number(0)
            for lanes in (at_once, 8, 1):
                times = builder.udiv(builder.sub(count, done), number(lanes))
                pieces.append((lanes, done, times))
                done = builder.add(done, builder.mul(times, number(lanes)))
            with cgutils.for_range(builder, rows) as row:
                own = builder.add(source, builder.mul(row.index, source_bytes))
                to = builder.add(target, builder.mul(row.index, target_bytes))
                for lanes, first, times in pieces:
                    vector = ir.VectorType(kind, lanes)
                    with cgutils.for_range(builder, times) as piece:
                        start = builder.add(first, builder.mul(piece.index, number(lanes)))
                        place = at(builder, own, builder.mul(start, number(kind.width // 8)), vector)
                        made = convert(builder, builder.load(place, align=1))
                        place = at(builder, to, builder.mul(start, number(64 // at_once)), made.type)
                        builder.store(made, place, align=1)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), generate

    return staged


copied_bytes = _converted(BYTE, 64, _same)
copied_words = _converted(_SHORT, 32, _same)
unsigned_bytes = _converted(BYTE, 64, _unsigned)
float_of_bfloat16 = _converted(_SHORT, 16, _of_bfloat16)
float_of_float16 = _converted(_SHORT, 16, _of_float16)
float_of_int8 = _converted(BYTE, 16, _of_int8)
two_of_float16 = _converted(_SHORT, 16, _two_bfloat16)


# ---- the best of rows -------------------------------------------------------------------------------------------------


def _columns(builder: Any, row: Any, kind: Any, group: int) -> Any:
    vector = ir.VectorType(kind, GROUP)
    return builder.load(at(builder, row, number(4 * GROUP * group), vector), align=4)


def _plain(builder: Any, row: Any, scale: Any) -> list[Any]:
    return [_columns(builder, row, FLOAT, group) for group in range(2)]


def _scaled(builder: Any, row: Any, scale: Any) -> list[Any]:
    return [builder.fmul(value, scale) for value in _plain(builder, row, scale)]


def _of_parts(builder: Any, row: Any, scale: Any) -> list[Any]:
    """`FINER` times the first 16 whole numbers and the second 16."""
    kind = scale.type
    first, second = (builder.sitofp(_columns(builder, row, INT, group), kind) for group in range(2))
    fma = function(builder, f"llvm.fma.v{GROUP}f32", kind, [kind] * 3)
    return [builder.fmul(builder.call(fma, [first, ir.Constant(kind, [float(FINER)] * GROUP), second]), scale)]


def _best(values: Callable[[Any, Any, Any], list[Any]], scaled: bool) -> Any:
    """The intrinsic (products, pitch, rows, scales, out): raise the numbers at `out` to the greatest of `rows` >= 1 rows.

    `values` makes columns of the 32 numbers of a row, which lie `pitch` bytes apart, and of its scale.
    """

    @intrinsic
    def best(_: Any, products: Any, pitch: Any, rows: Any, scales: Any, out: Any) -> Any:
        def generate(context: Any, builder: Any, __: Any, arguments: Any) -> Any:
            products, pitch, rows, scales, out = arguments

            def row(i: Any) -> list[Any]:
                scale = None
                if scaled:
                    own = builder.load(at(builder, scales, builder.mul(i, number(4)), FLOAT), align=4)
                    scale = spread(builder, own, GROUP)
                return values(builder, builder.add(products, builder.mul(i, pitch)), scale)

            first = row(number(0))
            odd = builder.and_(rows, number(1))  # two rows at once, so that none waits for the one before
            before = builder.block
            head, body, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
            builder.branch(head)
            builder.position_at_end(head)
            i = builder.phi(LONG)
            tops = [[builder.phi(value.type) for value in first] for _ in range(2)]
            builder.cbranch(builder.icmp_signed("<", i, rows), body, after)
            builder.position_at_end(body)
            new = [
                [_greater(builder, *pair) for pair in zip(row(builder.add(i, number(step))), own, strict=True)]
                for step, own in enumerate(tops)
            ]
            i.add_incoming(odd, before)
            i.add_incoming(builder.add(i, number(2)), body)
            for own, values_now in zip(tops, new, strict=True):
                for top, at_first, now in zip(own, first, values_now, strict=True):
                    top.add_incoming(at_first, before)
                    top.add_incoming(now, body)
            builder.branch(head)
            builder.position_at_end(after)
            for group, pair in enumerate(zip(*tops, strict=True)):
                top = _greater(builder, *pair)
                place = at(builder, out, number(4 * GROUP * group), top.type)
                builder.store(_greater(builder, top, builder.load(place, align=4)), place, align=4)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 5), generate

    return best


def _greater(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", one, other), one, other)


best_of_rows = _best(_plain, scaled=False)
best_of_scaled_rows = _best(_scaled, scaled=True)
best_of_parts = _best(_of_parts, scaled=True)
