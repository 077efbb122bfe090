"""Token vectors on the disk: what each storage keeps of a vector, and what a search reads of it.

float32, float16   as they are                          4 or 2 bytes a number
bfloat16           the upper half of a float32          2
int8               multiples of the largest / 127       1, and 4 a token
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .maxsim_blocks import NOTHING, blocks

STORAGE = ("float32", "float16", "bfloat16", "int8")

#: The numbers of a storage as `.npy` has them; numpy has no bfloat16.
DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16, "int8": np.int8}

TOKENS, OFFSETS, SCALES = "tokens.npy", "offsets.npy", "scales.npy"


def stored(tokens: np.ndarray, storage: str) -> tuple[np.ndarray, np.ndarray]:
    """What is kept of `tokens` (T, d) float32: numbers (T, d) of `DTYPES[storage]`, and of int8 also scales (T,) float32."""
    if storage == "bfloat16":
        bits = np.ascontiguousarray(tokens, np.float32).view(np.uint32)
        return ((bits + ((bits >> 16) & 1) + 0x7FFF) >> 16).astype(np.uint16), NOTHING
    if storage == "int8":
        scales = np.abs(tokens).max(axis=1, initial=0).astype(np.float32) / np.float32(127)
        scales[scales == 0] = 1
        return np.rint(tokens / scales[:, None]).astype(np.int8), scales
    with np.errstate(over="ignore"):
        return tokens.astype(storage), NOTHING


def read(numbers: np.ndarray, storage: str) -> np.ndarray:
    """Stored numbers as float32; those of int8 are still to be multiplied by their scales."""
    if storage in ("float16", "bfloat16") and "torch" in sys.modules and len(numbers):
        return _read_by_torch(numbers, storage)
    if storage == "bfloat16":
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return np.ascontiguousarray(numbers, np.float32)


def _read_by_torch(numbers: np.ndarray, storage: str) -> np.ndarray:
    """The same, by the CPU's own conversions, which numpy does not use."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of arrays that may not be written to: nothing is
        values = torch.from_numpy(numbers.view(np.int16)).view(getattr(torch, storage))
    found: np.ndarray = values.float().numpy()
    return found


class StoredTokens(NamedTuple):
    """Tokens of some documents as a file keeps them: `numbers` (T, d), `scales` (T,) of int8, `sizes` (n,) a document."""

    numbers: np.ndarray
    scales: np.ndarray
    sizes: np.ndarray


@dataclass(frozen=True)
class TokenShard:
    """A shard's token vectors, mapped: document i has the rows `offsets[i]:offsets[i + 1]` of `numbers` (T, d)."""

    numbers: np.ndarray
    scales: np.ndarray
    offsets: np.ndarray
    storage: str

    @classmethod
    def open(cls, folder: Path, storage: str) -> TokenShard:
        numbers = np.asarray(np.load(folder / TOKENS, mmap_mode="r"))
        scales = np.asarray(np.load(folder / SCALES, mmap_mode="r")) if storage == "int8" else NOTHING
        return cls(numbers, scales, np.load(folder / OFFSETS), storage)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def block(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Vectors as float32 and their scales, of the documents `first` to `last`; see `read`."""
        begin, end = self.offsets[first], self.offsets[last]
        return read(self.numbers[begin:end], self.storage), self.scales[begin:end]

    def gathered(self, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vectors as float32, scales and offsets of single `documents` (m,), in their order."""
        places, offsets = token_places(self.offsets, documents)
        scales = self.scales[places] if len(self.scales) else NOTHING
        return read(self.numbers[places], self.storage), scales, offsets

    def kept(self, documents: np.ndarray) -> StoredTokens:
        """What the files keep of single `documents`."""
        places, offsets = token_places(self.offsets, documents)
        scales = self.scales[places] if len(self.scales) else NOTHING
        return StoredTokens(self.numbers[places], scales, np.diff(offsets))

    def vectors(self, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Token vectors (T, d) float32 and offsets of single `documents`, as scores see them."""
        rows, scales, offsets = self.gathered(documents)
        return rows * scales[:, None] if len(scales) else rows, offsets

    def batches(self, tokens: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """All documents' vectors and offsets, about `tokens` tokens at a time."""
        for first, last in blocks(self.offsets, tokens):
            yield self.vectors(np.arange(first, last))


def token_places(offsets: np.ndarray, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the tokens of `documents` (m,) lie by `offsets` (n + 1,), and the offsets (m + 1,) of those alone."""
    sizes = (offsets[1:] - offsets[:-1])[documents]
    own = np.concatenate([[0], np.cumsum(sizes)])
    return np.repeat(offsets[documents] - own[:-1], sizes) + np.arange(own[-1]), own
