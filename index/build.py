"""The durable build: shards made aside, synced and renamed; the manifest last. Kill it anywhere and run it again.

plan.json            what is being built, written first; a build resumes only under an equal plan
training/            what a kind learns from the documents before it makes shards (`TrainedWriter`); gone once the index is whole
lock                 held (flock) while somebody builds
shards/00000/        documents in corpus order: texts and ids (texts.py), the kind's own files, shard.json
whole/               what spans all shards: the id tables (texts.py), the kind's own files
manifest.json        written last, by rename: its presence is what makes the index whole
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError, SetupError, UsageError
from ..progress import progress
from ..records import Document
from .durable import commit_folder, explained, remove, sync, writer_lock
from .manifest import (
    MANIFEST,
    PLAN,
    TRAINING,
    Manifest,
    Plan,
    library_versions,
    now,
    read_plan,
    write_manifest,
    write_plan,
)
from .metadata import write_metadata_table
from .shards import Entry, ShardWriter, build_shards, cut, fingerprint, numbered, shard_files, summed, whole_files
from .texts import write_id_tables

__all__ = ["ShardWriter", "build_index", "fingerprint"]

_OURS = {PLAN, MANIFEST, TRAINING, "lock", "shards", "whole", "whole.tmp"}

#: What changes of an index make (changes.py).
CHANGED = re.compile(r"(shards|whole)-\d{5}(\.tmp)?|deleted-\d{5}\.npy|manifest-\d{5}\.json")


def build_index(
    path: str | Path,
    documents: Iterable[Document],
    writer: ShardWriter,
    plan: Plan,
    *,
    total: int | None = None,
    overwrite: bool = False,
) -> Manifest:
    """Build the index `plan` describes in the folder `path`, or go on with a build that was interrupted there.

    `documents` are read in order: once, or more often where the writer learns from them (`TrainedWriter`), and then they must
    not be an iterator (`UsageError`). Memory holds one shard of them and at most 24 bytes a document of id hashes. `total`
    is for the progress bar. A whole index is left alone unless `overwrite`, which first makes it absent and starts anew.

    Raises `SetupError` for a folder that holds something else, a whole index, another plan, a running writer or a full
    disk; `InputError` for an empty corpus, a repeated id, or a corpus that changed since the interrupted build began.
    """
    root = Path(path)
    train = getattr(writer, "train", None)
    if train is not None and iter(documents) is documents:
        raise UsageError(
            f"{root}: a build of the kind {plan.kind} goes over the documents more than once, and an iterator can't be: give a "
            f"list, or an object whose __iter__ begins anew"
        )
    with explained(root), _folder(root, overwrite):
        recorded = read_plan(root) if not overwrite else None
        if recorded and (lines := plan.differences(recorded)):
            raise SetupError(
                f"{root}: an interrupted build of another index is here ({'; '.join(lines)}): repeat its options to go "
                f"on with it, or build with overwrite, or elsewhere"
            )
        passing: Iterator[Document] = iter(documents)
        first = next(passing, None)
        if first is None:
            raise InputError(f"{plan.corpus}: the corpus has no documents, so there is nothing to index")
        _clear(root, everything=overwrite)
        write_plan(root, plan)
        passing = itertools.chain([first], passing)
        learnt_of = None
        if train is not None:
            learnt_of, passing = train(root / TRAINING, documents, plan), iter(documents)
        with progress(f"index {root.name}", total, "docs") as advance:
            shards = cut(passing, plan.shard_documents)
            entries = build_shards(root / "shards", shards, writer, plan.corpus, advance, remedy="build with overwrite")
            if learnt_of not in (None, entries[-1]["fingerprint"]):
                raise InputError(
                    f"{root}: the corpus {plan.corpus} changed between the passes over it: build with overwrite"
                )
            counts = _build_whole(root, writer, [entry["documents"] for entry in entries])
        manifest = _describe(root, plan, writer, entries, counts)
        write_manifest(root, manifest)
        remove(root / TRAINING)
    return manifest


@contextmanager
def _folder(root: Path, overwrite: bool) -> Iterator[None]:
    """The folder, locked. One that this build made and then did not use disappears again."""
    _refuse_foreign(root)
    made = not root.exists()
    root.mkdir(parents=True, exist_ok=True)
    if made:
        sync(root.parent)
    try:
        with writer_lock(root):
            if (root / MANIFEST).exists() and not overwrite:
                raise SetupError(
                    f"{root}: an index is here already: use it, choose another folder, or build with overwrite"
                )
            yield
    finally:
        if made and not os.listdir(root):
            root.rmdir()


def _refuse_foreign(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise SetupError(f"{root}: a file is in the way of the index folder: choose another name")
    names = set(os.listdir(root)) if root.exists() else set()
    if strange := sorted(name for name in names - _OURS if not (_is_leftover(name) or CHANGED.fullmatch(name))):
        raise SetupError(
            f"{root}: the folder holds other files ({', '.join(strange[:3])}): choose an empty or new folder"
        )


def _is_leftover(name: str) -> bool:
    """Names that `write_whole` gives files which it has not finished."""
    return name.endswith(".tmp") and name.startswith((f".{PLAN}.", f".{MANIFEST}."))


def _clear(root: Path, *, everything: bool) -> None:
    """Remove what an interrupted build left unfinished; or everything, the manifest first: without it all is absent."""
    if everything:
        remove(root / MANIFEST)
        sync(root)
        remove(root / PLAN)
        remove(root / TRAINING)
        remove(root / "shards")
        for name in filter(CHANGED.fullmatch, os.listdir(root)):
            remove(root / name)
    for name in os.listdir(root):
        if _is_leftover(name) or name in ("whole", "whole.tmp"):
            remove(root / name)
    for aside in root.glob("shards/*.tmp"):
        remove(aside)
    (root / "shards").mkdir(exist_ok=True)
    sync(root)


def _build_whole(root: Path, writer: ShardWriter, rows: list[int]) -> Mapping[str, int]:
    aside = root / "whole.tmp"
    aside.mkdir()
    folders = [numbered(root / "shards", number) for number in range(len(rows))]
    try:
        write_id_tables(aside, folders)
        write_metadata_table(aside, folders, rows)
        counts = writer.finish(aside, folders) or {}
        commit_folder(aside, root / "whole")
    except BaseException:
        remove(aside)
        raise
    return counts


def _describe(root: Path, plan: Plan, writer: ShardWriter, entries: list[Entry], whole: Mapping[str, int]) -> Manifest:
    files = whole_files(root, root / "whole")
    for number, entry in enumerate(entries):
        files |= shard_files(root, numbered(root / "shards", number), entry)
    return Manifest(
        plan=plan,
        documents=sum(entry["documents"] for entry in entries),
        fingerprint=entries[-1]["fingerprint"],
        shards=[entry["documents"] for entry in entries],
        counts=summed([whole, *(entry["counts"] for entry in entries)]),
        versions=library_versions(writer.libraries),
        files=dict(sorted(files.items())),
        created=now(),
    )
