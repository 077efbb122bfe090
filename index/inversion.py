"""Turn documents' bags of terms into compressed lists per term (postings.py), in bounded memory.

Documents come in their order. As many as fit are sorted by term at a time (a run, kept in a file if there are more), then
the runs are joined and written, again as many terms as fit at a time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, UsageError, suggest
from ..vectors import Sparse
from .durable import remove, write_array
from .growing import GrowingArray
from .lucene_lengths import length_bytes
from .postings import DESCRIPTION, LARGE, LAYOUT, RANGE

STORAGE = ("uint8", "uint16", "float32")

#: Postings that are sorted at a time; each takes 24 bytes of memory meanwhile.
_HELD = 1 << 24

#: float32 holds larger whole numbers only in part.
_LARGEST_COUNT = 1 << 24


def invert(
    folder: Path,
    blocks: Iterable[Sparse],
    documents: int,
    terms: int,
    *,
    payload: str,
    storage: str = "uint8",
    held: int = _HELD,
) -> dict[str, Any]:
    """Write the postings of `documents` documents over `terms` terms into `folder`; `blocks` hold the documents in order.

    With the payload `impact`, weights are rounded to `storage`: `uint8` or `uint16` multiples of one step (1 if all
    weights are whole and not too large), at least one step each, or `float32`, unchanged. With `count` they are term
    frequencies, positive whole numbers, kept exactly, and the documents' lengths are kept as Lucene keeps them.

    Returns what `postings.json` says. Memory holds `held` postings, 24 bytes each, besides 13 bytes a document of counts.
    Raises `InputError` where blocks do not match `documents` and `terms`, or a count is no positive whole number.
    """
    if payload not in ("impact", "count"):
        raise UsageError(f"payload is {payload!r}: {suggest(payload, ('impact', 'count'))}")
    if payload == "impact" and storage not in STORAGE:
        raise UsageError(f"storage is {storage!r}: {suggest(storage, STORAGE)}")
    counts = payload == "count"
    aside = folder / "runs.tmp"
    try:
        seen = _Seen(documents, terms, counts)
        runs = list(_runs(aside, blocks, seen, held))
        if seen.rows != documents:
            raise InputError(f"{folder}: {seen.rows:,} documents were given, {documents:,} announced")
        scale = _Scale("uint8", 1.0) if counts else _scale(storage, seen)
        about = _write(folder, runs, seen, scale, held)
    finally:
        remove(aside)
    about = {"layout": LAYOUT, "payload": payload, "storage": scale.storage, "step": scale.step, **about}
    (folder / DESCRIPTION).write_text(json.dumps(about, indent=1) + "\n")
    return about


@dataclass
class _Seen:
    """What passed: rows, and of all weights the number per term, the largest, whether all were whole; lengths of counts."""

    documents: int
    terms: int
    counts: bool
    rows: int = 0
    largest: float = 0.0
    whole: bool = True
    frequencies: np.ndarray = field(init=False)
    lengths: np.ndarray = field(init=False)
    filled: int = 0
    total_length: int = 0

    def __post_init__(self) -> None:
        self.frequencies = np.zeros(self.terms, np.int64)
        self.lengths = np.zeros(self.documents if self.counts else 0, np.uint8)

    def add(self, block: Sparse) -> None:
        if block.terms != self.terms or self.rows + len(block) > self.documents:
            raise InputError(
                f"rows {self.rows:,} to {self.rows + len(block):,} of {block.terms:,} terms, expected "
                f"{self.documents:,} rows of {self.terms:,}: build with one encoder"
            )
        whole = bool((block.weights == np.rint(block.weights)).all())
        self.largest = max(self.largest, float(block.weights.max(initial=0)))
        self.whole &= whole
        self.frequencies += np.bincount(block.ids, minlength=self.terms)
        self.filled += int((np.diff(block.indptr) > 0).sum())
        if self.counts:
            if not whole or self.largest > _LARGEST_COUNT:
                raise InputError(
                    f"counts from row {self.rows:,} on are not all whole numbers up to {_LARGEST_COUNT:,}: the largest "
                    f"is {self.largest}"
                )
            sums = np.concatenate([[0], np.cumsum(block.weights, dtype=np.int64)])
            lengths = np.diff(sums[block.indptr])
            self.lengths[self.rows : self.rows + len(block)] = length_bytes(lengths)
            self.total_length += int(lengths.sum())
        self.rows += len(block)


@dataclass(frozen=True)
class _Scale:
    """How weights become stored ones: `storage`, and the weight of one unit."""

    storage: str
    step: float

    def codes(self, weights: np.ndarray) -> np.ndarray:
        if self.storage == "float32":
            return weights
        limit = np.iinfo(self.storage).max
        if self.step != 1:
            weights = weights.astype(np.float64) / self.step
        return np.clip(np.rint(weights), 1, limit).astype(self.storage)


def _scale(storage: str, seen: _Seen) -> _Scale:
    if storage == "float32":
        return _Scale(storage, 1.0)
    limit = int(np.iinfo(storage).max)
    if seen.whole and seen.largest <= limit:
        return _Scale(storage, 1.0)
    # Of 8 significant bits, so that a step times a code is a float32 number.
    mantissa, exponent = math.frexp(seen.largest / limit)
    return _Scale(storage, math.ldexp(math.ceil(mantissa * 256), exponent - 8))


#: Lists of all terms: starts (terms + 1,), rows, weights.
_Run = tuple[np.ndarray, np.ndarray, np.ndarray]


def _runs(aside: Path, blocks: Iterable[Sparse], seen: _Seen, held: int) -> Iterator[_Run]:
    """The runs of all blocks: only one, in memory, if all fit, and else mapped files."""
    kept: list[Sparse] = []
    first = number = size = 0
    for block in blocks:
        if kept and size + len(block.ids) > held:
            yield _in_files(aside / f"{number}", _sorted(kept, first, seen))
            first, number, size, kept = seen.rows, number + 1, 0, []
        seen.add(block)
        kept.append(block)
        size += len(block.ids)
    last = _sorted(kept, first, seen)
    yield _in_files(aside / f"{number}", last) if number else last


def _sorted(blocks: list[Sparse], first: int, seen: _Seen) -> _Run:
    from .inversion_loops import by_term

    sizes = np.cumsum([0, *(len(block.ids) for block in blocks)])
    indptr = np.concatenate([[0], *(block.indptr[1:] + size for block, size in zip(blocks, sizes, strict=False))])
    ids = np.concatenate([np.zeros(0, np.int32), *(block.ids for block in blocks)])
    weights = np.concatenate([np.zeros(0, np.float32), *(block.weights for block in blocks)])
    run: _Run = by_term(indptr.astype(np.int64), ids.astype(np.int32), weights.astype(np.float32), first, seen.terms)
    return run


def _in_files(folder: Path, run: _Run) -> _Run:
    folder.mkdir(parents=True)
    for name, array in zip(("starts", "rows", "weights"), run, strict=True):
        write_array(folder / f"{name}.npy", [array], len(array), (), array.dtype)
    return run[0], *(np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("rows", "weights"))


def _write(folder: Path, runs: list[_Run], seen: _Seen, scale: _Scale, held: int) -> dict[str, Any]:
    with ExitStack() as stack:
        lists = _Writer(folder, seen, scale, stack)
        for first, last in _groups(seen.frequencies, held):
            lists.write(first, *_joined(runs, first, last))
        lists.finish()
    write_array(folder / "frequencies.npy", [seen.frequencies], seen.terms, (), np.int32)
    return {
        "documents": seen.documents,
        "terms": seen.terms,
        "postings": int(seen.frequencies.sum()),
        "filled": seen.filled,
        "total_length": seen.total_length,
    }


def _groups(frequencies: np.ndarray, held: int) -> Iterator[tuple[int, int]]:
    """Spans of terms with at most `held` postings together, or of one term."""
    ends = np.cumsum(frequencies)
    first = 0
    while first < len(ends):
        before = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + held, side="right")))
        yield first, last
        first = last


def _joined(runs: list[_Run], first: int, last: int) -> _Run:
    """The lists of the terms first..last of all runs, one after another as rows ascend from run to run."""
    from .inversion_loops import append_lists

    starts = np.zeros(last - first + 1, np.int64)
    np.cumsum(sum(np.diff(run[0][first : last + 1]) for run in runs), out=starts[1:])
    rows, weights = np.empty(starts[-1], np.uint32), np.empty(starts[-1], np.float32)
    places = starts[:-1].copy()
    for run in runs:
        own = run[0][first : last + 1]
        span = slice(int(own[0]), int(own[-1]))
        append_lists(own, np.array(run[1][span]), np.array(run[2][span]), places, rows, weights)
    return starts, rows, weights


class _Writer:
    """Writes lists term by term, each in its shorter form."""

    def __init__(self, folder: Path, seen: _Seen, scale: _Scale, stack: ExitStack) -> None:
        self._folder, self._seen, self._scale = folder, seen, scale
        self._ranges = -(-seen.documents // RANGE)
        ranges, storage = self._ranges, scale.storage
        shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
            "frequent_segments": (np.uint32, (ranges + 1,)),
            "frequent_largest": (storage, (ranges,)),
            "frequent_distances": (np.uint8, ()),
            "frequent_weights": (storage, ()),
            "rare_starts": (np.int64, ()),
            "rare_rows": (np.uint32, ()),
            "rare_largest": (storage, ()),
            "rare_distances": (np.uint16, ()),
            "rare_weights": (storage, ()),
        }
        if seen.counts:
            shapes |= {"frequent_shortest": (np.uint8, (ranges,)), "rare_shortest": (np.uint8, ())}
        self._files = {
            name: stack.enter_context(GrowingArray(folder / f"{name}.npy", *shape)) for name, shape in shapes.items()
        }
        self._slots = np.full(seen.terms, -1, np.int32)
        self._frequent_starts: list[np.ndarray] = []
        self._rare_blocks: list[np.ndarray] = [np.zeros(1, np.int64)]
        self._frequent = self._rare = 0
        self._large: list[tuple[np.ndarray, np.ndarray]] = []

    def write(self, first: int, starts: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> None:
        """Write the lists of terms from `first` on."""
        from .inversion_loops import list_sizes

        codes = self._scale.codes(np.minimum(weights, LARGE) if self._seen.counts else weights)
        entries, blocks = list_sizes(starts, rows)
        width, extra = codes.itemsize, codes.itemsize + self._seen.counts
        sizes = np.diff(starts)
        as_frequent = entries * (1 + width) + self._ranges * (4 + extra) + 8
        as_rare = sizes * (2 + width) + blocks * (12 + extra) + 8
        frequent = np.flatnonzero((sizes > 0) & (as_frequent <= as_rare))
        rare = np.flatnonzero((sizes > 0) & (as_frequent > as_rare))
        self._slots[first + frequent] = self._frequent + np.arange(len(frequent))
        self._slots[first + rare] = -2 - self._rare - np.arange(len(rare))
        self._frequent += len(frequent)
        self._rare += len(rare)
        self._write_frequent(frequent, entries[frequent], starts, rows, codes, weights)
        self._write_rare(rare, blocks[rare], starts, rows, codes, weights)

    def _write_frequent(
        self,
        chosen: np.ndarray,
        entries: np.ndarray,
        starts: np.ndarray,
        rows: np.ndarray,
        codes: np.ndarray,
        counts: np.ndarray,
    ) -> None:
        from .inversion_loops import write_frequent

        begins = np.cumsum(entries) - entries
        distances, weights = np.empty(entries.sum(), np.uint8), np.empty(entries.sum(), codes.dtype)
        segments = np.empty((len(chosen), self._ranges + 1), np.uint32)
        largest = np.zeros((len(chosen), self._ranges), codes.dtype)
        shortest = np.full((len(chosen), self._ranges), 255, np.uint8)
        lengths = self._seen.lengths
        write_frequent(chosen, begins, starts, rows, codes, lengths, distances, weights, segments, largest, shortest)
        before = self._files["frequent_distances"].rows
        self._frequent_starts.append(before + begins)
        self._append("frequent", segments=segments, largest=largest, distances=distances, weights=weights)
        if self._seen.counts:
            self._append("frequent", shortest=shortest)
            self._note_large(before + np.flatnonzero(weights == LARGE), chosen, starts, counts)

    def _write_rare(
        self,
        chosen: np.ndarray,
        blocks: np.ndarray,
        starts: np.ndarray,
        rows: np.ndarray,
        codes: np.ndarray,
        counts: np.ndarray,
    ) -> None:
        from .inversion_loops import write_rare

        size = int(np.diff(starts)[chosen].sum())
        distances, weights = np.empty(size, np.uint16), np.empty(size, codes.dtype)
        begins, bases = np.empty(blocks.sum(), np.int64), np.empty(blocks.sum(), np.uint32)
        largest, shortest = np.zeros(blocks.sum(), codes.dtype), np.full(blocks.sum(), 255, np.uint8)
        lengths = self._seen.lengths
        write_rare(chosen, starts, rows, codes, lengths, distances, weights, begins, bases, largest, shortest)
        before = self._files["rare_distances"].rows
        self._rare_blocks.append(self._files["rare_rows"].rows + np.cumsum(blocks))
        self._append("rare", starts=before + begins, rows=bases, largest=largest)
        self._append("rare", distances=distances, weights=weights)
        if self._seen.counts:
            self._append("rare", shortest=shortest)
            self._note_large(~(before + np.flatnonzero(weights == LARGE)), chosen, starts, counts)

    def _note_large(self, places: np.ndarray, chosen: np.ndarray, starts: np.ndarray, counts: np.ndarray) -> None:
        """Remember the counts that did not fit, in the order of the lists `chosen`."""
        if len(places):
            found = np.flatnonzero(counts >= LARGE)
            terms = np.searchsorted(starts, found, side="right") - 1
            self._large.append((places, counts[found[np.isin(terms, chosen)]]))

    def _append(self, form: str, **arrays: np.ndarray) -> None:
        for name, array in arrays.items():
            self._files[f"{form}_{name}"].append(array)

    def finish(self) -> None:
        """Write what is small enough to have waited."""
        self._files["rare_starts"].append(np.array([self._files["rare_distances"].rows]))
        starts = np.concatenate([np.zeros(0, np.int64), *self._frequent_starts])
        blocks = np.concatenate(self._rare_blocks)
        write_array(self._folder / "slots.npy", [self._slots], len(self._slots), (), np.int32)
        write_array(self._folder / "frequent_starts.npy", [starts], len(starts), (), np.int64)
        write_array(self._folder / "rare_blocks.npy", [blocks], len(blocks), (), np.int64)
        if self._seen.counts:
            places = np.concatenate([np.zeros(0, np.int64), *(places for places, _ in self._large)])
            counts = np.concatenate([np.zeros(0, np.float32), *(counts for _, counts in self._large)])
            order = np.argsort(places)
            write_array(self._folder / "large_places.npy", [places[order]], len(places), (), np.int64)
            write_array(self._folder / "large_counts.npy", [counts[order]], len(places), (), np.float32)
            write_array(self._folder / "lengths.npy", [self._seen.lengths], self._seen.documents, (), np.uint8)
