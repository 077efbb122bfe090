"""8-bit codes of vectors and of queries, and what they prove about inner products: the low-precision scan's files.

A row x becomes x̂ = scale·c with whole numbers |c| <= 80 and scale = max|x| / 80; a query q likewise q̂ = s·a, |a| <= 127. Then

    |q·x - q̂·x̂| = |(q - q̂)·x̂ + q·(x - x̂)| <= ‖q - q̂‖·‖x̂‖ + ‖q‖·‖x - x̂‖      (Cauchy-Schwarz)

and both residual norms are known, so a score has proved bounds that cost one addition. Everything is rounded to the safe
side: float32 arithmetic adds less than 2^-19 of ‖q‖·‖x‖.

codes.npy   uint8 (tiles, d / 4, 8, 4): c + 80 of eight rows side by side, four dimensions at a time, so that one register
            holds the same four dimensions of eight rows
bounds.npy  float32 (tiles, 4, 8): per row scale, ‖x - x̂‖, a bound of both ‖x‖ and ‖x̂‖, and for l2 -‖x‖² (else 0)

So a row takes d + 16 bytes. Products of codes are added in 16 bits over 4 steps: a query's step s is chosen so that no such
sum can overflow, which is what its 8 to 16 neighbouring numbers allow and not what their worst case would.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .durable import write_array

#: Codes are made for dimensions that fill whole registers.
DIM_STEP = 32

_SLACK = 2.0**-19


def encode(vectors: np.ndarray, similarity: str) -> tuple[np.ndarray, np.ndarray]:
    """Codes (tiles, d / 4, 8, 4) uint8 and bounds (tiles, 4, 8) float32 of stored `vectors` (m, d)."""
    from . import scan_kernel as kernel

    rows, dim = vectors.shape
    tiles = -(-rows // kernel.LANES)
    codes = np.empty((tiles, dim // 4, kernel.LANES, 4), np.uint8)
    bounds = np.empty((tiles, 4, kernel.LANES), np.float32)
    values = np.asarray(vectors).astype(np.float32, order="C", copy=False).view(np.ndarray)
    step = np.empty(dim, np.uint8)
    words = codes.reshape(tiles, dim // 4, 4 * kernel.LANES).view(np.uint32)
    kernel.encode(values, int(similarity == "l2"), words, bounds, step, step.view(np.uint32))
    return codes, bounds


def write_codes(folder: Path, similarity: str) -> None:
    """Write `codes.npy` and `bounds.npy` beside the `vectors.npy` of a shard."""
    codes, bounds = encode(np.load(folder / "vectors.npy", mmap_mode="c"), similarity)
    write_array(folder / "codes.npy", [codes], len(codes), codes.shape[1:], np.uint8)
    write_array(folder / "bounds.npy", [bounds], len(bounds), bounds.shape[1:], np.float32)


def read_codes(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The codes and bounds of a shard, memory-mapped."""
    codes, bounds = (np.load(folder / f"{name}.npy", mmap_mode="c").view(np.ndarray) for name in ("codes", "bounds"))
    return codes, bounds


@dataclass(frozen=True)
class QueryCodes:
    """`codes` int8 (b', d), `terms` float32 (b', 5), `wide` float64 (b, d), `squares` float64 (b,) and `gap` of b queries.

    b' fills whole groups; the added queries find nothing. `terms` are the columns shift (int32), factor, error per
    residual, error per norm and threshold of `scan_kernel`; `squares` are ‖q‖² for l2, which the scan's bounds leave
    out, else 0; `gap` times ‖x‖² is the rounding of -‖x‖².
    """

    codes: np.ndarray
    terms: np.ndarray
    wide: np.ndarray
    squares: np.ndarray
    gap: float


def query_codes(queries: np.ndarray, similarity: str) -> QueryCodes:
    """The codes of float32 `queries` (b, d)."""
    from . import scan_kernel as kernel

    wide = queries.astype(np.float64)
    count, dim = wide.shape
    step = _steps(wide, kernel.STEPS, kernel.LEVELS)
    codes = np.zeros((-(-count // kernel.QUERIES) * kernel.QUERIES, dim), np.int8)
    codes[:count] = np.rint(wide / step[:, None])
    squared = similarity == "l2"
    factor = 2.0 if squared else 1.0
    norm = np.linalg.norm(wide, axis=1)
    residual = np.linalg.norm(wide - step[:, None] * codes[:count], axis=1)
    terms = np.zeros((len(codes), kernel.TERMS), np.float32)
    terms[:, 0].view(np.int32)[:] = kernel.LEVELS * codes.sum(1, dtype=np.int32)
    terms[:count, 1] = factor * step
    terms[:count, 2] = factor * norm * (1 + _SLACK)
    terms[:count, 3] = factor * (residual + _SLACK * (norm + residual)) * (1 + _SLACK)
    terms[:, 4] = np.inf
    terms[:count, 4] = np.finfo(np.float32).min
    squares = norm**2 if squared else np.zeros(count)
    return QueryCodes(codes, terms, wide, squares, (dim + 8) * 2.0**-21 if squared else 0.0)


def _steps(queries: np.ndarray, meeting: int, levels: int) -> np.ndarray:
    """Per query (b, d) the finest step s (b,) for which |q / s| <= 127 and no 16-bit lane can overflow."""
    count, dim = queries.shape
    # A lane takes two neighbouring dimensions of every four, over `meeting` steps.
    lanes = (
        queries.reshape(count, dim // (4 * meeting), meeting, 2, 2)
        .transpose(0, 1, 3, 2, 4)
        .reshape(count, -1, 2 * meeting)
    )

    def fullest(values: np.ndarray) -> np.ndarray:
        sums = np.maximum(np.where(values > 0, values, 0).sum(2), np.where(values < 0, -values, 0).sum(2))
        most: np.ndarray = sums.max(1)
        return most

    room = ((1 << 15) - 1) // (2 * levels)  # for its positive numbers, and for its negative ones
    step = np.maximum(np.abs(queries).max(1) / 127, fullest(lanes) / room)
    step[step < 1e-30] = 1.0  # a zero query: all its codes are zero
    while len(over := np.flatnonzero(fullest(np.rint(lanes / step[:, None, None])) > room)):
        step[over] *= 1.005
    return step
