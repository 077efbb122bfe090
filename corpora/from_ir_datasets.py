"""`ir_datasets:ID`: any dataset that the ir_datasets library knows (MacAvaney et al., SIGIR 2021), through the library."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from ..errors import InputError, SetupError, UsageError, require, suggest
from ..records import Document, Qrels, Query
from .dataset import Dataset, PartedDataset
from .document_stream import oddities, say
from .facts import beir_sets, facts_of
from .judged import judged_only
from .seen_ids import SeenIds

logger = logging.getLogger("cribble")

#: How ir_datasets writes BRIGHT's excluded documents into its judgements (datasets/bright.py).
_EXCLUDED_LABEL = -100


def load_ir_datasets(name: str) -> Dataset:
    """The dataset with this id. Text is the record's own `default_text()`, its title apart where it begins with it; only
    judged queries are kept. Documents judged -100 (BRIGHT) become `excluded`; `drop_self` follows the facts on BEIR's sets.

    Queries and judgements are fetched now, documents when asked for, both into ir_datasets' own folder (`IR_DATASETS_HOME`).
    `get_many` goes through the library's document store, which it builds at the first call.
    """
    library = require("ir_datasets", f"ir_datasets:{name}")
    if name == "beir/cqadupstack":
        facts = beir_sets()["cqadupstack"]
        parts = {part: load_ir_datasets(f"{name}/{part}") for part in facts.parts}
        return PartedDataset(f"ir_datasets:{name}", parts, facts.measures, facts.description)
    try:
        source = library.load(name)
    except KeyError as error:
        raise UsageError(f"ir_datasets:{name}: no such id: {suggest(name, library.registry)}") from error
    with _told_as_ours(name):
        qrels, excluded = _judgements(source, name) if source.has_qrels() else (None, {})
        queries = _queries(source) if source.has_queries() else []
        count = source.docs_count() if source.has_docs() else None
    facts = facts_of(name.split("/")[1]) if name.startswith("beir/") else facts_of("")
    return Dataset(
        f"ir_datasets:{name}",
        judged_only(queries, qrels, f"ir_datasets:{name}") if queries else queries,
        qrels,
        open_documents=(lambda: _documents(source, name)) if source.has_docs() else None,
        lookup=(lambda ids: _get_many(source, name, ids)) if source.has_docs() else None,
        num_documents=count,
        drop_self=facts.drop_self,
        excluded=excluded,
        measures=facts.measures,
        description=facts.description or "a dataset of ir_datasets",
    )


@contextmanager
def _told_as_ours(name: str) -> Iterator[None]:
    """The library's failures to fetch or read are the machine's, not a bug: no network, a licence to accept, a full disk."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise SetupError(
            f"ir_datasets:{name}: the library can't provide it ({type(error).__name__}: {error})"
        ) from error


def _text(record: Any) -> str:
    """The record's own choice of text; a record type without one has all its text fields joined."""
    if hasattr(record, "default_text"):
        return str(record.default_text())
    return " ".join(value for value in record[1:] if isinstance(value, str))


def _queries(source: Any) -> list[Query]:
    return [Query(str(query.query_id), _text(query).strip()) for query in source.queries_iter()]


def _document(record: Any) -> Document:
    text, title = _text(record), getattr(record, "title", None)
    if isinstance(title, str) and title and text.startswith(title):
        return Document(str(record.doc_id), text[len(title) :].strip(), title)
    return Document(str(record.doc_id), text.strip())


def _documents(source: Any, name: str) -> Iterator[Document]:
    """One pass; of documents that share an id (BRIGHT has such) the first is kept, as Pyserini does, and the rest counted."""
    seen, seen_too = SeenIds(), SeenIds(seed=1)  # 128 bits of hash, as this source can't be looked up by position
    remarks: Counter[str] = Counter()
    with _told_as_ours(name):
        documents = map(_document, source.docs_iter())
        while batch := list(islice(documents, 1024)):
            ids = [document.id for document in batch]
            again = set(seen.add(ids)) & set(seen_too.add(ids))
            remarks["repeated"] += len(again)
            for position, document in enumerate(batch):
                if position not in again:
                    remarks.update(oddities(document))
                    yield document
    say(remarks, f"ir_datasets:{name}")


def _get_many(source: Any, name: str, ids: Collection[str]) -> dict[str, Document]:
    with _told_as_ours(name):
        found = source.docs_store().get_many(list(ids))
    return {i: _document(found[i]) for i in ids if i in found}


def _judgements(source: Any, name: str) -> tuple[Qrels, dict[str, frozenset[str]]]:
    labels: dict[str, dict[str, int]] = {}
    excluded: dict[str, set[str]] = {}
    repeated = 0
    for row in source.qrels_iter():
        query_id, doc_id, label = str(row.query_id), str(row.doc_id), row.relevance
        if label != int(label):
            raise InputError(f"ir_datasets:{name}: query {query_id!r} has the label {label!r}, expected a whole number")
        if label == _EXCLUDED_LABEL:
            excluded.setdefault(query_id, set()).add(doc_id)
            continue
        judged = labels.setdefault(query_id, {})
        repeated += doc_id in judged
        judged[doc_id] = max(int(label), judged.get(doc_id, int(label)))
    if repeated:
        form = "%s: %d judgements repeat a query and document (sub-topics, passes); the highest label of each counts"
        logger.warning(form, f"ir_datasets:{name}", repeated)
    return Qrels.from_dict(labels, name=f"ir_datasets:{name}"), {q: frozenset(ids) for q, ids in excluded.items()}
