"""Query tokens as stored document tokens are multiplied with them: in two parts, in the order in which a tile reads them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .maxsim_amx import STEP_BYTES
from .maxsim_rows import FINER, GROUP
from .multivector_files import read, stored


def aligned(shape: tuple[int, ...], kind: type) -> np.ndarray:
    """Zeros that begin at a multiple of 64 bytes, where a cache line does; numpy's own begin 16 after."""
    size = math.prod(shape) * np.dtype(kind).itemsize
    room = np.zeros(size + STEP_BYTES, np.uint8)
    start = -room.ctypes.data % STEP_BYTES
    return room[start : start + size].view(kind).reshape(shape)


def in_order(values: np.ndarray) -> np.ndarray:
    """A contiguous copy at a multiple of 64 bytes."""
    found = aligned(values.shape, values.dtype.type)
    found[...] = values
    return found


def widened(tokens: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """`tokens` with zeros, up to multiples of `rows` and `columns`, at least one of either."""
    wide, long = (max(1, -(-size // unit)) * unit for size, unit in zip(tokens.shape, (rows, columns), strict=True))
    found = np.zeros((wide, long), tokens.dtype)
    found[: len(tokens), : tokens.shape[1]] = tokens
    return found


def bfloat16_parts(tokens: np.ndarray) -> list[np.ndarray]:
    """Bits of one or two bfloat16 numbers whose sum is each number of `tokens`, but for at most 2^-17 of it."""
    first = stored(tokens, "bfloat16")[0]
    rest = tokens - read(first, "bfloat16")
    return [first, stored(rest, "bfloat16")[0]] if rest.any() else [first]


def whole_parts(tokens: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """int8 (t, d) twice, and a scale (t,) float32: its product with `FINER` · first + second is near `tokens`."""
    scales = np.abs(tokens).max(axis=1, initial=0) / np.float32(127 * FINER)
    scales[scales < np.finfo(np.float32).tiny] = 1
    whole = np.rint(tokens / scales[:, None])
    first = np.clip(np.rint(whole / np.float32(FINER)), -127, 127)
    second = np.clip(whole - FINER * first, -127, 127)
    return [first.astype(np.int8), second.astype(np.int8)], scales.astype(np.float32)


def bfloat16_value(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The sum of the parts: (t, d) float64."""
    value: np.ndarray = np.sum([read(part, "bfloat16").astype(np.float64) for part in parts], axis=0)
    return value


def whole_value(parts: Sequence[np.ndarray], scales: np.ndarray) -> np.ndarray:
    """What `whole_parts` stand for: (t, d) float64."""
    first, second = (part.astype(np.float64) for part in parts)
    value: np.ndarray = scales[:, None].astype(np.float64) * (FINER * first + second)
    return value


def side_by_side(halves: Sequence[np.ndarray]) -> np.ndarray:
    """Groups of 16 of the first (t, ...), each before the 16 of the second: (2 t, ...)."""
    grouped = [half.reshape(-1, 1, GROUP, *half.shape[1:]) for half in halves]
    return np.concatenate(grouped, axis=1).reshape(-1, *halves[0].shape[1:])


def words_of_int8(halves: Sequence[np.ndarray]) -> np.ndarray:
    """Four numbers of a column together: (d / 4, columns, 4)."""
    columns = side_by_side(halves)
    return in_order(columns.reshape(len(columns), -1, 4).transpose(1, 0, 2))


def tiles_of_int8(halves: Sequence[np.ndarray]) -> np.ndarray:
    """Tiles of 16 rows of four numbers of 16 columns: (columns / 32, d / 64, 2, 16, 16, 4)."""
    columns = side_by_side(halves)
    tiles = columns.reshape(-1, 2, GROUP, columns.shape[1] // 64, 16, 4)
    return in_order(tiles.transpose(0, 3, 1, 4, 2, 5))


def tiles_of_bfloat16(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Tiles of 16 rows of two numbers of 16 columns: (t / 32, d / 32, parts, 2, 16, 16, 2)."""
    tiles = np.stack([part.reshape(-1, 2, 16, part.shape[1] // 32, 16, 2) for part in parts])
    return in_order(tiles.transpose(1, 4, 0, 2, 5, 3, 6))
