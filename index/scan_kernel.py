"""Compiled loops of the low-precision scan (`scan.py`): 8-bit inner products, selection, exact sums.

Numba compiles them at first use and keeps the machine code beside this file, or in the user's cache folder. The inner
products are written in LLVM's own instructions, because no loop makes a compiler choose `vpmaddubsw`, which multiplies 32
pairs of bytes and adds neighbours, at twice the rate of float32, or AVX-512's `vpdpbusd`, which does more. `codes.py`
describes the layout and the bounds.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import extending, types

from .exact import SUM_LANES

#: Rows of one tile of codes: the 32-bit lanes of a register.
LANES = 8

#: Queries that one pass over a tile serves; their accumulators stay in registers.
QUERIES = 4

#: Steps of 4 dimensions whose products are added in 16 bits before they are widened.
STEPS = 4

#: Codes of rows are whole numbers up to this. Fewer levels leave the 16-bit sums room for more levels of the query; of
#: normally distributed numbers, at 80 both residuals are about equal and their sum least.
LEVELS = 80

#: The code 0 of four dimensions.
_NOTHING = LEVELS * 0x01010101

#: What the bound of a query needs: shift (int32), factor, error per residual, error per norm, and the threshold.
TERMS = 5

intrinsic: Any = extending.intrinsic

_BYTE, _SHORT, _INT, _LONG = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_FLOAT, _DOUBLE, _HALF = ir.FloatType(), ir.DoubleType(), ir.HalfType()


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """`numba.njit` that releases the GIL and caches its machine code where some folder can be written."""
    try:
        return numba.njit(nogil=True, cache=True, **options)(function)
    except RuntimeError:  # no such folder
        return numba.njit(nogil=True, **options)(function)


def _constant(value: int) -> ir.Constant:
    return ir.Constant(_LONG, value)


def _load(builder: ir.IRBuilder, address: Any, kind: ir.Type, align: int) -> Any:
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = align
    return value


def _spread(builder: ir.IRBuilder, value: Any, lanes: int) -> Any:
    """`value` in all lanes of a register."""
    kind = ir.VectorType(value.type, lanes)
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT, lanes), [0] * lanes))


def _has_vnni() -> bool:
    """Whether this CPU multiplies four pairs of bytes and adds them to 32 bits in one instruction, and is compiled for."""
    features = llvmlite.binding.get_host_cpu_features()
    chosen = vars(numba.config)  # by the environment: NUMBA_CPU_NAME, NUMBA_CPU_FEATURES
    for_another = chosen["CPU_NAME"] or chosen["CPU_FEATURES"] is not None
    return bool(features.get("avx512vnni") and features.get("avx512vl") and not for_another)


def _declare_vnni(module: ir.Module, ints: ir.Type, bytes_: ir.Type) -> ir.Function:
    """LLVM's name of `vpdpbusd`, whose operands are bytes from LLVM 22 on and were 32-bit words before."""
    operand = bytes_ if llvmlite.binding.llvm_version_info[0] >= 22 else ints
    kind = ir.FunctionType(ints, [ints, operand, operand])
    return module.declare_intrinsic("llvm.x86.avx512.vpdpbusd.256", (), kind)


