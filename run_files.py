"""Runs and judgements as files: TREC and parquet, and JSONL requests (request_files.py); `.gz` is transparent.

The usual file takes a fast road through Arrow's CSV reader. Anything unusual (runs of spaces, comments, a broken line)
takes the slow one, line by line, which either reads it or names the file and line at fault. Files are written aside and
renamed, so a reader never sees half of one.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from .errors import InputError, UsageError
from .files import file_kind, numbered_lines, open_existing, run_name, write_whole
from .ids import joined_ids
from .records import Qrels, Run
from .request_files import read_requests

logger = logging.getLogger("cribble")

_RUN_COLUMNS = ["query", "q0", "document", "rank", "score", "tag"]


# ---- runs ---------------------------------------------------------------------------------------------------------------


def read_run(path: str | Path, *, name: str | None = None, score_kind: str = "") -> Run:
    """Read a run by its file's ending. Rows of a query may lie apart; the rank column is ignored, scores decide."""
    kind = file_kind(path)
    name = name or run_name(path)
    if kind == "jsonl":
        return read_requests(path, name=name, score_kind=score_kind).run
    if kind == "parquet":
        return _read_parquet(path, name=name, score_kind=score_kind)
    try:
        table = _read_trec_fast(path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, zlib.error):
        table = _read_trec_slow(path)
    try:
        return _run_of_rows(*table, name=name, score_kind=score_kind)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read_trec_fast(path: str | Path) -> tuple[pa.Array, pa.Array, np.ndarray]:
    with open_existing(path) as stream:
        first = stream.readline()
    if not first.strip():
        raise pa.ArrowInvalid("empty first line")
    compression = "gzip" if Path(path).name.endswith(".gz") else None
    with pa.input_stream(str(path), compression=compression) as source:
        table = pacsv.read_csv(
            source,
            pacsv.ReadOptions(column_names=_RUN_COLUMNS, block_size=1 << 21),
            pacsv.ParseOptions(delimiter="\t" if b"\t" in first else " ", quote_char=False, double_quote=False),
            pacsv.ConvertOptions(
                column_types={
                    "query": pa.dictionary(pa.int32(), pa.string()),
                    "document": pa.string(),
                    "score": pa.float64(),
                },
                include_columns=["query", "document", "score"],
                null_values=[],
                strings_can_be_null=False,
            ),
        )
    queries = table["query"].combine_chunks()
    if isinstance(queries, pa.ChunkedArray):
        queries = queries.unify_dictionaries().chunk(0)
    if pc.any(pc.match_substring_regex(queries.dictionary, _ODD_ID + "|^#")).as_py():
        raise pa.ArrowInvalid("an odd query id")
    documents, scores = table["document"].chunks, table["score"].chunks
    if any(map(_has_odd_id, documents)):
        raise pa.ArrowInvalid("an odd document id")
    del table  # its columns are freed piece by piece while they are joined
    ids = joined_ids(documents)
    return queries, ids, pa.concat_arrays(scores).to_numpy()


#: An empty id, or one with white space or control characters: other separators are mixed in, so read it line by line.
_ODD_ID = r"[\x00-\x20]|^$"


def _has_odd_id(ids: pa.StringArray) -> bool:
    """`_ODD_ID` for a whole column, at the speed of memory."""
    offsets = np.frombuffer(ids.buffers()[1], np.int32)[ids.offset : ids.offset + len(ids) + 1]
    data = ids.buffers()[2]
    if len(ids) and data is None:
        return True
    text = np.frombuffer(data or b"", np.uint8)[offsets[0] : offsets[-1]]
    return bool((text <= 0x20).any() or (offsets[1:] == offsets[:-1]).any())


def _read_trec_slow(path: str | Path) -> tuple[pa.Array, pa.Array, np.ndarray]:
    queries, documents, scores = [], [], []
    for number, line in numbered_lines(path):
        if line.startswith("#"):
            continue
        fields = line.split()
        if len(fields) != 6:
            raise InputError(
                f"{path}:{number}: {len(fields)} fields, expected 6 (query Q0 document rank score tag): {line[:80]!r}"
            )
        try:
            scores.append(float(fields[4]))
        except ValueError as error:
            raise InputError(f"{path}:{number}: the score {fields[4]!r} is no number") from error
        queries.append(fields[0])
        documents.append(fields[2])
    if not queries:
        logger.warning("%s holds no rows", path)
    return pa.array(queries, pa.string()).dictionary_encode(), pa.array(documents, pa.large_string()), np.array(scores)


def _run_of_rows(queries: pa.DictionaryArray, documents: pa.Array, scores: np.ndarray, **facts: Any) -> Run:
    codes = queries.indices.to_numpy(zero_copy_only=False)
    query_ids = queries.dictionary.to_pylist()
    if len(codes) and (np.diff(codes) < 0).any():
        order = np.argsort(codes, kind="stable")
        codes, documents, scores = codes[order], documents.take(pa.array(order)), scores[order]
    offsets = np.searchsorted(codes, np.arange(len(query_ids) + 1)).astype(np.int64)
    return Run(query_ids, offsets, documents, scores, **facts)


