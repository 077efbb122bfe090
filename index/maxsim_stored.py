"""MaxSim of tokens as they are stored: float32, bfloat16, float16, or int8 with a scale a token, never a copy in memory.

What multiplies depends on the CPU (`ways`): AMX where the kernel grants it, `vpdpbusd` for int8, else float32 after a
conversion in the first cache, which all that have fused multiply-add can. Products become best matches there, too. For the
first two a query token is made the sum
of two bfloat16 numbers, or of two whole numbers of 8 bits and a scale: so it keeps 16 significant bits, or 15 below its
greatest number, and what that can cost is known (`StoredQueries.errors`). Products of bfloat16 are added up in float32,
those of int8 in 32-bit whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError, UsageError
from ..vectors import MultiVector
from . import maxsim_stored_kernel as kernel
from .maxsim_amx import AMX_ROWS, STEP_BYTES, amx_allowed, tile_shapes
from .maxsim_blocks import LEAST, NOTHING, QuerySide, blocks, check_pair
from .maxsim_factors import (
    aligned,
    bfloat16_parts,
    bfloat16_value,
    in_order,
    side_by_side,
    tiles_of_bfloat16,
    tiles_of_int8,
    whole_parts,
    whole_value,
    widened,
    words_of_int8,
)
from .maxsim_rows import GROUP
from .maxsim_tile import FOURS, ROWS
from .multivector_files import read

#: Tiles whose products are held at a time, in a core's first cache.
_TILES = 2

#: The numpy type in which tokens of a storage come.
_STORAGE = {"float32": "float32", "uint16": "bfloat16", "float16": "float16", "int8": "int8"}

#: How a stored row is made what is multiplied, by storage and way.
_KINDS = {
    ("bfloat16", "amx"): kernel.COPIED_WORDS,
    ("float16", "amx"): kernel.TWO_OF_FLOAT16,
    ("int8", "amx"): kernel.COPIED_BYTES,
    ("int8", "vnni"): kernel.UNSIGNED_BYTES,
    ("bfloat16", "float32"): kernel.FLOAT_OF_BFLOAT16,
    ("float16", "float32"): kernel.FLOAT_OF_FLOAT16,
    ("int8", "float32"): kernel.FLOAT_OF_INT8,
    ("float32", "float32"): kernel.COPIED_WORDS,
}


def ways(storage: str) -> list[str]:
    """What can multiply query tokens with those of a storage here, the fastest first; `blocks` always can."""
    found = []
    if (storage, "amx") in _KINDS and amx_allowed():
        found.append("amx")
    if (storage, "vnni") in _KINDS and FOURS:
        found.append("vnni")
    if (storage, "float32") in _KINDS and ROWS:
        found.append("float32")
    return [*found, "blocks"]


def maxsim_stored(
    query: np.ndarray, numbers: np.ndarray, offsets: np.ndarray, *, scales: np.ndarray | None = None, mean: bool = False
) -> np.ndarray:
    """`maxsim.maxsim` with inner products, of documents as they are stored: (n,) float32.

    `query` is (t, d) float32; document i has the rows `offsets[i]:offsets[i + 1]` of `numbers` (T, d): float32, uint16 (the
    bits of bfloat16; of a torch tensor `.view(torch.uint16).numpy()`), float16, or int8, whose rows are multiplied with
    `scales` (T,) float32. A match errs as one in float32 does, and where the query is taken in two parts (`ways`) by up to
    2^-17 · |q| · |d| more, of int8 tokens by √d · max |q| · |d| / 64,000. Tokens at a multiple of 64 bytes are read faster.
    `mean` divides by t. A document of no tokens gets t times -1. Errors: `InputError` for other types and shapes.
    """
    queries = MultiVector(query, np.array([0, len(query)]))
    return maxsim_stored_all(queries, numbers, offsets, scales=scales, mean=mean)[0]


def maxsim_stored_all(
    queries: MultiVector,
    numbers: np.ndarray,
    offsets: np.ndarray,
    *,
    scales: np.ndarray | None = None,
    mean: bool = False,
) -> np.ndarray:
    """`maxsim_stored` of every query and every document: (queries, documents) float32."""
    storage = _checked(queries, numbers, offsets, scales)
    side = StoredQueries.of(queries.tokens, queries.offsets, storage)
    scores = np.empty((len(queries), len(offsets) - 1), np.float32)
    side.score(numbers, NOTHING if scales is None else scales, np.asarray(offsets, np.int64), scores, 0)
    if mean:
        scores /= np.maximum(np.diff(queries.offsets), 1)[:, None].astype(np.float32)
    return scores


def _checked(queries: MultiVector, numbers: np.ndarray, offsets: np.ndarray, scales: np.ndarray | None) -> str:
    """The storage of `numbers`; raises where something does not fit."""
    check_pair(queries.tokens, numbers, "dot")
    storage = _STORAGE.get(str(numbers.dtype))
    if storage is None:
        raise InputError(
            f"maxsim_stored: numbers are {numbers.dtype}, expected float32, float16, uint16 (bits of bfloat16) or int8"
        )
    if (scales is not None) != (storage == "int8"):
        raise UsageError(f"maxsim_stored: scales come with int8 numbers and no others, here with {numbers.dtype}")
    if scales is not None and (scales.shape != numbers.shape[:1] or scales.dtype != np.float32):
        raise InputError(
            f"maxsim_stored: scales are {scales.dtype} {scales.shape}, expected float32 {numbers.shape[:1]}: one a token"
        )
    if len(offsets) < 1 or offsets[0] < 0 or offsets[-1] > len(numbers) or (np.diff(offsets) < 0).any():
        raise InputError(
            f"maxsim_stored: offsets have to ascend from 0 or more to at most {len(numbers)}, the tokens given"
        )
    return storage


@dataclass(frozen=True)
class StoredQueries:
    """The tokens of some queries as stored documents are multiplied with them.

    `tokens` (t, d) float32, of query i those from `starts[i]` to `starts[i + 1]`; `way` is one of `ways`, and `parts` are
    what tokens became for it, whole numbers with `scales` (t,). `factors` are bytes in the order in which the way reads
    them, for `steps` of a row: of 4 bytes, by AMX 64. Products begin with `sums` (width,).
    """

    storage: str
    way: str
    tokens: np.ndarray
    starts: np.ndarray
    parts: list[np.ndarray]
    scales: np.ndarray
    factors: np.ndarray
    steps: int
    sums: np.ndarray

    @classmethod
    def of(cls, tokens: np.ndarray, starts: np.ndarray, storage: str, way: str | None = None) -> StoredQueries:
        """Of `tokens` (t, d) float32; `starts` (b + 1,) say where queries begin."""
        tokens, starts = np.ascontiguousarray(tokens, np.float32), np.ascontiguousarray(starts, np.int64)
        there = ways(storage)  # asks for AMX
        way = there[0] if way is None else way
        if way not in there:
            raise UsageError(f"maxsim of {storage} tokens by {way!r}: this machine has {there}")
        parts, scales = [tokens], np.ones(len(tokens), np.float32)
        factors: np.ndarray = NOTHING
        sums: np.ndarray = NOTHING
        steps = 0
        if way == "float32":
            factors = in_order(widened(tokens, kernel.WIDE, 1).T)
            steps, sums = factors.shape[0], np.zeros(factors.shape[1], np.float32)
        elif way != "blocks" and storage == "int8":
            parts, scales = whole_parts(tokens)
            step = STEP_BYTES if way == "amx" else 4
            halves = [widened(part, GROUP, step) for part in parts]
            factors = (tiles_of_int8 if way == "amx" else words_of_int8)(halves)
            steps = halves[0].shape[1] // step
            sums = -128 * side_by_side([half.sum(1, dtype=np.int32) for half in halves])
        elif way != "blocks":
            parts = bfloat16_parts(tokens)
            both = parts if storage == "bfloat16" else [np.repeat(part, 2, axis=1) for part in parts]
            factors = tiles_of_bfloat16([widened(part, kernel.WIDE, STEP_BYTES // 2) for part in both])
            steps, sums = factors.shape[1], np.zeros(kernel.WIDE * len(factors), np.float32)
        return cls(storage, way, tokens, starts, parts, scales, factors, steps, np.ascontiguousarray(sums))

    def errors(self, dim: int, largest: float) -> np.ndarray:
        """Bounds (t,) on what a match can be off, with document tokens of at most the length `largest`.

        What the query token lost times that; n terms that are added in float32 err by n · 2^-24 of their absolute sum
        (Higham, §3.1), which for a query of parts is at most 1.01 |q| |d|; AMX takes numbers below 2^-126 for 0.
        """
        norms = np.linalg.norm(self.tokens.astype(np.float64), axis=1)
        lost = np.zeros(len(norms))
        if self.way in ("amx", "vnni"):
            value = whole_value(self.parts, self.scales) if self.storage == "int8" else bfloat16_value(self.parts)
            lost = np.linalg.norm(self.tokens - value, axis=1)
        terms = {"bfloat16": 2, "float16": 4, "int8": 1}[self.storage] * dim if self.way == "amx" else dim
        added = 1.01 * (terms + 16) * 2.0**-24 * norms * largest
        tiny = 4 * dim * 2.0**-126 * (1 + norms + largest)
        errors: np.ndarray = lost * largest + added + tiny
        return errors

    def score(self, numbers: np.ndarray, scales: np.ndarray, offsets: np.ndarray, out: np.ndarray, first: int) -> None:
        """Write the scores of the documents with the rows `offsets[i]:offsets[i + 1]` of `numbers` into `out[:, first:]`."""
        if self.way == "blocks":
            self._score_in_blocks(numbers, scales, offsets, out, first)
            return
        numbers = numbers if numbers.strides[-1] == numbers.itemsize else np.ascontiguousarray(numbers)
        dim, width, amx = numbers.shape[1], len(self.sums), self.way == "amx"
        how = {"float32": kernel.FLOAT32, "vnni": kernel.INT8, "amx": kernel.AMX_BFLOAT16}[self.way]
        if amx and self.storage == "int8":
            how = kernel.AMX_INT8
        places = numbers.ctypes.data | numbers.strides[0] | dim * numbers.itemsize
        direct = amx and self.storage != "float16" and places % STEP_BYTES == 0
        rows = AMX_ROWS if amx else ROWS
        staged = aligned((rows, self.steps * (STEP_BYTES if amx else 4)), np.uint8)
        shapes = tile_shapes()
        kernel.score_stored(
            how,
            _KINDS[self.storage, self.way],
            direct or self.storage == "float32",
            numbers.ctypes.data,
            numbers.strides[0],
            2 * dim if self.storage == "float32" else dim,  # words
            np.ascontiguousarray(scales, np.float32),
            np.ascontiguousarray(offsets, np.int64),
            self.factors.ctypes.data,
            self.steps,
            len(self.parts) if how == kernel.AMX_BFLOAT16 else 1,
            self.sums.ctypes.data,
            shapes.ctypes.data,
            staged,
            aligned((_TILES * rows, width), np.float32),
            self.scales,
            self.starts,
            LEAST["dot"] * np.diff(self.starts).astype(np.float64),
            out,
            first,
        )

    def _score_in_blocks(
        self, numbers: np.ndarray, scales: np.ndarray, offsets: np.ndarray, out: np.ndarray, first: int
    ) -> None:
        side = QuerySide.of(self.tokens, self.starts, "dot")
        for start, end in blocks(offsets, side.block_tokens):
            rows = slice(offsets[start], offsets[end])
            own = read(numbers[rows], self.storage)
            side.score(own, scales[rows], NOTHING, offsets[start : end + 1] - offsets[start], out, first + start)
