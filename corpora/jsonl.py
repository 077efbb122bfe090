"""`jsonl:PATH`: one file of JSON lines, requests with texts or plain documents."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from ..errors import InputError
from ..request_files import read_requests
from .dataset import Dataset
from .document_stream import text_lines
from .json_lines import JsonLines

logger = logging.getLogger("cribble")

#: Field names in use: BEIR, MTEB and Anserini, rank_llm, plain.
ID_FIELDS, TEXT_FIELDS = ("id", "_id", "docid"), ("text", "contents", "content", "segment", "body")


def load_jsonl(path: Path) -> Dataset:
    """A requests file (`query` with `candidates` or `hits`: see `run_files.read_requests`) becomes queries, the texts of
    the candidates, and `candidates`, the run that orders them; it has no judgements. Any other file is documents without
    queries: `id`, `_id` or `docid`; `text` or `contents` (and further names: `TEXT_FIELDS`); perhaps `title`.
    """
    number, _, line = next(text_lines(path), (0, 0, ""))
    if not number:
        raise InputError(f"{path} is empty, expected JSON lines with documents or requests")
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{path}:{number}: no JSON ({error}): expected one object a line") from error
    if isinstance(row, dict) and "query" in row and ("candidates" in row or "hits" in row):
        return _requests(path)
    documents = JsonLines(path, ID_FIELDS, TEXT_FIELDS)
    next(iter(documents))
    return Dataset(
        f"jsonl:{path}",
        [],
        open_documents=documents.__iter__,
        lookup=documents.get_many if documents.seekable else None,
        description="documents of one file",
        version=documents.version,
    )


def _requests(path: Path) -> Dataset:
    requests = read_requests(path)
    texts = requests.texts
    missing = sum(doc_id not in texts for doc_id in requests.run.doc_ids.to_pylist())
    if missing:
        logger.warning("%s: %d of %d candidates have no text", path, missing, requests.run.num_rows)
    return Dataset(
        f"jsonl:{path}",
        requests.queries,
        open_documents=lambda: iter(texts.values()),
        lookup=lambda ids: {i: texts[i] for i in ids if i in texts},
        num_documents=len(texts),
        candidates=requests.run,
        description="queries with candidates and their texts",
        version=JsonLines(path).version,
    )
