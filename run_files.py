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
from .files import GZIP_ERRORS, RegularText, file_kind, lend, numbered_lines, open_existing, run_name, write_whole
from .ids import id_column, joined_ids
from .records import Qrels, Run
from .request_files import read_requests

logger = logging.getLogger("cribble")

_RUN_COLUMNS = ["query", "q0", "document", "rank", "score", "tag"]


# ---- runs ---------------------------------------------------------------------------------------------------------------


def read_run(path: str | Path, *, name: str | None = None, score_kind: str = "") -> Run:
    """Read a run by its file's ending. Rows of a query may lie apart; the rank column is ignored, scores decide."""
    kind = file_kind(path)
    if kind == "jsonl":
        return read_requests(path, name=name, score_kind=score_kind).run
    if kind == "parquet":
        return _read_parquet(path, name=name, score_kind=score_kind)
    try:
        table = _read_trec_fast(path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, *GZIP_ERRORS):
        table = _read_trec_slow(path)
    if not len(table[0]):
        logger.warning("%s holds no rows", path)
    try:
        return _run_of_rows(*table, name=name or run_name(path), score_kind=score_kind)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read_trec_fast(path: str | Path) -> tuple[pa.Array, pa.Array, np.ndarray]:
    """Columns of a regular file; `ArrowInvalid` for any other."""
    with open_existing(path) as stream:
        delimiter = "\t" if b"\t" in stream.readline(1 << 20) else " "
        stream.seek(0)
        table = pacsv.read_csv(
            lend(RegularText(stream, delimiter)),
            pacsv.ReadOptions(column_names=_RUN_COLUMNS, block_size=1 << 21),
            pacsv.ParseOptions(delimiter=delimiter, quote_char=False, double_quote=False),
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
    if not {"#", ""}.isdisjoint(queries.dictionary.to_pylist()):
        raise pa.ArrowInvalid("perhaps a comment, or a byte-order mark alone")
    documents, scores = table["document"].chunks, table["score"].chunks
    del table  # its columns are freed piece by piece while they are joined
    ids = joined_ids(documents)
    return queries, ids, pa.concat_arrays(scores).to_numpy()


def _read_trec_slow(path: str | Path) -> tuple[pa.Array, pa.Array, np.ndarray]:
    queries, documents, scores = [], [], []
    for number, line in numbered_lines(path):
        fields = _run_fields(line)
        score = _number(fields[4]) if len(fields) == 6 else None
        if fields[0] == "#" or (line.startswith("#") and score is None):
            continue  # a comment; a row may have a query called "#1"
        if len(fields) != 6:
            raise InputError(
                f"{path}:{number}: {len(fields)} fields, expected 6 (query Q0 document rank score tag): {line[:80]!r}"
            )
        if score is None:
            raise InputError(f"{path}:{number}: the score {fields[4]!r} is no number")
        scores.append(score)
        queries.append(fields[0])
        documents.append(fields[2])
    return pa.array(queries, pa.string()).dictionary_encode(), pa.array(documents, pa.large_string()), np.array(scores)


def _run_fields(line: str) -> list[str]:
    """The fields of a run's row; behind the last of five tabs the tag may hold blanks, as in trec_eval's test data."""
    row, _, tag = line.rpartition("\t")
    fields = _fields(row)
    return [*fields, tag] if line.count("\t") == 5 and len(fields) == 5 and tag.strip() else _fields(line)


def _fields(line: str) -> list[str]:
    """The line split at ASCII white space, as trec_eval does: an id may hold a no-break or an ideographic space."""
    return [field.decode() for field in line.encode().split()]


def _number(text: str) -> float | None:
    """The decimal number, `nan` or `inf` that `text` spells, or None; without Python's own 1_000."""
    try:
        return float(text) if "_" not in text and text.isascii() else None
    except ValueError:
        return None


def _run_of_rows(queries: pa.DictionaryArray, documents: pa.Array, scores: np.ndarray, **facts: Any) -> Run:
    codes = queries.indices.to_numpy(zero_copy_only=False)
    query_ids = queries.dictionary.to_pylist()
    if len(codes) and (np.diff(codes) < 0).any():
        order = np.argsort(codes, kind="stable")
        codes, documents, scores = codes[order], documents.take(pa.array(order)), scores[order]
    offsets = np.searchsorted(codes, np.arange(len(query_ids) + 1)).astype(np.int64)
    return Run(query_ids, offsets, documents, scores, **facts)


def _read_parquet(path: str | Path, *, name: str | None, score_kind: str) -> Run:
    import pyarrow.parquet as pq

    with open_existing(path) as stream:
        try:
            file = pq.ParquetFile(lend(stream), page_checksum_verification=True)
            missing = {"query", "document", "score"} - set(file.schema_arrow.names)
            if missing:
                raise InputError(
                    f"{path}: the column {min(missing)!r} is missing, found {', '.join(file.schema_arrow.names)}"
                )
            table = file.read(["query", "document", "score"])
            kept = json.loads((file.schema_arrow.metadata or {}).get(b"cribble.run", b"{}"))
        except (pa.ArrowException, OSError, EOFError, zlib.error, json.JSONDecodeError) as error:
            raise InputError(f"{path}: no parquet file, or a broken one ({error}): write it again") from error
    try:
        run = _run_of_rows(
            id_column(table["query"], "query id").dictionary_encode(),
            table["document"],
            table["score"].cast(pa.float64()).to_numpy(),
            name=name or kept.get("name", run_name(path)),
            score_kind=score_kind or kept.get("score_kind", ""),
            provenance=kept.get("provenance"),
        )
    except (InputError, pa.ArrowException) as error:
        raise InputError(f"{path}: {error}") from error
    # Queries without documents are in no row; queries that someone else added are in no list.
    return run.select(dict.fromkeys([*kept.get("queries", ()), *run.query_ids]))


def write_run(run: Run, path: str | Path) -> None:
    """Write a run by its file's ending. TREC scores are the shortest decimals that read back exactly."""
    kind = file_kind(path)
    if kind == "jsonl":
        raise UsageError(f"{path}: JSONL requests hold texts, use write_requests(run, path, queries, texts)")
    if kind == "parquet":
        _write_parquet(run, path)
        return
    _refuse_unwritable(run.query_ids, path, "query id", _NO_FIRST_FIELD)
    _refuse_unwritable(run.doc_ids, path, "document id", _NO_FIELD)
    empty = int((np.diff(run.offsets) == 0).sum())
    if empty:
        logger.warning(
            "%s: %d queries without documents are not in the file, as TREC has no line for them", path, empty
        )
    q0, tag, space = (pa.scalar(text, pa.large_string()) for text in ("Q0", f"{_tag(run.name)}\n", " "))
    rank = np.arange(run.num_rows) - np.repeat(run.offsets[:-1], np.diff(run.offsets)) + 1
    query_of_row = run.query_of_row
    query_ids = pa.array(run.query_ids, pa.large_string())
    with write_whole(path) as stream:
        for start in range(0, run.num_rows, 1 << 18):
            rows = slice(start, start + (1 << 18))
            lines = pc.binary_join_element_wise(
                query_ids.take(pa.array(query_of_row[rows])),
                q0,
                run.doc_ids[rows],
                pa.array(rank[rows]).cast(pa.large_string()),
                pa.array(run.scores[rows]).cast(pa.large_string()),
                tag,
                space,
            )
            stream.write(_text(lines))


def _tag(name: str) -> str:
    return "_".join(name.split()) or "cribble"


def _text(lines: pa.LargeStringArray) -> memoryview:
    """All strings of a fresh array, one after the other."""
    end = int(np.frombuffer(lines.buffers()[1], np.int64)[len(lines)])
    return memoryview(lines.buffers()[2])[:end]


#: What an id can't be in a TREC file: empty, or with ASCII white space; as a line's first field also not what readers
#: take for a comment or for a byte-order mark.
_NO_FIELD = r"[\t-\r ]|^$"
#: The second column of TREC judgements, which nobody reads, where a machine gave the label.
_MACHINE = "machine"
_NO_FIRST_FIELD = _NO_FIELD + r"|^#$|^\x{FEFF}"
#: The same for columns between tabs, which are read without spaces around them.
_NO_COLUMN = r"[\t-\r]|^$|^ | $"
_NO_FIRST_COLUMN = _NO_COLUMN + r"|^#$|^# |^\x{FEFF}"


def _refuse_unwritable(ids: Iterable[str] | pa.Array, path: str | Path, what: str, pattern: str) -> None:
    column = ids if isinstance(ids, pa.Array) else pa.array(ids, pa.large_string())
    bad = pc.match_substring_regex(column, pattern)
    if pc.any(bad).as_py():
        value = column.filter(bad)[0].as_py()
        raise InputError(
            f"{path}: the {what} {value!r} is empty, has white space or reads as a comment, which this form can't hold: "
            "write .parquet (runs) or rename it"
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
        pq.write_table(table, stream, compression="zstd", write_page_checksum=True)


# ---- judgements ---------------------------------------------------------------------------------------------------------


def read_qrels(path: str | Path, *, name: str | None = None) -> Qrels:
    """Read TREC qrels (query, iteration, document, label) or BEIR's (query, document, label). A first line whose label is
    no number is a header; without one every line is kept. A pair judged twice alike is counted, differently is refused.
    The iteration `machine` marks a machine's label.
    """
    data: dict[str, dict[str, int]] = {}
    machine: set[tuple[str, str]] = set()
    repeated, first = 0, True
    for number, line in numbered_lines(path):
        fields = _qrels_fields(line)
        comment = line.startswith("#") and (len(fields) not in (3, 4) or _number(fields[-1]) is None)
        if comment or line.startswith("# "):
            continue
        if len(fields) not in (3, 4):
            raise InputError(
                f"{path}:{number}: {len(fields)} fields, expected 3 (query document label) or 4 (TREC): {line[:80]!r}"
            )
        query_id, doc_id, label = fields[0], fields[-2], fields[-1]
        value = _number(label)
        header, first = first and value is None and label.replace("-", "").replace("_", "").isalpha(), False
        if header:
            continue
        if value is None or not value.is_integer():
            raise InputError(f"{path}:{number}: the label {label!r} is no whole number")
        if not query_id or not doc_id:
            raise InputError(f"{path}:{number}: the {'document' if query_id else 'query'} id is empty: {line[:80]!r}")
        row = data.setdefault(query_id, {})
        if row.get(doc_id, value) != value:
            raise InputError(
                f"{path}:{number}: query {query_id!r} and document {doc_id!r} are judged {row[doc_id]} and {int(value)}: keep one"
            )
        repeated += doc_id in row
        row[doc_id] = int(value)
        if len(fields) == 4 and fields[1] == _MACHINE:
            machine.add((query_id, doc_id))
    if repeated:
        logger.warning("%s: %d judgements are given more than once (alike); each counts once", path, repeated)
    marks = np.array([(q, d) in machine for q, row in data.items() for d in row], bool) if machine else False
    return Qrels.from_dict(data, name=name or str(path), machine=marks)


def _qrels_fields(line: str) -> list[str]:
    """Columns between tabs, where ids may hold spaces; else fields between white space."""
    columns = [field.strip(" ") for field in line.split("\t")]
    return columns if len(columns) in (3, 4) else _fields(line)


def write_qrels(qrels: Qrels, path: str | Path) -> None:
    """Write judgements: BEIR's columns with header for `.tsv`, TREC's four otherwise, where the second says `machine` of a
    machine's labels and 0 of others.
    """
    beir = Path(path).name.removesuffix(".gz").endswith(".tsv")
    if beir and qrels.has_machine_labels:
        raise UsageError(
            f"{path}: BEIR's columns can't say which labels are a machine's: write TREC's, to .txt or .qrels"
        )
    _refuse_unwritable(qrels.query_ids, path, "query id", _NO_FIRST_COLUMN if beir else _NO_FIRST_FIELD)
    _refuse_unwritable(qrels.doc_ids, path, "document id", _NO_COLUMN if beir else _NO_FIELD)
    with write_whole(path) as stream:
        if beir:
            stream.write(b"query-id\tcorpus-id\tscore\n")
        marks = iter(qrels.machine.tolist())
        for query_id in qrels:
            for doc_id, label in qrels[query_id].items():
                by = _MACHINE if next(marks) else "0"
                row = f"{query_id}\t{doc_id}\t{label}\n" if beir else f"{query_id} {by} {doc_id} {label}\n"
                stream.write(row.encode())
