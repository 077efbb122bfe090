"""The durable build: shards made aside, synced and renamed; the manifest last. Kill it anywhere and run it again.

plan.json            what is being built, written first; a build resumes only under an equal plan
lock                 held (flock) while somebody builds
shards/00000/        documents in corpus order: texts and ids (texts.py), the kind's own files, shard.json
whole/               what spans all shards: the id tables (texts.py), the kind's own files
manifest.json        written last, by rename: its presence is what makes the index whole
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow.compute as pc

from ..errors import CribbleError, InputError, SetupError
from ..ids import hashes, id_column
from ..progress import Advance, progress
from ..records import Document, metadata_of
from .durable import check_files, commit_folder, explained, file_table, remove, sync, writer_lock
from .manifest import MANIFEST, PLAN, Manifest, Plan, library_versions, now, read_plan, write_manifest, write_plan
from .metadata import check_names, metadata_line, write_metadata_table, write_shard_metadata
from .seen import SeenHashes
from .texts import read_ids, write_id_tables, write_texts

logger = logging.getLogger("cribble")

#: A shard is closed early at this many characters of text, so that long documents cannot fill the memory.
SHARD_CHARACTERS = 1 << 27

_OURS = {PLAN, MANIFEST, "lock", "shards", "whole", "whole.tmp"}


class ShardWriter(Protocol):
    """The part of a build that an index kind brings."""

    @property
    def libraries(self) -> Sequence[str]:
        """Distributions whose versions the manifest records."""
        ...

    def write(self, folder: Path, documents: list[Document], advance: Advance) -> Mapping[str, int]:
        """Write the kind's own files of one shard into `folder` (any names but texts.*, ids.*, shard.json; sub-folders
        are fine), closed but not yet synced. Call `advance(n)` as documents get done, `len(documents)` in all.
        The bytes must depend on the documents and the plan alone. Returns counts, such as `truncated_texts`, that are
        summed over the shards.
        """
        ...

    def finish(self, folder: Path, shards: list[Path]) -> None:
        """Write what spans all shards into `folder` (any names but ids.*), from the finished `shards`."""
        ...


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

    `documents` are read once, in order; memory holds one shard of them and at most 24 bytes a document of id hashes. `total` is
    for the progress bar. A whole index is left alone unless `overwrite`, which first makes it absent and starts anew.

    Raises `SetupError` for a folder that holds something else, a whole index, another plan, a running writer or a full
    disk; `InputError` for an empty corpus, a repeated id, or a corpus that changed since the interrupted build began.
    """
    root = Path(path)
    with explained(root), _folder(root, overwrite), progress(f"index {root.name}", total, "docs") as advance:
        recorded = read_plan(root) if not overwrite else None
        if recorded and (lines := plan.differences(recorded)):
            raise SetupError(
                f"{root}: an interrupted build of another index is here ({'; '.join(lines)}): repeat its options to go "
                f"on with it, or build with overwrite, or elsewhere"
            )
        documents = iter(documents)
        first = next(documents, None)
        if first is None:
            raise InputError(f"{plan.corpus}: the corpus has no documents, so there is nothing to index")
        _clear(root, everything=overwrite)
        write_plan(root, plan)
        shards = _cut(itertools.chain([first], documents), plan.shard_documents)
        entries = _build_shards(root, shards, writer, plan, advance)
        _build_whole(root, writer, [entry["documents"] for entry in entries])
        manifest = _describe(root, plan, writer, entries)
        write_manifest(root, manifest)
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
    if strange := sorted(name for name in names - _OURS if not _is_leftover(name)):
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
        remove(root / "shards")
    for name in os.listdir(root):
        if _is_leftover(name) or name in ("whole", "whole.tmp"):
            remove(root / name)
    for aside in root.glob("shards/*.tmp"):
        remove(aside)
    (root / "shards").mkdir(exist_ok=True)
    sync(root)


def _cut(documents: Iterable[Document], limit: int) -> Iterator[list[Document]]:
    """Consecutive shards; where they end depends on documents and limits only, so a resumed build cuts alike."""
    shard: list[Document] = []
    characters = 0
    for document in documents:
        shard.append(document)
        characters += len(document.text) + len(document.title)
        if len(shard) == limit or characters >= SHARD_CHARACTERS:
            yield shard
            shard, characters = [], 0
    if shard:
        yield shard


def _build_shards(
    root: Path, shards: Iterable[list[Document]], writer: ShardWriter, plan: Plan, advance: Advance
) -> list[dict[str, Any]]:
    """Make every shard that does not stand yet, check those that do against the corpus. Returns all `shard.json`."""
    digest = hashlib.sha256()
    seen = SeenHashes()
    entries: list[dict[str, Any]] = []
    for documents in shards:
        number = len(entries)
        _feed(digest, documents, plan.corpus)
        _refuse_duplicates(root, documents, seen, number, plan.corpus)
        entry = _standing(_shard_folder(root, number))
        if entry is None:
            entry = _build_shard(root, number, documents, writer, digest.hexdigest(), advance)
        elif entry["documents"] != len(documents) or entry["fingerprint"] != digest.hexdigest():
            raise InputError(_changed(root, plan, f"shard {number}, {entry['documents']} documents, differs"))
        else:
            advance(len(documents))
        entries.append(entry)
        del documents  # or it would stay while the next shard is read
    standing = sum(1 for p in (root / "shards").iterdir() if p.is_dir())
    if standing > len(entries):
        raise InputError(_changed(root, plan, f"it fills {len(entries)} shards, {standing} stand"))
    return entries


