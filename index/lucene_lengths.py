"""Document lengths as Lucene keeps them: one byte, exact up to 39 and with four significant bits above.

Lucene's `SmallFloat.intToByte4` and `byte4ToInt`; a length is stored as the largest value that does not exceed it.
"""

from __future__ import annotations

import numpy as np

#: Values below this are stored as they are.
_EXACT = 24


def _decoded(byte: int) -> int:
    if byte < _EXACT:
        return byte
    bits, shift = (byte - _EXACT) & 7, ((byte - _EXACT) >> 3) - 1
    return _EXACT + (bits if shift < 0 else (bits | 8) << shift)


#: (256,) int64: the length that each byte stands for, ascending.
LENGTHS = np.array([_decoded(byte) for byte in range(256)], np.int64)


def length_bytes(lengths: np.ndarray) -> np.ndarray:
    """The bytes (n,) uint8 of `lengths` (n,) whole numbers from 0 to 2³¹ - 1."""
    return (np.searchsorted(LENGTHS, lengths, side="right") - 1).astype(np.uint8)
