"""Compiled: MaxSim of stored tokens, which become products in a core's first cache and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiling import compiled
from .maxsim_amx import AMX_ROWS, amx_bfloat16_tile, amx_int8_tile, begin_amx, end_amx
from .maxsim_rows import (
    best_of_parts,
    best_of_rows,
    best_of_scaled_rows,
    copied_bytes,
    copied_words,
    float_of_bfloat16,
    float_of_float16,
    float_of_int8,
    two_of_float16,
    unsigned_bytes,
)
from .maxsim_tile import COLUMNS, ROWS, float32_tile, int8_tile

#: How rows are multiplied.
FLOAT32, INT8, AMX_BFLOAT16, AMX_INT8 = range(4)

#: What becomes of a stored row before.
(
    COPIED_BYTES, COPIED_WORDS, UNSIGNED_BYTES, FLOAT_OF_BFLOAT16, FLOAT_OF_FLOAT16, FLOAT_OF_INT8, TWO_OF_FLOAT16,
) = range(7)  # fmt: skip

#: Columns of a group of products: a tile of AMX, one or two of registers.
WIDE = 32


@compiled
def _staged(kind: int, source: int, source_bytes: int, rows: int, dim: int, target: int, pitch: int) -> None:
    """Write `rows` rows of `dim` stored numbers at the address `source`, made what `kind` says, to `target`."""
    if kind == COPIED_BYTES:
        copied_bytes(source, source_bytes, rows, dim, target, pitch)
    elif kind == COPIED_WORDS:
        copied_words(source, source_bytes, rows, dim, target, pitch)
    elif kind == UNSIGNED_BYTES:
        unsigned_bytes(source, source_bytes, rows, dim, target, pitch)
    elif kind == FLOAT_OF_BFLOAT16:
        float_of_bfloat16(source, source_bytes, rows, dim, target, pitch)
    elif kind == FLOAT_OF_FLOAT16:
        float_of_float16(source, source_bytes, rows, dim, target, pitch)
    elif kind == FLOAT_OF_INT8:
        float_of_int8(source, source_bytes, rows, dim, target, pitch)
    else:
        two_of_float16(source, source_bytes, rows, dim, target, pitch)


@compiled
def _multiplied(
    how: int, tokens: int, pitch: int, factors: int, steps: int, parts: int, width: int, sums: int, coming: int, size: int,
    out: int,
) -> None:  # fmt: skip
    """Write the products of a tile's rows at `tokens` with `width` columns to `out`, and fetch `size` bytes at `coming`."""
    lines = (size // 64 + steps * parts - 1) // (steps * parts)
    for column in range(0, width, WIDE):
        to = out + 4 * column
        if how == AMX_BFLOAT16:
            own = factors + column * 64 * steps * parts
            amx_bfloat16_tile(tokens, pitch, own, steps, parts, coming, lines, to, 4 * width)
        elif how == AMX_INT8:
            amx_int8_tile(tokens, pitch, factors + column * 64 * steps, steps, 1, coming, lines, to, 4 * width)
        else:
            for half in range(4 * column, 4 * (column + WIDE), 4 * COLUMNS):
                own, start = factors + half, sums + half
                if how == FLOAT32:
                    float32_tile(tokens, pitch, own, steps, 4 * width, start, coming, size // steps, out + half)
                else:
                    int8_tile(tokens, pitch, own, steps, 4 * width, start, coming, size // steps, out + half)
        lines, coming, size = 0, tokens, 0


@compiled
def _raised(how: int, products: int, width: int, rows: int, scales: Any, since: int, best: int) -> None:
    """Raise the numbers at `best` to the greatest of `rows` rows of products, of tokens from `since` on."""
    for column in range(0, width, WIDE):
        if how in (INT8, AMX_INT8):
            own = scales.ctypes.data + 4 * since
            best_of_parts(products + 4 * column, 4 * width, rows, own, best + 2 * column)
        elif len(scales):
            own = scales.ctypes.data + 4 * since
            best_of_scaled_rows(products + 4 * column, 4 * width, rows, own, best + 4 * column)
        else:
            best_of_rows(products + 4 * column, 4 * width, rows, 0, best + 4 * column)


@compiled
def score_stored(
    how: int,
    kind: int,
    direct: bool,
    numbers: int,
    number_bytes: int,
    dim: int,
    scales: Any,
    starts: Any,
    factors: int,
    steps: int,
    parts: int,
    sums: int,
    shapes: int,
    staged: Any,
    products: Any,
    finest: Any,
    query_starts: Any,
    least: Any,
    out: Any,
    first: int,
) -> None:
    """Write into `out[q, first + i]` the MaxSim of query q and document i, whose tokens are rows at the address `numbers`.

    Rows are made `kind` in `staged` (rows of a tile, bytes), unless they are read where they are (`direct`), and multiplied
    as `how` says with `factors` into `products` (rows of some tiles, columns). `starts` (n + 1,) and
    `query_starts` (b + 1,) say where texts begin; `scales` (T,) are those of tokens, or empty; `finest` (t,) is what the
    best match of each query token is multiplied with. A document without tokens gets `least[q]`. Sums are float64.
    """
    amx = how in (AMX_BFLOAT16, AMX_INT8)
    tile = AMX_ROWS if amx else ROWS
    held, width = products.shape
    fetched = tile * number_bytes
    to, pitch, made = staged.ctypes.data, staged.shape[1], products.ctypes.data
    if amx:
        begin_amx(shapes)
    best = np.empty(width, np.float32)
    document, documents = 0, len(starts) - 1
    for begin in range(starts[0], starts[documents] + 1, held):
        end = min(begin + held, starts[documents])
        for row in range(begin, end, tile):
            count, own, own_bytes = min(tile, end - row), numbers + row * number_bytes, number_bytes
            coming, target = own + fetched, made + 4 * width * (row - begin)
            if not direct or count < tile:
                _staged(kind, own, number_bytes, count, dim, to, pitch)
                own, own_bytes = to, pitch
            _multiplied(how, own, own_bytes, factors, steps, parts, width, sums, coming, fetched, target)
        while document < documents:
            start, stop = starts[document], starts[document + 1]
            if start >= begin:
                best[:] = -np.inf
            since, until = max(start, begin), min(stop, end)
            if since < until:
                _raised(how, made + 4 * width * (since - begin), width, until - since, scales, since, best.ctypes.data)
            if stop > end:
                break
            for q in range(len(query_starts) - 1):
                total = 0.0
                for j in range(query_starts[q], query_starts[q + 1]):
                    total += np.float64(best[j]) * np.float64(finest[j])
                out[q, first + document] = total if start < stop else least[q]
            document += 1
    if amx:
        end_amx()
