"""A sorted list of terms in two files: all terms in UTF-8 one after another, and where each begins."""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..durable import write_array

_BYTES, _STARTS = "terms.bin", "terms.npy"


def write_vocabulary(folder: Path, terms: pa.Array) -> None:
    """Write `terms`, a `large_string` array in ascending order of UTF-8."""
    _, offsets, data = terms.buffers()
    starts = np.frombuffer(offsets, np.int64)[terms.offset : terms.offset + len(terms) + 1]
    with (folder / _BYTES).open("wb") as stream:
        stream.write(memoryview(data)[starts[0] : starts[-1]] if data else b"")
    write_array(folder / _STARTS, [starts - starts[0]], len(terms) + 1, (), np.int64)


class Vocabulary:
    """The terms in `folder`, memory-mapped; their numbers are their places."""

    def __init__(self, folder: Path) -> None:
        self._starts = np.load(folder / _STARTS, mmap_mode="r")
        empty = (folder / _BYTES).stat().st_size == 0  # which can't be mapped
        self._bytes = np.zeros(0, np.uint8) if empty else np.memmap(folder / _BYTES, np.uint8, mode="r")

    def __len__(self) -> int:
        return len(self._starts) - 1

    def terms(self) -> pa.Array:
        """All terms, `large_string`."""
        return pa.LargeStringArray.from_buffers(len(self), pa.py_buffer(self._starts), pa.py_buffer(self._bytes))

    def __getitem__(self, number: int) -> str:
        return self._at(number).decode()

    def numbers(self, terms: list[str]) -> np.ndarray:
        """The number of each of `terms` (n,) int32, -1 for one that is not here."""
        found = np.full(len(terms), -1, np.int32)
        every = range(len(self))
        for i, term in enumerate(terms):
            wanted = term.encode()
            number = bisect_left(every, wanted, key=self._at)
            if number < len(self) and self._at(number) == wanted:
                found[i] = number
        return found

    def _at(self, number: int) -> bytes:
        return self._bytes[self._starts[number] : self._starts[number + 1]].tobytes()


def joined(vocabularies: list[Vocabulary]) -> pa.Array:
    """All terms of all vocabularies, each once, in ascending order."""
    terms = pc.unique(pa.chunked_array([v.terms() for v in vocabularies], pa.large_string()))
    return terms.take(pc.sort_indices(terms))