def _changed(root: Path, plan: Plan, how: str) -> str:
    return (
        f"{root}: the corpus {plan.corpus} is not the one that the interrupted build has read ({how}): restore it, or "
        f"build with overwrite"
    )


def _shard_folder(root: Path, number: int) -> Path:
    return root / "shards" / f"{number:05d}"


def _standing(folder: Path) -> dict[str, Any] | None:
    """What a finished shard says of itself; one that is damaged is removed, with a warning, to be built again."""
    if not folder.exists():
        return None
    try:
        entry: dict[str, Any] = json.loads((folder / "shard.json").read_bytes())
        check_files(folder, entry["files"], contents=True, remedy="it is built again")
    except (CribbleError, OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s: a finished shard is damaged and is built again (%s)", folder, error)
        remove(folder)
        return None
    return entry


def _build_shard(
    root: Path, number: int, documents: list[Document], writer: ShardWriter, fingerprint: str, advance: Advance
) -> dict[str, Any]:
    final = _shard_folder(root, number)
    aside = final.with_name(f"{final.name}.tmp")
    aside.mkdir()
    try:
        counts = {"empty_texts": sum(not (d.text.strip() or d.title.strip()) for d in documents)}
        counts.update(writer.write(aside, documents, advance))
        write_texts(aside, documents)
        write_shard_metadata(aside, documents)
        entry = {"documents": len(documents), "fingerprint": fingerprint, "counts": counts, "files": file_table(aside)}
        (aside / "shard.json").write_text(json.dumps(entry, indent=1, sort_keys=True) + "\n")
        commit_folder(aside, final)
    except BaseException:  # also Ctrl-C: give the room on the disk back
        remove(aside)
        raise
    return entry


def _build_whole(root: Path, writer: ShardWriter, rows: list[int]) -> None:
    aside = root / "whole.tmp"
    aside.mkdir()
    folders = [_shard_folder(root, number) for number in range(len(rows))]
    try:
        write_id_tables(aside, folders)
        write_metadata_table(aside, folders, rows)
        writer.finish(aside, folders)
        commit_folder(aside, root / "whole")
    except BaseException:
        remove(aside)
        raise


def _describe(root: Path, plan: Plan, writer: ShardWriter, entries: list[dict[str, Any]]) -> Manifest:
    counts: dict[str, int] = {}
    files = {}
    for number, entry in enumerate(entries):
        for name, count in entry["counts"].items():
            counts[name] = counts.get(name, 0) + count
        folder = _shard_folder(root, number)
        prefix = folder.relative_to(root).as_posix()
        files.update({f"{prefix}/{name}": recorded for name, recorded in entry["files"].items()})
        files[f"{prefix}/shard.json"] = file_table(folder, entry["files"])["shard.json"]
    files.update({f"whole/{name}": recorded for name, recorded in file_table(root / "whole").items()})
    return Manifest(
        plan=plan,
        documents=sum(entry["documents"] for entry in entries),
        fingerprint=entries[-1]["fingerprint"],
        shards=[entry["documents"] for entry in entries],
        counts=dict(sorted(counts.items())),
        versions=library_versions(writer.libraries),
        files=files,
        created=now(),
    )


# ---- the corpus as it passes -----------------------------------------------------------------------------------------


def fingerprint(documents: Iterable[Document], corpus: str) -> str:
    """SHA-256 over all ids, texts, titles and metadata in order: what a manifest records of its corpus."""
    digest = hashlib.sha256()
    for document in documents:
        _feed(digest, [document], corpus)
    return digest.hexdigest()


def _feed(digest: Any, documents: list[Document], corpus: str) -> None:
    """Add the documents to the running fingerprint; lengths go first, so that fields cannot run into each other."""
    for document in documents:
        try:
            parts = [field.encode() for field in (document.id, document.text, document.title)]
        except UnicodeEncodeError as error:
            raise InputError(
                f"{corpus}: document {document.id!r} holds half of a surrogate pair at character {error.start}, which "
                f"is no valid Unicode: repair the text"
            ) from error
        except AttributeError as error:
            raise InputError(f"{corpus}: document {document.id!r}: id, text and title must be str ({error})") from error
        digest.update(b"%d %d %d\n" % tuple(map(len, parts)))
        digest.update(b"".join(parts))
        if metadata_of(document):
            check_names(document)
            digest.update(metadata_line(document))


def _refuse_duplicates(root: Path, documents: list[Document], seen: SeenHashes, number: int, corpus: str) -> None:
    """Raise for an id that came before, in this shard or an earlier one; hashes find candidates, exact ids decide."""
    ids = id_column([document.id for document in documents], f"{corpus}: document id")
    suspects = ids.filter(seen.add(hashes(ids)))
    if not len(suspects):
        return
    counted = pc.value_counts(ids.filter(pc.is_in(ids, value_set=suspects))).to_pylist()
    repeated = next((row["values"] for row in counted if row["counts"] > 1), None)
    for earlier in range(number if repeated is None else 0):
        known = read_ids(_shard_folder(root, earlier))
        both = known.filter(pc.is_in(known, value_set=suspects))
        if len(both):
            repeated = both[0].as_py()
            break
    if repeated is not None:
        raise InputError(
            f"{corpus}: the document id {repeated!r} occurs more than once: give every document its own id"
        )
