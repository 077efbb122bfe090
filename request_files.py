"""Requests: one line of JSON per query with its candidates and their texts, as rank_llm and RankGPT exchange them."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .errors import InputError
from .files import numbered_lines, run_name, write_whole
from .records import Document, Query, Run, TextSource


class Requests(NamedTuple):
    """What a JSONL requests file holds: queries, their candidates and the candidates' texts."""

    queries: list[Query]
    run: Run
    texts: dict[str, Document]


def read_requests(path: str | Path, *, name: str | None = None, score_kind: str = "") -> Requests:
    """Read `{"query": {"qid", "text"}, "candidates": [{"docid", "score", "doc"}]}` a line (rank_llm's form), or RankGPT's
    `{"query": text, "hits": [{"qid", "docid", "score", "content"}]}`. `doc` is a text or an object with `text`/`title`.
    """
    queries, texts, rankings = [], {}, []
    for number, line in numbered_lines(path):
        try:
            row = json.loads(line)
            query, candidates = _request(row)
            ids = [_text(c, "docid") for c in candidates]
            scores = [float(c.get("score", len(ids) - i)) for i, c in enumerate(candidates)]
            for doc_id, c in zip(ids, candidates, strict=True):
                document = _request_document(doc_id, c.get("doc", c.get("content")))
                if document is not None:
                    texts[doc_id] = document
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f'{path}:{number}: no request of the form {{"query": {{"qid", "text"}}, "candidates": [{{"docid", "score", '
                f'"doc"}}]}} ({type(error).__name__}: {error})'
            ) from error
        queries.append(query)
        rankings.append((query.id, ids, scores))
    try:
        run = Run.from_rankings(rankings, name=name or run_name(path), score_kind=score_kind)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return Requests(queries, run, texts)


def _request(row: dict[str, Any]) -> tuple[Query, list[dict[str, Any]]]:
    if "hits" in row:
        hits = row["hits"]
        return Query(_text(hits[0] if hits else row, "qid"), _text(row, "query")), hits
    query = row["query"]
    return Query(_text(query, "qid"), _text(query, "text")), row["candidates"]


def _text(row: dict[str, Any], field: str) -> str:
    """A field that must be there; numbers are taken as text, as ids often are numbers."""
    value = row[field]
    if not isinstance(value, str | int | float):
        raise TypeError(f"{field} is of type {type(value).__name__}, expected a text")
    return str(value)


def _request_document(doc_id: str, doc: Any) -> Document | None:
    if doc is None:
        return None
    if isinstance(doc, str):
        return Document(doc_id, doc)
    field = next((name for name in ("text", "contents", "segment", "body", "title") if name in doc), "text")
    title = str(doc.get("title") or "")
    return Document(doc_id, _text(doc, field) if field != "title" else "", title)


def write_requests(
    run: Run, path: str | Path, queries: Collection[Query], texts: TextSource | Mapping[str, Document]
) -> int:
    """Write one request a query, with texts. Returns how many candidates had no text (written without `doc`)."""
    text_of = {query.id: query.text for query in queries}
    missing = 0
    with write_whole(path) as stream:
        for query_id, ranking in run.items():
            if query_id not in text_of:
                raise InputError(f"{path}: the run's query {query_id!r} is not among the {len(text_of)} queries given")
            ids = ranking.ids.tolist()
            found = {i: texts[i] for i in ids if i in texts} if isinstance(texts, Mapping) else texts.get_many(ids)
            candidates = []
            for doc_id, score in zip(ids, ranking.scores.tolist(), strict=True):
                candidate: dict[str, Any] = {"docid": doc_id, "score": score}
                document = found.get(doc_id)
                if document is None:
                    missing += 1
                else:
                    candidate["doc"] = (
                        {"title": document.title, "text": document.text} if document.title else {"text": document.text}
                    )
                candidates.append(candidate)
            row = {"query": {"qid": query_id, "text": text_of[query_id]}, "candidates": candidates}
            stream.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return missing
