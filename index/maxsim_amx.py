"""Products by Intel's AMX: tiles of 16 rows of 64 bytes, float32 or int32 sums, at eight times the rate of other instructions.

A tile of tokens is read where it lies, if that is at a multiple of 64 bytes: a row that spans two cache lines takes twice
the time, or more. Linux hands the tiles' registers to a process that asks for them
(Documentation/arch/x86/xstate.rst); where it says no, AMX is not used.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from .maxsim_tile import BYTE, LONG, POINTER, features, fetch, function, intrinsic, number

#: Rows of tokens and columns of factors that are multiplied at once: two tiles of either.
AMX_ROWS, AMX_COLUMNS = 32, 32

#: Bytes of a row of a tile, and of a tile.
STEP_BYTES, TILE_BYTES = 64, 1024

#: Whether the CPU has AMX for bfloat16 and int8, and numba compiles for it.
AMX = features() >= {"amx-tile", "amx-bf16", "amx-int8"} and sys.platform == "linux"

_SYSCALL, _GET_PERMISSION, _ASK_PERMISSION, _TILE_DATA = 158, 0x1022, 0x1023, 18


@cache
def amx_allowed() -> bool:
    """Whether this process may use AMX: asks the kernel once. What it grants holds for all threads, and after a fork."""
    if not AMX or platform.machine() != "x86_64":
        return False
    kernel = ctypes.CDLL(None, use_errno=True).syscall
    kernel.restype = ctypes.c_long
    granted = ctypes.c_ulong(0)
    asked = kernel(ctypes.c_long(_SYSCALL), ctypes.c_long(_ASK_PERMISSION), ctypes.c_long(_TILE_DATA))
    told = kernel(ctypes.c_long(_SYSCALL), ctypes.c_long(_GET_PERMISSION), ctypes.byref(granted))
    return bool(asked == 0 and told == 0 and granted.value >> _TILE_DATA & 1)


def tile_shapes() -> np.ndarray:
    """What `ldtilecfg` reads: eight tiles of 16 rows of 64 bytes (palette 1)."""
    shapes = np.zeros(64, np.uint8)
    shapes[0] = 1
    shapes[16:32:2] = STEP_BYTES
    shapes[48:56] = 16
    return shapes


@intrinsic
def begin_amx(_: Any, shapes: Any) -> Any:
    """Set the tiles' shapes to those at the address `shapes`; `end_amx` has to follow in the same function."""

    def generate(context: Any, builder: Any, __: Any, arguments: Any) -> Any:
        if AMX:
            load = function(builder, "llvm.x86.ldtilecfg", ir.VoidType(), [POINTER])
            builder.call(load, [builder.inttoptr(arguments[0], POINTER)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def end_amx(_: Any) -> Any:
    """Give the tiles back: a thread that holds some is slower to switch."""

    def generate(context: Any, builder: Any, __: Any, ___: Any) -> Any:
        if AMX:
            builder.call(function(builder, "llvm.x86.tilerelease", ir.VoidType(), []), [])
        return context.get_dummy_value()

    return types.void(), generate


def _amx_tile(multiply: str) -> Any:
    """The intrinsic (tokens, token_bytes, factors, steps, parts, coming, lines, out, out_bytes) by `multiply`.

    It writes the products of `AMX_ROWS` rows at the address `tokens` with `AMX_COLUMNS` columns to `out`, rows `out_bytes`
    apart. `factors` has two tiles, 16 columns each, for each of `parts` that are added, for each step of 64 bytes of a row.
    For each part of a step `lines` cache lines are fetched, from the address `coming` on.
    """

    @intrinsic
    def tile(
        _: Any, tokens: Any, token_bytes: Any, factors: Any, steps: Any, parts: Any, coming: Any, lines: Any, out: Any,
        pitch: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, __: Any, arguments: Any) -> Any:
            if AMX:
                _write_tile(builder, multiply, *arguments)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), generate

    return tile


def _write_tile(
    builder: Any, multiply: str, tokens: Any, token_bytes: Any, factors: Any, steps: Any, parts: Any, coming: Any,
    lines: Any, out: Any, pitch: Any,
) -> None:  # fmt: skip
    """Tiles 0 to 3 are sums, 4 and 5 tokens, 6 and 7 factors."""
    nothing, moved = ir.VoidType(), [BYTE, POINTER, LONG]
    load = function(builder, "llvm.x86.tileloadd64", nothing, moved)
    store = function(builder, "llvm.x86.tilestored64", nothing, moved)
    zero = function(builder, "llvm.x86.tilezero", nothing, [BYTE])
    products = function(builder, f"llvm.x86.{multiply}", nothing, [BYTE] * 3)

    def tile(register: int) -> Any:
        return ir.Constant(BYTE, register)

    def move(how: Any, register: int, address: Any, stride: Any) -> None:
        builder.call(how, [tile(register), builder.inttoptr(address, POINTER), stride])

    for register in range(4):
        builder.call(zero, [tile(register)])
    lower = builder.add(tokens, builder.mul(token_bytes, number(16)))
    both = builder.mul(parts, number(2 * TILE_BYTES))
    with cgutils.for_range(builder, steps) as step:
        offset = builder.mul(step.index, number(STEP_BYTES))
        move(load, 4, builder.add(tokens, offset), token_bytes)
        move(load, 5, builder.add(lower, offset), token_bytes)
        own = builder.add(factors, builder.mul(step.index, both))
        with cgutils.for_range(builder, parts) as part:
            turn = builder.add(builder.mul(step.index, parts), part.index)
            ahead = builder.add(coming, builder.mul(builder.mul(turn, lines), number(STEP_BYTES)))
            with cgutils.for_range(builder, lines) as line:
                fetch(builder, builder.add(ahead, builder.mul(line.index, number(STEP_BYTES))))
            first = builder.add(own, builder.mul(part.index, number(2 * TILE_BYTES)))
            move(load, 6, first, number(STEP_BYTES))
            move(load, 7, builder.add(first, number(TILE_BYTES)), number(STEP_BYTES))
            for register, (left, right) in enumerate([(4, 6), (4, 7), (5, 6), (5, 7)]):
                builder.call(products, [tile(register), tile(left), tile(right)])
    for register in range(4):
        target = builder.add(out, builder.mul(pitch, number(16 * (register // 2))))
        move(store, register, builder.add(target, number(STEP_BYTES * (register % 2))), pitch)


amx_bfloat16_tile = _amx_tile("tdpbf16ps")
amx_int8_tile = _amx_tile("tdpbssd")
