"""Compressed lists of documents per term, memory-mapped. `inversion.py` writes them, `block_max.py` searches them.

Rows (documents) are cut into ranges of `RANGE`. A term's list is in one of two forms, whichever takes fewer bytes:

frequent    one segment per range: the distance from each document to the next one, a byte (from the range's start for
            the first), and its weight. A distance over 255 takes entries of distance 255 and weight 0 on the way.
rare        blocks of up to `BLOCK` documents: the first row (4 bytes), the distance of each from it (2 bytes), its weight.

A segment and a block have their largest weight beside them, and, of counts, the shortest of their documents' lengths: no
document in it can score higher than one of these two would, whatever the parameters of BM25.

Weights are what `storage` says: `uint8` or `uint16`, whole multiples of `step`, or `float32`. Counts (term frequencies)
are `uint8`; `LARGE` stands for one that the table of large counts holds. Beside counts lie the documents' lengths,
one byte each, in Lucene's code (lucene_lengths.py).

    postings.json               payload, storage, step, documents, terms, postings, and of counts the sums
    slots.npy                   (terms,) int32: place among the frequent terms, -1 for none, -2 - place among the rare ones
    frequencies.npy             (terms,) int32: documents that have the term
    frequent_starts.npy         (f,) int64: where the list begins in distances and weights
    frequent_segments.npy       (f, ranges + 1) uint32: where each segment begins, from there
    frequent_largest.npy        (f, ranges) weights; frequent_shortest.npy (f, ranges) uint8, of counts only
    frequent_distances.npy      uint8; frequent_weights.npy beside it
    rare_blocks.npy             (r + 1,) int64: the first block of each term
    rare_starts.npy             (blocks + 1,) int64: where the block begins; rare_rows.npy (blocks,) uint32: its first row
    rare_largest.npy            (blocks,) weights; rare_shortest.npy (blocks,) uint8, of counts only
    rare_distances.npy          uint16; rare_weights.npy beside it
    lengths.npy                 (documents,) uint8, of counts only
    large_places.npy            (l,) int64, ascending: where a count is LARGE, ~place for rare lists; large_counts.npy float32
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from ..errors import SetupError

#: Documents of a range. Their float64 sums fill two thirds of a 48 KiB first-level cache.
RANGE = 4096

#: Documents of a block of a rare term.
BLOCK = 128

#: The count that means: look it up.
LARGE = 255

#: Layout of these files. A reader refuses any other.
LAYOUT = 1

DESCRIPTION = "postings.json"


class Lists(NamedTuple):
    """The arrays that the compiled search reads (see above)."""

    slots: np.ndarray
    frequent_starts: np.ndarray
    frequent_segments: np.ndarray
    frequent_largest: np.ndarray
    frequent_shortest: np.ndarray
    frequent_distances: np.ndarray
    frequent_weights: np.ndarray
    rare_blocks: np.ndarray
    rare_starts: np.ndarray
    rare_rows: np.ndarray
    rare_largest: np.ndarray
    rare_shortest: np.ndarray
    rare_distances: np.ndarray
    rare_weights: np.ndarray
    lengths: np.ndarray
    large_places: np.ndarray
    large_counts: np.ndarray


#: The arrays that only counts have, and their type where they are missing: a compiled search wants the same types.
_OF_COUNTS = {
    "frequent_shortest": np.zeros((0, 0), np.uint8),
    "rare_shortest": np.zeros(0, np.uint8),
    "lengths": np.zeros(0, np.uint8),
    "large_places": np.zeros(0, np.int64),
    "large_counts": np.zeros(0, np.float32),
}


@dataclass(frozen=True)
class Postings:
    """Opened postings. `lists` are mapped arrays, the other fields as in `postings.json`.

    `payload` is `impact` or `count`; `step` is what one unit of a stored weight is worth. Of counts, `filled` documents
    have a term at all, and `total_length` is the sum of all counts.
    """

    folder: Path
    lists: Lists
    frequencies: np.ndarray
    payload: str
    storage: str
    step: float
    documents: int
    terms: int
    filled: int
    total_length: int

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Map the files in `folder`. Raises `SetupError` where they have another layout."""
        folder = Path(folder)
        about: dict[str, Any] = json.loads((folder / DESCRIPTION).read_bytes())
        if about["layout"] != LAYOUT:
            raise SetupError(
                f"{folder}: postings of layout {about['layout']}, this cribble reads {LAYOUT}: build the index again"
            )
        counts = about["payload"] == "count"
        arrays = {
            name: _mapped(folder / f"{name}.npy") if counts or name not in _OF_COUNTS else frozen(_OF_COUNTS[name])
            for name in Lists._fields
        }
        names = ("payload", "storage", "step", "documents", "terms", "filled", "total_length")
        known = {name: about[name] for name in names}
        return cls(folder, Lists(**arrays), _mapped(folder / "frequencies.npy"), **known)

    @cached_property
    def length_span(self) -> tuple[int, int]:
        """The shortest and the longest document's length byte."""
        lengths = self.lists.lengths
        return int(lengths.min(initial=255)), int(lengths.max(initial=0))

    @cached_property
    def largest(self) -> np.ndarray:
        """The largest stored weight of each term (terms,), 0 of one that no document has."""
        lists = self.lists
        largest = np.zeros(self.terms, lists.frequent_largest.dtype)
        frequent, rare = np.flatnonzero(lists.slots >= 0), np.flatnonzero(lists.slots < -1)
        largest[frequent] = lists.frequent_largest[lists.slots[frequent]].max(axis=1, initial=0)
        if len(rare):
            largest[rare] = np.maximum.reduceat(lists.rare_largest, lists.rare_blocks[:-1])[-2 - lists.slots[rare]]
        return largest


def _mapped(path: Path) -> np.ndarray:
    """A plain read-only array over the file: compiled code knows no other kind of mapped array."""
    try:
        return frozen(np.asarray(np.load(path, mmap_mode="r")))
    except ValueError:  # an empty array can't be mapped
        return frozen(np.load(path))


def frozen(array: Any) -> np.ndarray:
    """`array`, not to be written to: compiled code is made for either kind, and here only for this one."""
    view: np.ndarray = array.view()
    view.flags.writeable = False
    return view
