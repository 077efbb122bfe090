"""Shards: made aside, synced and renamed, so that each is whole or absent; and the corpus as it passes into them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.compute as pc

from ..errors import CribbleError, InputError
from ..ids import hashes, id_column
from ..progress import Advance
from ..records import Document, metadata_of
from .durable import FileTable, check_files, commit_folder, file_entry, file_table, remove
from .manifest import Plan
from .metadata import SHARD_FILE as METADATA
from .metadata import check_names, metadata_line, write_shard_metadata
from .seen import SeenHashes
from .texts import read_ids, write_texts

logger = logging.getLogger("cribble")

#: A shard is closed early at this many characters of text, so that long documents cannot fill the memory.
SHARD_CHARACTERS = 1 << 27

#: What `shard.json` holds: documents, fingerprint of the corpus up to its end, counts, files.
Entry = dict[str, Any]


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

    def finish(self, folder: Path, shards: list[Path]) -> Mapping[str, int] | None:
        """Write what spans all shards into `folder` (any names but ids.*), from the finished `shards`. May return counts
        of the whole index, such as bytes a document, for the manifest.
        """
        ...


class TrainedWriter(ShardWriter, Protocol):
    """What an index kind brings that learns from the documents before they become shards."""

    def train(self, folder: Path, documents: Iterable[Document], plan: Plan) -> str:
        """Learn from `documents`, gone over as often as need be, into `folder`, which a resumed build finds as it was left.
        Returns the fingerprint of the documents.
        """
        ...


class ChangeWriter(ShardWriter, Protocol):
    """What an index kind brings besides, so that its indexes can be changed: its class has a `change_writer`.

    Where a writer has a method `change`, it is given the folder of what spans all shards as they are before the change.
    """

    def extend(self, folder: Path, before: Path, shards: list[Path], new: list[Path]) -> Mapping[str, int] | None:
        """As `finish`, into `folder`, but from what an earlier `finish` or `extend` wrote into `before`, which must stay
        as it is, and the vectors of `new`, the last of `shards`. Rows that are deleted since are still counted.
        """
        ...

    def rewrite(self, folder: Path, pieces: list[tuple[Path, np.ndarray]]) -> Mapping[str, int]:
        """As `write`, but from what `write` made before: rows (m,) int64, ascending, of finished shards, in order.
        Counts that are not known of single rows are left out.
        """
        ...

    def counts_of(self, shard: Path, rows: np.ndarray) -> Mapping[str, int]:
        """What `rows` (m,) int64 of a finished shard contributed to the counts, as far as that is known."""
        ...


def cut(documents: Iterable[Document], limit: int) -> Iterator[list[Document]]:
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


def build_shards(
    home: Path, shards: Iterable[list[Document]], writer: ShardWriter, corpus: str, advance: Advance, *, remedy: str
) -> list[Entry]:
    """Make every shard in the folder `home` that does not stand there yet, check those that do against the corpus.

    Returns all `shard.json`. `InputError` for a repeated id, or a corpus that is not the one which the shards that stand
    are of; `remedy` is what to do then.
    """
    digest = hashlib.sha256()
    seen = SeenHashes()
    entries: list[Entry] = []

    def changed(how: str) -> InputError:
        return InputError(
            f"{home.parent}: the corpus {corpus} is not the one that was read before the interruption ({how}): restore "
            f"it, or {remedy}"
        )

    for documents in shards:
        number = len(entries)
        feed(digest, documents, corpus)
        _refuse_duplicates(home, documents, seen, number, corpus)
        entry = standing(numbered(home, number))
        if entry is None:
            make = partial(writer.write, documents=documents, advance=advance)
            entry = build_shard(numbered(home, number), documents, digest.hexdigest(), make)
        elif entry["documents"] != len(documents) or entry["fingerprint"] != digest.hexdigest():
            raise changed(f"shard {number}, {entry['documents']} documents, differs")
        else:
            advance(len(documents))
        entries.append(entry)
        del documents  # or it would stay while the next shard is read
    there = sum(1 for p in home.iterdir() if p.is_dir())
    if there > len(entries):
        raise changed(f"it fills {len(entries)} shards, {there} stand")
    return entries


def numbered(home: Path, number: int) -> Path:
    """The folder of a shard."""
    return home / f"{number:05d}"


def standing(folder: Path) -> Entry | None:
    """What a finished shard says of itself; one that is damaged is removed, with a warning, to be built again."""
    if not folder.exists():
        return None
    try:
        entry: Entry = json.loads((folder / "shard.json").read_bytes())
        check_files(folder, entry["files"], contents=True, remedy="it is built again")
    except (CribbleError, OSError, ValueError, KeyError, TypeError) as error:
        logger.warning("%s: a finished shard is damaged and is built again (%s)", folder, error)
        remove(folder)
        return None
    return entry


def build_shard(
    final: Path, documents: list[Document], fingerprint: str, make: Callable[[Path], Mapping[str, int]]
) -> Entry:
    """Make the shard `final`; `make` writes the kind's own files into the folder that it is given, and counts."""
    aside = final.with_name(f"{final.name}.tmp")
    aside.mkdir()
    try:
        counts = {"empty_texts": sum(map(is_empty, documents))}
        counts.update(make(aside))
        write_texts(aside, documents)
        write_shard_metadata(aside, documents)
        entry = {"documents": len(documents), "fingerprint": fingerprint, "counts": counts, "files": file_table(aside)}
        (aside / "shard.json").write_text(json.dumps(entry, indent=1, sort_keys=True) + "\n")
        commit_folder(aside, final)
    except BaseException:  # also Ctrl-C: give the room on the disk back
        remove(aside)
        raise
    return entry


