"""Adding to an index, deleting from it, compacting it: each makes a new generation, whole or not at all.

Kill a change anywhere: the index opens as it was, or changed; repeated, a change goes on after the last finished shard.
How generations and their readers get along is in generations.py.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..errors import InputError, UsageError
from ..ids import id_column
from ..progress import progress
from ..records import Document
from ..registry import entries, find
from ..vectors import Dense, EncoderSpec
from .compaction import compacted_shards
from .durable import (
    FileTable,
    check_files,
    commit_folder,
    explained,
    file_entry,
    remove,
    sync,
    write_array,
    writer_lock,
)
from .generations import clean, commit, home_of, newest
from .manifest import Manifest, library_versions, now
from .metadata import write_metadata_table
from .shards import (
    ChangeWriter,
    build_shards,
    cut,
    is_empty,
    numbered,
    shard_entry,
    shard_files,
    stored_fingerprint,
    summed,
    whole_files,
)
from .texts import TextStore, shard_documents, write_id_tables

logger = logging.getLogger("cribble")

#: Ids that an error names.
_NAMED = 5

#: Documents whose ids are looked up together.
_LOOKED_UP = 4096


@dataclass(frozen=True)
class Change:
    """What a change did, or would do: documents `added`, `replaced` (of those added) and `deleted`, ids that were
    `unknown`, and the `manifest` afterwards.
    """

    manifest: Manifest
    added: int = 0
    replaced: int = 0
    deleted: int = 0
    unknown: int = 0


def add_documents(
    path: str | Path,
    documents: Callable[[], Iterable[Document]],
    encode: Callable[[list[Document]], Dense],
    *,
    spec: EncoderSpec,
    corpus: str,
    truncated: Callable[[], int] | None = None,
    replacing: bool = False,
) -> Change:
    """Add documents to the index in the folder `path`; `replacing` deletes those that have the same ids.

    `documents` starts a pass over them; there are two, as ids are looked at before anything is encoded. `spec` is the
    identity of `encode` and must be the recorded one; `corpus` names the documents; `truncated` is the encoder's
    running count of cut texts. A repeated addition that was killed goes on with its shards, whichever deletions came in
    between. Memory holds one shard of documents and 24 bytes for each row of the index.

    Raises `InputError` for another encoder, an id that is there already (without `replacing`) or comes twice, and for
    no documents; `SetupError` for another writer or an interrupted addition of something else.
    """
    with _changing(path) as (root, manifest):
        writer = _writer(root, manifest, encode, truncated)
        manifest.require_encoder(spec, root)
        store = TextStore(root, manifest)
        total, known = _count_known(store, documents(), corpus, refuse=not replacing)
        home = home_of(root, manifest, {"operation": "add", "corpus": corpus, "shard_documents": _limit(manifest)})
        with progress(f"add to {root.name}", total, "docs") as advance:
            shards = cut(documents(), _limit(manifest))
            new = build_shards(home, shards, writer, corpus, advance, remedy=f"delete {home} and add it anew")
        added = [numbered(home, number) for number in range(len(new))]
        folders = [*manifest.shard_folders(root), *added]
        rows = [*manifest.shards, *(entry["documents"] for entry in new)]
        before = manifest.whole_folder(root)
        whole = _make_whole(root, manifest, folders, rows, lambda f: writer.extend(f, before, folders, added))
        deleted = np.union1d(store.deleted, known)
        changed = replace(
            _next(root, manifest, writer, folders, rows, deleted, whole),
            added=list(dict.fromkeys([*manifest.added, corpus])),
        )
        commit(root, changed)
    return Change(changed, added=total, replaced=len(known))


def count_additions(
    path: str | Path, documents: Callable[[], Iterable[Document]], corpus: str, *, replacing: bool = False
) -> Change:
    """What `add_documents` would do, and its errors over ids, without encoding or changing anything."""
    root = Path(path)
    manifest = newest(root)
    _writer(root, manifest)
    total, known = _count_known(TextStore(root, manifest), documents(), corpus, refuse=not replacing)
    return Change(manifest, added=total, replaced=len(known))


def delete_documents(
    path: str | Path, ids: Collection[str], *, ignore_unknown: bool = False, dry_run: bool = False
) -> Change:
    """Delete documents by id: they are not found any more; their room on the disk comes back with `compact_index`.

    Ids that the index does not have raise `InputError` with their count and the first of them, or, with
    `ignore_unknown`, are counted in the answer.
    """
    with _changing(path, dry_run) as (root, manifest):
        writer = _writer(root, manifest)
        store = TextStore(root, manifest)
        asked = list(dict.fromkeys(ids))
        rows = store.rows_of(asked)
        unknown = [doc_id for doc_id, row in zip(asked, rows, strict=True) if row < 0]
        if unknown and not ignore_unknown:
            raise InputError(
                f"{root}: {len(unknown)} of {len(asked)} ids are not in the index ({_shown(unknown)}): correct them, or "
                f"ignore unknown ids"
            )
        gone = np.sort(rows[rows >= 0])
        if not len(gone) or dry_run:
            return Change(manifest, deleted=len(gone), unknown=len(unknown))
        deleted = np.union1d(store.deleted, gone)
        changed = _next(root, manifest, writer, manifest.shard_folders(root), manifest.shards, deleted)
        commit(root, changed)
    return Change(changed, deleted=len(gone), unknown=len(unknown))


def compact_index(path: str | Path, *, dry_run: bool = False) -> Change:
    """Rewrite the shards that hold deleted documents, without them, and join small ones; nothing is encoded.

    The other shards stay as they are. Nothing happens where there is nothing to gain.
    """
    with _changing(path, dry_run) as (root, manifest):
        writer = _writer(root, manifest)
        store = TextStore(root, manifest)
        if not len(store):
            raise UsageError(f"{root}: all documents are deleted: delete the folder, or add documents first")
        made = compacted_shards(root, manifest, store, writer, dry_run=dry_run)
        if made is None or dry_run:
            return Change(manifest, deleted=len(store.deleted))
        folders, rows = made
        whole = _make_whole(root, manifest, folders, rows, lambda folder: writer.finish(folder, folders))
        changed = _next(root, manifest, writer, folders, rows, np.zeros(0, np.int64), whole)
        if changed.fingerprint != manifest.fingerprint:
            raise InputError(
                f"{root}: the documents read back are not those that were indexed, so nothing was changed: look for the "
                f"damage with `cribble doctor {root}`"
            )
        commit(root, changed)
    return Change(changed, deleted=len(store.deleted))


def tidy(path: str | Path) -> None:
    """Remove what only generations need that nobody reads any more. Every change does so as well."""
    with explained(Path(path)), writer_lock(Path(path)):
        clean(Path(path))


@contextmanager
def _changing(path: str | Path, dry_run: bool = False) -> Iterator[tuple[Path, Manifest]]:
    """The index, locked against other writers, and its manifest; unfinished leftovers are gone."""
    root = Path(path)
    manifest = newest(root)  # a folder without an index is told from a locked one
    if dry_run:
        yield root, manifest
        return
    with explained(root), writer_lock(root):
        clean(root)
        manifest = newest(root)
        check_files(root, manifest.files, contents=False, remedy="build the index again with overwrite")
        yield root, manifest


def _writer(
    root: Path,
    manifest: Manifest,
    encode: Callable[[list[Document]], Dense] | None = None,
    truncated: Callable[[], int] | None = None,
) -> ChangeWriter:
    kind: Any = find("index", manifest.kind) if manifest.kind in entries("index") else None
    if not hasattr(kind, "change_writer"):
        raise UsageError(f"{root}: an index of the kind {manifest.kind!r} can't be changed: build it again")
    writer: ChangeWriter = kind.change_writer(manifest, encode or _no_encoder, truncated)
    if hasattr(writer, "change"):
        writer.change(manifest.whole_folder(root))
    return writer


def _no_encoder(documents: list[Document]) -> Dense:
    raise RuntimeError("nothing is encoded here")


def _limit(manifest: Manifest) -> int:
    return manifest.plan.shard_documents


def _count_known(
    store: TextStore, documents: Iterable[Document], corpus: str, *, refuse: bool
) -> tuple[int, np.ndarray]:
    """The number of documents, and the rows (m,) of those whose ids are in the index, which is an error if `refuse`."""
    total = 0
    known: list[np.ndarray] = []
    names: list[str] = []
    documents = iter(documents)
    while batch := [document.id for document in itertools.islice(documents, _LOOKED_UP)]:
        rows = store.rows_of(id_column(batch, f"{corpus}: document id"))
        total += len(batch)
        known.append(rows[rows >= 0])
        names += [doc_id for doc_id, row in zip(batch, rows, strict=True) if row >= 0][: _NAMED + 1 - len(names)]
    if not total:
        raise InputError(f"{corpus}: the corpus has no documents, so there is nothing to add")
    found = np.concatenate(known)
    if refuse and len(found):
        raise InputError(
            f"{corpus}: {len(found)} of {total} documents have ids that are in the index already ({_shown(names)}): "
            f"replace them, or give them other ids"
        )
    return total, np.unique(found)


def _shown(ids: list[str]) -> str:
    return ", ".join(map(repr, ids[:_NAMED])) + (", …" if len(ids) > _NAMED else "")


# ---- a new generation -----------------------------------------------------------------------------------------------


def _make_whole(
    root: Path,
    manifest: Manifest,
    folders: list[Path],
    rows: list[int],
    write: Callable[[Path], Mapping[str, int] | None],
) -> tuple[Path, Mapping[str, int]]:
    """Make the next generation's folder of what spans all shards. Returns it and what the kind's `write` counted."""
    final = root / f"whole-{manifest.generation + 1:05d}"
    aside = final.with_name(f"{final.name}.tmp")
    aside.mkdir()
    try:
        write_id_tables(aside, folders)
        write_metadata_table(aside, folders, rows)
        counts = write(aside) or {}
        commit_folder(aside, final)
    except BaseException:
        remove(aside)
        raise
    return final, counts


def _next(
    root: Path,
    manifest: Manifest,
    writer: ChangeWriter,
    folders: list[Path],
    rows: list[int],
    deleted: np.ndarray,
    whole: tuple[Path, Mapping[str, int]] | None = None,
) -> Manifest:
    """The next generation's manifest, and its tombstones on the disk. Without `whole`, that stays as it is."""
    stones = f"deleted-{manifest.generation + 1:05d}.npy" if len(deleted) else ""
    if stones:
        write_array(root / stones, [deleted], len(deleted), (), np.int64)
        sync(root / stones)
        sync(root)
    counts = _shard_counts(writer, folders, rows, deleted)
    of_whole = {name: n for name, n in manifest.counts.items() if name not in counts} if whole is None else whole[1]
    return replace(
        manifest,
        documents=sum(rows) - len(deleted),
        fingerprint=stored_fingerprint(folders, rows, deleted),
        shards=list(rows),
        counts=summed([counts, of_whole]),
        versions=library_versions(writer.libraries),
        files=_files(root, manifest, folders, whole[0] if whole else None, stones),
        created=now(),
        generation=manifest.generation + 1,
        folders=[folder.relative_to(root).as_posix() for folder in folders],
        whole=whole[0].name if whole else manifest.whole,
        tombstones=stones,
    )


