"""The work behind `cribble expand`: a BEIR folder whose documents have generated queries after their texts (doc2query).

expansion.json      the model, its revision, all numbers, and the corpus; a folder belongs to one
corpus.jsonl.part   finished documents, synced batch by batch; a killed run goes on after the last whole batch
corpus.jsonl        the same, under its name at the end; queries.jsonl and qrels/test.tsv beside it, as the dataset has them
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from ..corpora import load_dataset
from ..corpora.dataset import Dataset
from ..envelope import Answer
from ..errors import InputError, SetupError
from ..files import write_whole
from ..index.durable import explained, writer_lock
from ..models.doc2query import DOCUMENTS_AT_ONCE, Expander
from ..records import Document, metadata_of

logger = logging.getLogger("cribble")

_RECORD, _PART, _WHOLE = "expansion.json", "corpus.jsonl.part", "corpus.jsonl"


def expand_dataset(dataset: str, out: Path, model: str, options: dict[str, Any], *, overwrite: bool) -> Answer:
    """Write the expanded `dataset` into the folder `out`; `options` are the `Expander`'s."""
    start = time.perf_counter()
    expander = Expander(model, **options)
    results = expand_folder(load_dataset(dataset), expander, out, overwrite=overwrite)
    results["seconds"] = round(time.perf_counter() - start, 3)
    line = (
        f"{out}: {results['documents']:,} documents with {expander.queries} queries each, {results['resumed']:,} of them from "
        f"an earlier run, {results['truncated_texts']:,} texts cut for the model, {results['seconds']:.1f} s"
    )
    return Answer(results, lines=[line])


def expand_folder(data: Dataset, expander: Expander, out: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Write `data`, its documents expanded, as a BEIR folder `out`; returns counts.

    A killed run goes on. Raises `SetupError` where another expansion, a whole one or a running writer is there, and
    `InputError` where the corpus is not the one that the interrupted run began with.
    """
    record = {"corpus": data.id, **expander.record()}
    with explained(out):
        out.mkdir(parents=True, exist_ok=True)
        with writer_lock(out):
            _begin(out, record, overwrite=overwrite)
            documents = iter(data.documents())
            resumed = _skip_done(out / _PART, documents, data.id)
            written = resumed + _write_rest(out / _PART, documents, expander)
            if not written:
                raise InputError(f"{data.id}: the corpus has no documents, so there is nothing to expand")
            _write_judgements(data, out)
            os.replace(out / _PART, out / _WHOLE)
    return {"out": str(out), "documents": written, "resumed": resumed, "truncated_texts": expander.truncated, **record}


def _begin(out: Path, record: dict[str, Any], *, overwrite: bool) -> None:
    strange = sorted(set(os.listdir(out)) - {_RECORD, _PART, _WHOLE, "queries.jsonl", "qrels", "lock"})
    if strange:
        raise SetupError(
            f"{out}: the folder holds other files ({', '.join(strange[:3])}): choose an empty or new folder"
        )
    if overwrite:
        for name in (_RECORD, _PART, _WHOLE):
            (out / name).unlink(missing_ok=True)
    if (out / _WHOLE).exists():
        raise SetupError(f"{out}: an expanded corpus is here already: use it, choose another folder, or overwrite")
    if (out / _RECORD).exists():
        there = json.loads((out / _RECORD).read_text())
        lines = [
            f"{k}: {v!r} asked for, {there.get(k)!r} there"
            for k, v in record.items()
            if there.get(k) != v and k != "folder"
        ]
        if lines:
            raise SetupError(
                f"{out}: an interrupted expansion of another kind is here ({'; '.join(lines)}): repeat its options to go on "
                "with it, or overwrite"
            )
    else:
        with write_whole(out / _RECORD) as stream:
            stream.write(json.dumps(record, indent=1).encode() + b"\n")


def _skip_done(part: Path, documents: Iterator[Document], corpus: str) -> int:
    """Cut the file after its last whole batch, pass over the documents in it, and return how many they are."""
    done, end = 0, 0
    if part.exists():
        with part.open("rb+") as stream:
            ends = list(itertools.accumulate(len(line) for line in stream if line.endswith(b"\n")))
            done = len(ends) // DOCUMENTS_AT_ONCE * DOCUMENTS_AT_ONCE
            end = ends[done - 1] if done else 0
            stream.truncate(end)
            stream.seek(0)
            for line in stream:
                row, document = json.loads(line), next(documents, None)
                if document is None or document.id != row["_id"] or not row["text"].startswith(document.text.strip()):
                    raise InputError(
                        f"{part}: the corpus {corpus} is not the one that was read before the interruption (document "
                        f"{row['_id']!r} differs): restore it, or overwrite"
                    )
    return done


def _write_rest(part: Path, documents: Iterable[Document], expander: Expander) -> int:
    written = 0
    with part.open("ab") as stream:
        for batch in _batches(documents):
            for document in expander.expand_batch(batch):
                stream.write(_line(document))
            _sync(stream)
            written += len(batch)
    return written


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    documents = iter(documents)
    while batch := list(itertools.islice(documents, DOCUMENTS_AT_ONCE)):
        yield batch


def _sync(stream: IO[bytes]) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _line(document: Document) -> bytes:
    row: dict[str, Any] = {"_id": document.id, "title": document.title, "text": document.text}
    if metadata := metadata_of(document):
        row["metadata"] = dict(metadata)
    return json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


def _write_judgements(data: Dataset, out: Path) -> None:
    with write_whole(out / "queries.jsonl") as stream:
        for query in data.queries:
            stream.write(json.dumps({"_id": query.id, "text": query.text}, ensure_ascii=False).encode() + b"\n")
    if data.qrels is not None:
        data.qrels.write(out / "qrels" / "test.tsv")
    if data.drop_self or data.excluded:
        logger.warning(
            "%s: which documents a query must not find is no part of a BEIR folder: score runs with %s", out, data.id
        )
