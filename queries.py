"""Queries in the forms that people hand over, and in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .errors import InputError, UsageError
from .records import Query


def as_queries(queries: Any) -> list[Query]:
    """Queries from a list of `Query`, a mapping of id to text or a list of texts. Duplicate ids are refused."""
    if isinstance(queries, str):
        raise UsageError("a pipeline takes a list of queries; for one text use pipe.search(text)")
    if isinstance(queries, Mapping):
        found = [Query(query_id, text) for query_id, text in queries.items()]
    else:
        found = [q if isinstance(q, Query) else Query(str(i), q) for i, q in enumerate(queries, 1)]
    seen = set()
    for query in found:
        if not isinstance(query.text, str):
            raise InputError(f"query {query.id!r} is of type {type(query.text).__name__}, expected str")
        if query.id in seen:
            raise InputError(f"query id {query.id!r} is given twice")
        seen.add(query.id)
    return found


def each(queries: Iterable[Query], size: int) -> Iterator[list[Query]]:
    """Queries in batches of `size`."""
    batch: list[Query] = []
    for query in queries:
        batch.append(query)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