def _shard_counts(writer: ChangeWriter, folders: list[Path], rows: list[int], deleted: np.ndarray) -> dict[str, int]:
    """The counts of all shards less what the deleted rows contributed, as far as that is known of single rows."""
    parts = []
    first = 0
    for folder, count in zip(folders, rows, strict=True):
        parts.append(shard_entry(folder)["counts"])
        gone = deleted[slice(*np.searchsorted(deleted, [first, first + count]))] - first
        if len(gone):
            known = {"empty_texts": sum(map(is_empty, shard_documents(folder, gone))), **writer.counts_of(folder, gone)}
            parts.append({name: -n for name, n in known.items()})
        first += count
    return summed(parts)


def _files(root: Path, manifest: Manifest, folders: list[Path], whole: Path | None, stones: str) -> FileTable:
    """The manifest's table: lines of shards and of `whole` that stay are taken over, the others are made."""
    old = set(manifest.shard_folders(root))
    kept = {folder.relative_to(root).as_posix() for folder in folders if folder in old}
    kept |= {manifest.whole} if whole is None else set()
    files = {
        name: line
        for name, line in manifest.files.items()
        if not kept.isdisjoint(parent.as_posix() for parent in PurePosixPath(name).parents)
    }
    for folder in folders:
        if folder not in old:
            files |= shard_files(root, folder, shard_entry(folder))
    if whole is not None:
        files |= whole_files(root, whole)
    if stones:
        files[stones] = file_entry(root / stones)
    return dict(sorted(files.items()))