def is_empty(document: Document) -> bool:
    """Whether a document has neither text nor title."""
    return not (document.text.strip() or document.title.strip())


def shard_entry(folder: Path) -> Entry:
    """A finished shard's `shard.json`."""
    entry: Entry = json.loads((folder / "shard.json").read_bytes())
    return entry


def summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts added up by name, in the order of names."""
    total: Counter[str] = Counter()
    for part in counts:
        total.update(part)
    return dict(sorted(total.items()))


def shard_files(root: Path, folder: Path, entry: Entry) -> FileTable:
    """The manifest's lines for the shard in `folder`, whose `shard.json` holds `entry`."""
    prefix = folder.relative_to(root).as_posix()
    files = {f"{prefix}/{name}": recorded for name, recorded in entry["files"].items()}
    return files | {f"{prefix}/shard.json": file_entry(folder / "shard.json")}


def whole_files(root: Path, folder: Path) -> FileTable:
    """The manifest's lines for the folder of what spans all shards."""
    prefix = folder.relative_to(root).as_posix()
    return {f"{prefix}/{name}": recorded for name, recorded in file_table(folder).items()}


# ---- the corpus as it passes -----------------------------------------------------------------------------------------


def fingerprint(documents: Iterable[Document], corpus: str) -> str:
    """SHA-256 over all ids, texts, titles and metadata in order: what a manifest records of its corpus."""
    digest = hashlib.sha256()
    for document in documents:
        feed(digest, [document], corpus)
    return digest.hexdigest()


def stored_fingerprint(shards: Sequence[Path], rows: Sequence[int], deleted: np.ndarray) -> str:
    """`fingerprint` of the documents in `shards` of `rows` rows each, but for the rows that are `deleted`."""
    digest = hashlib.sha256()
    first = 0
    for shard, count in zip(shards, rows, strict=True):
        gone = set((deleted[slice(*np.searchsorted(deleted, [first, first + count]))] - first).tolist())
        texts, ids = (shard / "texts.bin").read_bytes(), (shard / "ids.bin").read_bytes()
        at, ids_at = np.load(shard / "texts.npy").tolist(), np.load(shard / "ids.npy").tolist()
        file = shard / METADATA
        metadata = file.read_bytes().splitlines(keepends=True) if file.exists() else [b"{}\n"] * count
        for row in range(count):
            if row not in gone:
                title, text, end = at[2 * row : 2 * row + 3]
                name = ids[ids_at[row] : ids_at[row + 1]]
                digest.update(b"%d %d %d\n" % (len(name), end - text, text - title))
                digest.update(name + texts[text:end] + texts[title:text])
                if metadata[row] != b"{}\n":
                    digest.update(metadata[row])
        first += count
    return digest.hexdigest()


def feed(digest: Any, documents: list[Document], corpus: str) -> None:
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


def _refuse_duplicates(home: Path, documents: list[Document], seen: SeenHashes, number: int, corpus: str) -> None:
    """Raise for an id that came before, in this shard or an earlier one; hashes find candidates, exact ids decide."""
    ids = id_column([document.id for document in documents], f"{corpus}: document id")
    suspects = ids.filter(seen.add(hashes(ids)))
    if not len(suspects):
        return
    counted = pc.value_counts(ids.filter(pc.is_in(ids, value_set=suspects))).to_pylist()
    repeated = next((row["values"] for row in counted if row["counts"] > 1), None)
    for earlier in range(number if repeated is None else 0):
        known = read_ids(numbered(home, earlier))
        both = known.filter(pc.is_in(known, value_set=suspects))
        if len(both):
            repeated = both[0].as_py()
            break
    if repeated is not None:
        raise InputError(
            f"{corpus}: the document id {repeated!r} occurs more than once: give every document its own id"
        )
