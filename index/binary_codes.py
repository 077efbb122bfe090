"""Codes of several bits a coordinate: their numbers, their values, and their bytes.

A code has `width` coordinates of `planes` bits each (BEBR's m and u + 1, arXiv 2302.08714). A coordinate's signs s_0 …
s_u, the coarsest first, are the bits of a number n in 0 … 2^planes - 1, most significant first (+1 is bit 1), and stand
for the value sum s_i / 2^i = (2 n - (2^planes - 1)) / 2^(planes - 1).

As bytes, the bit planes lie one after another from the most significant: each is `width` bits, coordinate 0 in the
highest bit of the first byte. So a code takes exactly width · planes / 8 bytes, the first plane is the plain sign code, and
byte order does not matter.
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError, UsageError

#: Numbers are held as uint8.
MAX_PLANES = 8


def check_shape(width: int, planes: int) -> None:
    """Raise `UsageError` for a code that bytes can't hold exactly."""
    if width < 8 or width % 8:
        raise UsageError(f"a code's width is {width}, expected a multiple of 8, so that each bit plane fills its bytes")
    if not 1 <= planes <= MAX_PLANES:
        raise UsageError(f"a code has {planes} bits a coordinate, expected 1 to {MAX_PLANES}")


def code_bytes(width: int, planes: int) -> int:
    """Bytes of one packed code."""
    check_shape(width, planes)
    return width * planes // 8


def pack(numbers: np.ndarray, planes: int) -> np.ndarray:
    """Packed codes (n, width · planes / 8) uint8 of the `numbers` (n, width), whole numbers in 0 … 2^planes - 1."""
    check_shape(numbers.shape[1], planes)
    if numbers.size and not (int(numbers.min()) >= 0 and int(numbers.max()) < 1 << planes):
        raise InputError(
            f"codes hold numbers from {numbers.min()} to {numbers.max()}, expected 0 to {(1 << planes) - 1} for {planes} bits"
        )
    small = numbers.astype(np.uint8, copy=False)
    shifts = range(planes - 1, -1, -1)
    return np.concatenate([np.packbits(small >> shift & 1, axis=1, bitorder="big") for shift in shifts], axis=1)


def unpack(packed: np.ndarray, width: int, planes: int) -> np.ndarray:
    """The numbers (n, width) uint8 of packed codes (n, width · planes / 8) uint8: the inverse of `pack`."""
    size = code_bytes(width, planes)
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != size:
        raise InputError(f"packed codes are {packed.dtype} of shape {packed.shape}, expected uint8 (n, {size})")
    bits = np.unpackbits(packed.reshape(len(packed), planes, width // 8), axis=2, bitorder="big")
    numbers: np.ndarray = np.zeros((len(packed), width), np.uint8)
    for plane in range(planes):
        numbers = numbers << 1 | bits[:, plane]
    return numbers


def decode(numbers: np.ndarray, planes: int) -> np.ndarray:
    """The values (n, width) float32 that `numbers` (n, width) stand for; exact, as they have at most `planes` bits."""
    top = (1 << planes) - 1
    return (2 * numbers.astype(np.int32) - top).astype(np.float32) / np.float32(1 << planes - 1)