@intrinsic
def _products(typing: Any, tile: Any, queries: Any, stride: Any, groups: Any, rows: Any, terms: Any, out: Any) -> Any:
    """Bit 8·j + i is set where row i of a tile may be good enough for query j; the upper bounds go to `out`.

    All arguments are addresses, but `stride` (bytes from one query's codes to the next) and `groups` (of STEPS steps).
    `rows` is the tile's float32 (4, LANES), `terms` the float32 (QUERIES, TERMS) of `codes.query_codes`.
    """
    signature = types.int64(*[types.intp] * 7)

    def generate(_: Any, builder: ir.IRBuilder, __: Any, arguments: Any) -> Any:
        tile, queries, stride, groups, rows, terms, out = arguments
        bytes_, shorts = ir.VectorType(_BYTE, 32), ir.VectorType(_SHORT, 16)
        ints, floats = ir.VectorType(_INT, LANES), ir.VectorType(_FLOAT, LANES)
        module = builder.module
        multiply = module.declare_intrinsic("llvm.x86.avx2.pmadd.ub.sw", (), ir.FunctionType(shorts, [bytes_, bytes_]))
        widen = module.declare_intrinsic("llvm.x86.avx2.pmadd.wd", (), ir.FunctionType(ints, [shorts, shorts]))
        ones = ir.Constant(shorts, [1] * 16)

        vnni = _has_vnni()
        four_at_once = _declare_vnni(module, ints, bytes_) if vnni else None

        before = builder.block
        loop, after = builder.append_basic_block("steps"), builder.append_basic_block("bounds")
        builder.branch(loop)
        builder.position_at_end(loop)
        group = builder.phi(_LONG)
        group.add_incoming(_constant(0), before)
        # VNNI's sums take their time: one a step, so that none waits for the one before.
        chains = STEPS if vnni else 1
        sums = [[builder.phi(ints) for _ in range(chains)] for _ in range(QUERIES)]
        for total in itertools.chain(*sums):
            total.add_incoming(ir.Constant(ints, [0] * LANES), before)
        row_address = builder.add(tile, builder.mul(group, _constant(32 * STEPS)))
        step_address = builder.add(queries, builder.mul(group, _constant(4 * STEPS)))
        addresses = [builder.add(step_address, builder.mul(stride, _constant(j))) for j in range(QUERIES)]
        partial: list[Any] = [None] * QUERIES
        new: list[list[Any]] = [[None] * chains for _ in range(QUERIES)]
        for step in range(STEPS):
            documents = _load(builder, builder.add(row_address, _constant(32 * step)), bytes_, 1)
            if four_at_once is not None:
                documents = builder.bitcast(documents, four_at_once.function_type.args[1])
            for j in range(QUERIES):
                four = _spread(builder, _load(builder, builder.add(addresses[j], _constant(4 * step)), _INT, 4), LANES)
                if four_at_once is not None:
                    new[j][step] = builder.call(
                        four_at_once, [sums[j][step], documents, builder.bitcast(four, documents.type)]
                    )
                    continue
                product = builder.call(multiply, [documents, builder.bitcast(four, bytes_)])
                partial[j] = product if partial[j] is None else builder.add(partial[j], product)
        if not vnni:
            new = [[builder.add(sums[j][0], builder.call(widen, [partial[j], ones]))] for j in range(QUERIES)]
        for total, value in zip(itertools.chain(*sums), itertools.chain(*new), strict=True):
            total.add_incoming(value, loop)
        following = builder.add(group, _constant(1))
        group.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, groups), loop, after)

        builder.position_at_end(after)
        added = [functools.reduce(builder.add, parts) for parts in new]
        scale, residual, norm, offset = (
            _load(builder, builder.add(rows, _constant(4 * LANES * i)), floats, 4) for i in range(4)
        )
        mask: Any = _constant(0)
        for j in range(QUERIES):
            shift, factor, per_residual, per_norm, threshold = (
                _spread(builder, _load(builder, builder.add(terms, _constant(4 * TERMS * j + 4 * i)), kind, 4), LANES)
                for i, kind in enumerate([_INT, _FLOAT, _FLOAT, _FLOAT, _FLOAT])
            )
            product = builder.sitofp(builder.sub(added[j], shift), floats)
            error = builder.fadd(builder.fmul(per_residual, residual), builder.fmul(per_norm, norm))
            upper = builder.fadd(builder.fmul(product, builder.fmul(factor, scale)), builder.fadd(error, offset))
            stored = builder.store(upper, builder.inttoptr(builder.add(out, _constant(32 * j)), floats.as_pointer()))
            stored.align = 4
            good = builder.bitcast(builder.fcmp_ordered(">=", upper, threshold), _BYTE)
            mask = builder.or_(mask, builder.shl(builder.zext(good, _LONG), _constant(LANES * j)))
        return mask

    return signature, generate


