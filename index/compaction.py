"""Shards without their deleted rows: which are rewritten, how their rows are laid out anew, and the rewriting."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from . import shards as shards_module
from .generations import home_of
from .manifest import Manifest
from .shards import ChangeWriter, build_shard, feed, numbered, shard_entry, standing, summed
from .texts import TextStore, shard_documents


class _Shard(NamedTuple):
    """A shard of the index: its folder, the rows of it that are not deleted, whether it is rewritten."""

    folder: Path
    rows: np.ndarray
    rewritten: bool


#: Rows (m,) int64 of one shard.
Piece = tuple[Path, np.ndarray]


def compacted_shards(
    root: Path, manifest: Manifest, store: TextStore, writer: ChangeWriter, *, dry_run: bool
) -> tuple[list[Path], list[int]] | None:
    """Rewrite the shards with deleted rows, and neighbours that are less than half full, joined. Returns the folders and
    rows of all shards afterwards, in order; None where there is nothing to gain. `dry_run` writes nothing.
    """
    limit = manifest.plan.shard_documents
    runs = [list(run) for _, run in itertools.groupby(_shards(root, manifest, store, limit), lambda s: s.rewritten)]
    runs = [run if _gains(run, limit) else [shard._replace(rewritten=False) for shard in run] for run in runs]
    if not any(run[0].rewritten for run in runs):
        return None
    if dry_run:
        return [], []
    state = hashlib.sha256(repr((manifest.folders, manifest.shards, store.deleted.tolist())).encode()).hexdigest()
    home = home_of(root, manifest, {"operation": "compact", "corpus": "", "state": state})
    folders: list[Path] = []
    rows: list[int] = []
    numbers = itertools.count()
    for run in runs:
        if run[0].rewritten:
            carried = Counter(summed(shard_entry(shard.folder)["counts"] for shard in run))
            for pieces in _cut(run, limit):
                folders.append(_rewritten(numbered(home, next(numbers)), pieces, writer, carried))
                carried = Counter(dict.fromkeys(carried, 0))  # the run's first new shard has them
                rows.append(sum(len(kept) for _, kept in pieces))
        else:
            folders += [shard.folder for shard in run]
            rows += [len(shard.rows) for shard in run]
    return folders, rows


def _shards(root: Path, manifest: Manifest, store: TextStore, limit: int) -> Iterator[_Shard]:
    first = 0
    for folder, count in zip(manifest.shard_folders(root), manifest.shards, strict=True):
        gone = store.deleted[slice(*np.searchsorted(store.deleted, [first, first + count]))] - first
        yield _Shard(folder, np.delete(np.arange(count), gone), bool(len(gone)) or 2 * count < limit)
        first += count


def _gains(run: list[_Shard], limit: int) -> bool:
    """Whether rewriting the neighbours in `run` drops a row, or makes them fewer by the limits of rows and text."""
    if not run[0].rewritten:
        return False
    stored = [shard_entry(shard.folder)["documents"] for shard in run]
    if sum(stored) > sum(len(shard.rows) for shard in run):
        return True
    size = sum((shard.folder / "texts.bin").stat().st_size for shard in run)
    return len(run) > max(-(-sum(stored) // limit), -(-size // shards_module.SHARD_CHARACTERS))


def _cut(run: list[_Shard], limit: int) -> Iterator[list[Piece]]:
    """The rows of a run as consecutive new shards, cut as a build cuts."""
    pieces: list[Piece] = []
    held = size = 0
    for shard in run:
        offsets = np.load(shard.folder / "texts.npy", mmap_mode="r")
        sizes = np.diff(offsets[::2])[shard.rows].tolist()
        start = 0
        for i, length in enumerate(sizes, 1):
            held, size = held + 1, size + length
            if held == limit or size >= shards_module.SHARD_CHARACTERS:
                yield [*pieces, (shard.folder, shard.rows[start:i])]
                pieces, held, size, start = [], 0, 0, i
        if start < len(sizes):
            pieces.append((shard.folder, shard.rows[start:]))
    if pieces:
        yield pieces


def _rewritten(final: Path, pieces: list[Piece], writer: ChangeWriter, carried: Counter[str]) -> Path:
    """Make the shard `final` of rows of others, unless it stands. `carried` are counts that it takes over."""
    if standing(final) is None:
        documents = [document for folder, rows in pieces for document in shard_documents(folder, rows)]
        digest = hashlib.sha256()
        feed(digest, documents, str(final))
        build_shard(final, documents, digest.hexdigest(), partial(_counted, writer, pieces=pieces, carried=carried))
    return final


def _counted(writer: ChangeWriter, folder: Path, pieces: list[Piece], carried: Counter[str]) -> dict[str, int]:
    """Rewrite and count. What is not known of single rows (truncated texts) is taken over from the old shards."""
    known = dict(writer.rewrite(folder, pieces))
    return {name: n for name, n in carried.items() if name not in ("empty_texts", *known)} | known
