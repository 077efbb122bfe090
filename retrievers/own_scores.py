"""The score that an index itself gives one document, beside which an explanation stands."""

from __future__ import annotations

from typing import Any

from ..records import Query


def own_score(stage: Any, query: str, doc_id: str, parameters: dict[str, Any]) -> float | None:
    """By a search among this document alone, with the stage's filters, `parameters` and k, by which an approximate search looks
    wider; None where the index lacks the document or this search would not find it. `stage` is a retriever over an index, with
    `query_vectors` and `filters`."""
    allowed = stage.filters.get("allow")
    if not stage.opened.texts.get_many([doc_id]) or (allowed is not None and doc_id not in allowed):
        return None
    vectors = stage.query_vectors([Query("query", query)])
    [(ids, scores)] = stage.opened.search(vectors, stage.k, **(stage.filters | parameters | {"allow": [doc_id]}))
    return float(scores[0]) if len(ids) else None