def _read_parquet(path: str | Path, *, name: str, score_kind: str) -> Run:
    import pyarrow.parquet as pq

    if not Path(path).exists():
        raise InputError(f"{path} does not exist")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: no parquet file ({error})") from error
    for column in ("query", "document", "score"):
        if column not in table.column_names:
            raise InputError(f"{path}: the column {column!r} is missing, found {', '.join(table.column_names)}")
    meta = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
    queries = table["query"].cast(pa.string()).combine_chunks().dictionary_encode()
    if isinstance(queries, pa.ChunkedArray):
        queries = queries.unify_dictionaries().combine_chunks()
    kept = json.loads(meta.get("cribble.run", "{}"))
    run = _run_of_rows(
        queries,
        table["document"],
        table["score"].to_numpy(),
        name=kept.get("name", name),
        score_kind=score_kind or kept.get("score_kind", ""),
        provenance=kept.get("provenance"),
    )
    return run.select(kept["queries"]) if kept.get("queries") else run


def write_run(run: Run, path: str | Path) -> None:
    """Write a run by its file's ending. TREC scores are the shortest decimals that read back exactly."""
    kind = file_kind(path)
    if kind == "jsonl":
        raise UsageError(f"{path}: JSONL requests hold texts, use write_requests(run, path, queries, texts)")
    if kind == "parquet":
        _write_parquet(run, path)
        return
    _refuse_white_space(run.query_ids, path, "query id")
    _refuse_white_space(run.doc_ids, path, "document id")
    tag = "_".join(run.name.split()) or "cribble"
    rank = np.arange(run.num_rows) - np.repeat(run.offsets[:-1], np.diff(run.offsets)) + 1
    query_of_row = run.query_of_row
    query_ids = pa.array(run.query_ids, pa.string())
    with write_whole(path) as stream:
        for start in range(0, run.num_rows, 1 << 18):
            rows = slice(start, start + (1 << 18))
            lines = pc.binary_join_element_wise(
                query_ids.take(pa.array(query_of_row[rows])),
                "Q0",
                run.doc_ids[rows].cast(pa.string()),
                pa.array(rank[rows]).cast(pa.string()),
                pa.array(run.scores[rows]).cast(pa.string()),
                f"{tag}\n",
                " ",
            )
            stream.write(b"".join(memoryview(part) for part in _text_buffers(lines)))


def _text_buffers(lines: pa.Array) -> Iterable[Any]:
    offsets = np.frombuffer(lines.buffers()[1], np.int32)
    yield lines.buffers()[2].slice(0, int(offsets[len(lines)])) if len(lines) else b""


def _refuse_white_space(ids: Iterable[str] | pa.Array, path: str | Path, what: str) -> None:
    column = ids if isinstance(ids, pa.Array) else pa.array(ids, pa.large_string())
    bad = pc.match_substring_regex(column, r"\s|^$")
    if pc.any(bad).as_py():
        value = column.filter(bad)[0].as_py()
        raise InputError(
            f"{path}: the {what} {value!r} is empty or has white space, which TREC files can't hold: write .parquet"
        )


def _write_parquet(run: Run, path: str | Path) -> None:
    import pyarrow.parquet as pq

    meta = {
        "name": run.name,
        "score_kind": run.score_kind,
        "provenance": run.provenance,
        "queries": list(run.query_ids),
    }
    table = pa.table(
        {
            "query": pa.array(run.query_ids, pa.string()).take(pa.array(run.query_of_row)),
            "document": run.doc_ids,
            "score": run.scores,
        }
    ).replace_schema_metadata({"cribble.run": json.dumps(meta, default=str)})
    with write_whole(path) as stream:
        pq.write_table(table, stream, compression="zstd")


# ---- judgements ---------------------------------------------------------------------------------------------------------


def read_qrels(path: str | Path, *, name: str | None = None) -> Qrels:
    """Read TREC qrels (query, iteration, document, label) or BEIR's (query, document, label). A first line whose label is
    no number is a header; without one every line is kept. A pair judged twice alike is counted, differently is refused.
    """
    data: dict[str, dict[str, int]] = {}
    repeated = 0
    for n, (number, line) in enumerate(numbered_lines(path)):
        if line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
        if len(fields) not in (3, 4):
            raise InputError(
                f"{path}:{number}: {len(fields)} fields, expected 3 (query document label) or 4 (TREC): {line[:80]!r}"
            )
        query_id, doc_id, label = fields[0], fields[-2], fields[-1]
        try:
            value = float(label)
            if value != int(value):
                raise ValueError
        except (ValueError, OverflowError) as error:
            if n == 0:
                continue
            raise InputError(f"{path}:{number}: the label {label!r} is no whole number") from error
        row = data.setdefault(query_id, {})
        if row.get(doc_id, int(value)) != int(value):
            raise InputError(
                f"{path}:{number}: query {query_id!r} and document {doc_id!r} are judged {row[doc_id]} and {int(value)}: keep one"
            )
        repeated += doc_id in row
        row[doc_id] = int(value)
    if repeated:
        logger.warning("%s: %d judgements are given more than once (alike); each counts once", path, repeated)
    return Qrels.from_dict(data, name=name or str(path))


def write_qrels(qrels: Qrels, path: str | Path) -> None:
    """Write judgements: BEIR's columns with header for `.tsv`, TREC's four otherwise."""
    beir = Path(path).name.removesuffix(".gz").endswith(".tsv")
    if not beir:
        _refuse_white_space(qrels.query_ids, path, "query id")
        _refuse_white_space(qrels.doc_ids, path, "document id")
    with write_whole(path) as stream:
        if beir:
            stream.write(b"query-id\tcorpus-id\tscore\n")
        for query_id in qrels:
            for doc_id, label in qrels[query_id].items():
                row = f"{query_id}\t{doc_id}\t{label}\n" if beir else f"{query_id} 0 {doc_id} {label}\n"
                stream.write(row.encode())