@intrinsic
def _lowest_bit(typing: Any, value: Any) -> Any:
    """The number of the lowest bit that is set in an int64."""

    def generate(_: Any, builder: ir.IRBuilder, __: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


@intrinsic
def _prefetch(typing: Any, address: Any, size: Any) -> Any:
    """Ask for `size` bytes from `address` on; size is a multiple of a cache line's 64."""

    def generate(_: Any, builder: ir.IRBuilder, __: Any, arguments: Any) -> Any:
        start, size = arguments
        pointer = _BYTE.as_pointer()
        fetch = builder.module.declare_intrinsic(
            "llvm.prefetch", [pointer], ir.FunctionType(ir.VoidType(), [pointer, _INT, _INT, _INT])
        )
        before = builder.block
        loop, after = builder.append_basic_block("lines"), builder.append_basic_block("fetched")
        builder.branch(loop)
        builder.position_at_end(loop)
        offset = builder.phi(_LONG)
        offset.add_incoming(_constant(0), before)
        read, everywhere, data = (ir.Constant(_INT, number) for number in (0, 3, 1))
        builder.call(fetch, [builder.inttoptr(builder.add(start, offset), pointer), read, everywhere, data])
        following = builder.add(offset, _constant(64))
        offset.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, size), loop, after)
        builder.position_at_end(after)
        return _constant(0)

    return types.int64(types.intp, types.intp), generate


def _lane_sums(storage: ir.Type) -> Any:
    """The intrinsic that sums the terms of the exact score of one stored row: SUM_LANES lanes, then halves."""

    @intrinsic
    def sums(typing: Any, row: Any, query: Any, blocks: Any, squared: Any, out: Any) -> Any:
        signature = types.int64(*[types.intp] * 5)

        def generate(_: Any, builder: ir.IRBuilder, __: Any, arguments: Any) -> Any:
            row, query, blocks, squared, out = arguments
            wide, stored = ir.VectorType(_DOUBLE, SUM_LANES), ir.VectorType(storage, SUM_LANES)
            size = 2 if isinstance(storage, ir.HalfType) else 4
            zero = ir.Constant(wide, [0.0] * SUM_LANES)
            is_squared = builder.icmp_signed("!=", squared, _constant(0))
            before = builder.block
            head, body, after = (builder.append_basic_block(name) for name in ("head", "body", "after"))
            builder.branch(head)
            builder.position_at_end(head)
            block, total = builder.phi(_LONG), builder.phi(wide)
            block.add_incoming(_constant(0), before)
            total.add_incoming(zero, before)
            builder.cbranch(builder.icmp_signed("<", block, blocks), body, after)
            builder.position_at_end(body)
            first = builder.mul(block, _constant(SUM_LANES))
            x = _load(builder, builder.add(row, builder.mul(first, _constant(size))), stored, size)
            y = _load(builder, builder.add(query, builder.mul(first, _constant(8))), wide, 8)
            x = builder.fpext(x, wide)
            difference = builder.fsub(x, y)
            left, right = builder.select(is_squared, difference, x), builder.select(is_squared, difference, y)
            total.add_incoming(builder.fadd(total, builder.fmul(left, right)), body)
            block.add_incoming(builder.add(block, _constant(1)), body)
            builder.branch(head)
            builder.position_at_end(after)
            width = SUM_LANES
            while width > 1:
                width //= 2
                halves = [ir.Constant(ir.VectorType(_INT, width), list(range(a, a + width))) for a in (0, width)]
                left, right = (builder.shuffle_vector(total, total, half) for half in halves)
                total = builder.fadd(left, right)
            summed = builder.extract_element(total, ir.Constant(_INT, 0))
            builder.store(summed, builder.inttoptr(out, _DOUBLE.as_pointer()))
            return _constant(0)

        return signature, generate

    return sums


_float_sums = _lane_sums(_FLOAT)
_half_sums = _lane_sums(_HALF)


# ---- codes ----------------------------------------------------------------------------------------------------------


