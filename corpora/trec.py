"""`trec:DIR`: a folder in TREC's own formats: documents, topics, judgements."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError, UsageError
from ..records import Qrels
from ..run_files import read_qrels
from .dataset import Dataset
from .document_stream import DocumentStream, raw_lines
from .json_lines import JsonLines
from .jsonl import ID_FIELDS, TEXT_FIELDS
from .judged import judged_only
from .trec_files import TrecDocuments, TsvDocuments, read_topics

_FORM = """expected
  documents: files with <DOC> and <DOCNO>, or docs*, documents*, corpus* or collection* (.tsv or .jsonl, or a folder);
  topics:    a file with <top>, or topics*.tsv or queries*.tsv;
  judgements: a file with 'qrel' in its name"""
_DOCUMENT_NAMES = ("docs", "documents", "corpus", "collection")
_TOPIC_NAMES = ("topics", "queries", "query")


def load_trec(path: Path) -> Dataset:
    """A folder with TREC files, each perhaps packed (`.gz`). What is what is told by name and first lines:

    * documents: files that begin with `<DOC>` (TREC's SGML, `<DOCNO>` in each), in the folder or below one named `docs`,
      `documents`, `corpus` or `collection`; or one file of such a name ending in `.jsonl`, or in `.tsv` (id, text; id,
      title, text; or MS MARCO's id, url, title, body);
    * topics: one file with `<top>` (or `<topic number=…>`), or `topics*`/`queries*`/`query*` ending in `.tsv` (id, text);
    * judgements: one file with `qrel` in its name, four TREC columns or three of BEIR.

    The query is the topic's title. Documents or judgements may be absent, topics may not. Two files for one role, or none,
    are an `InputError` that lists what was found. Only judged queries are kept.
    """
    if not path.is_dir():
        raise UsageError(f"trec:{path} is no folder: {' '.join(_FORM.split())}")
    files = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith(".")]
    qrels = _judgements(path, files)
    topics = _one(path, "topics", [file for file in files if _is_topics(file)])
    if topics is None:
        inside = ", ".join(file.name for file in files[:12]) or "nothing"
        raise InputError(f"trec:{path}: no topics among {inside}: {' '.join(_FORM.split())}")
    documents = _documents(path, files)
    return Dataset(
        f"trec:{path}",
        judged_only(read_topics(topics), qrels, topics),
        qrels,
        open_documents=documents.__iter__ if documents is not None else None,
        lookup=documents.get_many if isinstance(documents, JsonLines) and documents.seekable else None,
        description="a folder in TREC's formats",
        version=documents.version if documents is not None else "",
    )


def _one(path: Path, role: str, files: list[Path]) -> Path | None:
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise InputError(f"trec:{path} has {len(files)} files that look like {role} ({names}): leave one in the folder")
    return files[0] if files else None


def _judgements(path: Path, files: list[Path]) -> Qrels | None:
    named = [file for file in files if "qrel" in file.name.lower()]
    columns = [file for file in named if len(_beginning(file).partition("\n")[0].split()) in (3, 4)]
    file = _one(path, "judgements", columns if len(named) > 1 else named)
    return read_qrels(file) if file else None


def _documents(path: Path, files: list[Path]) -> DocumentStream | None:
    marked = [file for file in files if _is_sgml(file)]
    folders = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and _ends_in(folder, _DOCUMENT_NAMES, "")]
    for folder in folders:
        marked += [file for file in sorted(folder.rglob("*")) if file.is_file() and _is_sgml(file)]
    tables = [file for file in files if _ends_in(file, _DOCUMENT_NAMES, ".tsv", ".jsonl")]
    for folder in folders:
        tables += [file for file in sorted(folder.rglob("*")) if _ends_in(file, ("",), ".tsv", ".jsonl")]
    if marked and tables:
        _one(path, "documents", [marked[0], *tables])
    if marked:
        return TrecDocuments(path, marked)
    table = _one(path, "documents", tables)
    if table is None:
        return None
    if table.name.removesuffix(".gz").endswith(".jsonl"):
        return JsonLines(table, ID_FIELDS, TEXT_FIELDS)
    return TsvDocuments(table)


def _is_topics(file: Path) -> bool:
    if _ends_in(file, _TOPIC_NAMES, ".tsv"):
        return True
    start = _beginning(file).lower()
    return "<top>" in start or "<topic " in start


def _is_sgml(file: Path) -> bool:
    start = _beginning(file).lower()
    return start.lstrip("\ufeff \r\n").startswith("<doc>") or ("<doc>" in start and "<docno>" in start)


def _ends_in(file: Path, starts: tuple[str, ...], *endings: str) -> bool:
    name = file.name.lower().removesuffix(".gz")
    return name.startswith(starts) and name.endswith(endings)


def _beginning(file: Path) -> str:
    """The first lines of a file, enough to know it by; no longer than about 4,000 characters a line."""
    lines = []
    for number, _, raw in raw_lines(file):
        lines.append(raw[:4000].decode("utf-8", "replace"))
        if number == 30:
            break
    return "".join(lines)
