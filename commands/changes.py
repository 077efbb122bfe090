"""The work behind `cribble add`, `delete` and `compact`, from paths and names to answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..corpora import load_dataset
from ..envelope import Answer
from ..errors import UsageError
from ..retrievers.filtered import read_ids
from ..retrievers.opening import open_retriever

if TYPE_CHECKING:
    from ..index.changes import Change


def add_dataset(index: Path, dataset: str, options: dict[str, Any], *, replace: bool, dry_run: bool) -> Answer:
    """Add a dataset's documents to the index, by the encoder that it records."""
    retriever: Any = open_retriever(index, **options)
    data = load_dataset(dataset)
    start = time.perf_counter()
    change = retriever.add(data, replacing=replace, dry_run=dry_run)
    said = f"{change.added:,} documents added" + (f", {change.replaced:,} of them replaced" if change.replaced else "")
    return _answer("add", index, change, said, time.perf_counter() - start, dry_run)


def delete_ids(index: Path, ids: Sequence[str], file: Path | None, *, ignore_unknown: bool, dry_run: bool) -> Answer:
    """Delete documents by ids that are given or stand in a file, one a line."""
    if bool(ids) == (file is not None):
        raise UsageError("name the ids to delete, or a file of them with --from")
    asked = read_ids("delete", file if file is not None else ids) or []
    retriever: Any = open_retriever(index)
    start = time.perf_counter()
    change = retriever.delete(asked, ignore_unknown=ignore_unknown, dry_run=dry_run)
    said = f"{change.deleted:,} documents deleted" + (f", {change.unknown:,} ids unknown" if change.unknown else "")
    return _answer("delete", index, change, said, time.perf_counter() - start, dry_run)


def compact(index: Path, *, dry_run: bool) -> Answer:
    """Rewrite an index without its deleted documents."""
    retriever: Any = open_retriever(index)
    start = time.perf_counter()
    change = retriever.compact(dry_run=dry_run)
    said = f"{change.deleted:,} deleted documents removed"
    return _answer("compact", index, change, said, time.perf_counter() - start, dry_run)


def _answer(operation: str, index: Path, change: Change, said: str, seconds: float, dry_run: bool) -> Answer:
    manifest = change.manifest
    results = {
        "index": str(index),
        "operation": operation,
        "dry_run": dry_run,
        "added": change.added,
        "replaced": change.replaced,
        "deleted": change.deleted,
        "unknown": change.unknown,
        "generation": manifest.generation,
        "documents": manifest.documents,
        "rows": manifest.rows,
        "bytes": manifest.bytes,
        "fingerprint": manifest.fingerprint,
        "counts": manifest.counts,
        "seconds": round(seconds, 3),
    }
    state = f"{manifest.documents:,} documents, {manifest.bytes / 2**20:,.1f} MiB, generation {manifest.generation}"
    head = f"{index}: would be: {said}; now" if dry_run else f"{index}: {said}; now"
    return Answer(results, lines=[f"{head} {state}, {seconds:.1f} s"])