@partial(compiled, fastmath={"reassoc", "nsz", "nnan"})  # its sums may take any order; the exact ones may not
def encode(vectors: Any, squared: int, codes: Any, bounds: Any, step: Any, words: Any) -> None:
    """Codes and bounds (see `codes.py`) of float32 `vectors` (m, d): uint32 (t, d / 4, LANES) and float32 (t, 4, LANES).

    `step` uint8 (d,) is room for one row, `words` the same memory as uint32 (d / 4,). Only plain loops: each operation on
    a whole array adds up to seconds to the compilation.
    """
    rows, dim = vectors.shape
    slack = np.float32((dim + 8) * 2.0**-24)
    for row in range(codes.shape[0] * LANES):
        tile, lane = row // LANES, row % LANES
        if row >= rows:
            for i in range(dim // 4):
                codes[tile, i, lane] = _NOTHING
            for i in range(3):
                bounds[tile, i, lane] = 0
            bounds[tile, 3, lane] = -np.inf
            continue
        peak = np.float32(0)
        for i in range(dim):
            peak = max(peak, abs(vectors[row, i]))
        if peak < np.float32(1e-30):
            for i in range(dim // 4):
                codes[tile, i, lane] = _NOTHING
            most = np.float32(np.sqrt(dim) * peak * 1.001)
            bounds[tile, 0, lane], bounds[tile, 3, lane] = 0, 0
            bounds[tile, 1, lane], bounds[tile, 2, lane] = most, most
            continue
        scale = peak / np.float32(LEVELS)
        inverse = np.float32(1) / scale
        residual, norm = np.float32(0), np.float32(0)
        for i in range(dim):
            value = vectors[row, i] * inverse
            whole = np.rint(value)
            residual += (value - whole) * (value - whole)
            norm += value * value
            step[i] = np.uint8(np.int32(whole) + LEVELS)
        for i in range(dim // 4):
            codes[tile, i, lane] = words[i]
        length = scale * np.sqrt(norm)
        rest = scale * np.sqrt(residual) * (1 + slack) + length * np.float32(2.0**-21)
        bounds[tile, 0, lane] = scale
        bounds[tile, 1, lane] = rest
        bounds[tile, 2, lane] = length * (1 + slack) + rest
        bounds[tile, 3, lane] = -((length * (1 - 2 * slack)) ** 2) if squared else np.float32(0)


# ---- the scan -------------------------------------------------------------------------------------------------------


@compiled
def kth_largest(values: Any, count: int, k: int) -> float:
    """The k-th largest of the first `count` values, which are left in another order (Hoare's quickselect)."""
    low, high, place = 0, count - 1, k - 1
    while low < high:
        pivot = values[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if place <= j:
            high = j
        elif place >= i:
            low = i
        else:
            break
    return values[place]


@compiled
def _shrink(
    q: int, k: int, terms: Any, rows: Any, upper: Any, lower: Any, count: Any, limit: Any, scratch: Any
) -> None:
    """Raise query q's threshold to its k-th best lower bound and drop what cannot reach it."""
    held, room = count[q], rows.shape[1]
    if held >= k:
        for i in range(held):
            scratch[i] = lower[q, i]
        terms[q, 4] = max(terms[q, 4], kth_largest(scratch, held, k))
    threshold = terms[q, 4]
    kept = 0
    for i in range(held):
        if upper[q, i] >= threshold:
            rows[q, kept], upper[q, kept], lower[q, kept] = rows[q, i], upper[q, i], lower[q, i]
            kept += 1
    count[q] = kept
    limit[q] = min(room, max(limit[q], 2 * kept))
    if 4 * kept > 3 * room:  # the bounds can't tell so many apart: another way has to
        terms[q, 4] = np.inf
        count[q] = -1


@compiled
def scan(
    codes: Any, bounds: Any, first: int, allowed: Any, queries: Any, terms: Any, gap: float, k: int,
    rows: Any, upper: Any, lower: Any, count: Any, limit: Any, scratch: Any, out: Any,
) -> None:  # fmt: skip
    """Add to each query's list the rows of a block whose upper bound reaches its threshold.

    `first` is the number of the block's first row, `allowed` (m,) its mask of rows or empty, `terms` (b, TERMS) are
    the queries', whose thresholds rise; lists are (b, room), `count` (b,) is -1 where a list overflowed. `scratch` (room,)
    and `out` (QUERIES, LANES) are room for the work.
    """
    dim = queries.shape[1]
    at_codes, at_queries, at_bounds = codes.ctypes.data, queries.ctypes.data, bounds.ctypes.data
    at_terms, at_out = terms.ctypes.data, out.ctypes.data
    for tile in range(codes.shape[0]):
        keep = np.int64(0xFF)
        if allowed.size:
            keep = np.int64(0)
            for lane in range(min(LANES, allowed.size - tile * LANES)):
                keep |= np.int64(allowed[tile * LANES + lane]) << lane
            if not keep:
                continue
        keep *= 0x01010101
        for j in range(0, queries.shape[0], QUERIES):
            good = _products(
                at_codes + tile * LANES * dim, at_queries + j * dim, dim, dim // (4 * STEPS),
                at_bounds + tile * 16 * LANES, at_terms + j * 4 * TERMS, at_out,
            )  # fmt: skip
            good &= keep
            while good:
                bit = _lowest_bit(good)
                good &= good - 1
                q, lane = j + bit // LANES, bit % LANES
                if count[q] == limit[q]:
                    _shrink(q, k, terms, rows, upper, lower, count, limit, scratch)
                most = out[bit // LANES, lane]
                if most < terms[q, 4]:
                    continue
                norm = bounds[tile, 2, lane]
                error = terms[q, 2] * bounds[tile, 1, lane] + terms[q, 3] * norm
                place = count[q]
                rows[q, place], upper[q, place] = first + tile * LANES + lane, most
                lower[q, place] = most - np.float32(2) * error - gap * norm * norm
                count[q] = place + 1


# ---- exact scores of what is left -----------------------------------------------------------------------------------


@compiled
def want_best(k: int, upper: Any, count: Any, wanted: Any, scratch: Any) -> None:
    """Mark (1) the k best of every list by their upper bounds."""
    for q in range(count.shape[0]):
        bound = np.float32(-np.inf)
        if count[q] > k:
            for i in range(count[q]):
                scratch[i] = upper[q, i]
            bound = kth_largest(scratch, count[q], k)
        for i in range(count[q]):
            wanted[q, i] = upper[q, i] >= bound


@compiled
def want_rest(k: int, squares: Any, upper: Any, count: Any, wanted: Any, exact: Any, scratch: Any) -> None:
    """Mark (1) the rows that could reach the k-th best exact score; `squares` (b,) float64 are added to scores."""
    for q in range(count.shape[0]):
        known = 0
        for i in range(count[q]):
            if wanted[q, i] == 2:
                scratch[known] = exact[q, i]
                known += 1
        if known < k:
            continue
        best = np.float64(kth_largest(scratch, known, k))
        bound = best + squares[q] - 2.0**-22 * (abs(best) + squares[q])
        for i in range(count[q]):
            if not wanted[q, i] and upper[q, i] >= bound:
                wanted[q, i] = 1


@compiled
def exact_sums(
    address: int, is_half: int, dim: int, first: int, last: int, squared: int, queries: Any,
    rows: Any, count: Any, wanted: Any, exact: Any, sums: Any,
) -> None:  # fmt: skip
    """Score the wanted (1) rows of first..last, whose vectors lie at `address`; they are then known (2).

    `queries` are float64 (b, d); lists hold ascending row numbers. The sums are those of `exact.exact_scores`;
    `sums` float64 (1,) is room for one.
    """
    size = 2 if is_half else 4
    at_queries, at_sums = queries.ctypes.data, sums.ctypes.data
    for q in range(count.shape[0]):
        begin, end = 0, count[q]
        while begin < end:
            middle = (begin + end) >> 1
            begin, end = (middle + 1, end) if rows[q, middle] < first else (begin, middle)
        query = at_queries + q * dim * 8
        for i in range(begin, count[q]):
            if rows[q, i] >= last:
                break
            if wanted[q, i] != 1:
                continue
            row = address + (rows[q, i] - first) * dim * size
            ahead = i + 1
            while ahead < count[q] and wanted[q, ahead] != 1:
                ahead += 1
            if ahead < count[q] and rows[q, ahead] < last:
                _prefetch(address + (rows[q, ahead] - first) * dim * size, dim * size)
            if is_half:
                _half_sums(row, query, dim // SUM_LANES, squared, at_sums)
            else:
                _float_sums(row, query, dim // SUM_LANES, squared, at_sums)
            exact[q, i] = np.float32(0.0 - sums[0] if squared else sums[0] + 0.0)
            wanted[q, i] = 2
