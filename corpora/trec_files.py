"""TREC's documents and topics: SGML as NIST writes it, and tab-separated tables."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from ..records import Document, Query
from .document_stream import DocumentStream, Record, raw_lines, text_lines

_TITLE_TAGS, _TEXT_TAGS = "title|headline|hl|head|ti|ttl", "text|lp|leadpara"
_TITLE = re.compile(rf"<({_TITLE_TAGS})\b[^>]*>(.*?)</\1\s*>", re.IGNORECASE | re.DOTALL)
_TEXT = re.compile(rf"<({_TEXT_TAGS})\b[^>]*>(.*?)</\1\s*>", re.IGNORECASE | re.DOTALL)
_NUMBER = re.compile(r"<docno>(.*?)</docno\s*>", re.IGNORECASE | re.DOTALL)
_NOT_TEXT = re.compile(r"<(docno|docid|dochdr|docoldno)\b[^>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<!--.*?-->", re.DOTALL)
_BEGIN, _END = re.compile(rb"\s*<doc>", re.IGNORECASE), re.compile(rb"</doc>", re.IGNORECASE)


class TrecDocuments(DocumentStream):
    """`<DOC> <DOCNO>id</DOCNO> … </DOC>` from several files, in their order.

    The title is what stands in TITLE, HEADLINE, HL, HEAD, TI or TTL; the text what stands in TEXT, LP or LEADPARA, or
    else all the rest. Tags go, entities become characters, white space runs become one space. A document that is not UTF-8
    is read as Latin-1 and counted. A document without DOCNO or end is an `InputError` with its file and line.
    """

    def __init__(self, path: Path, files: list[Path]) -> None:
        super().__init__(path)
        self._files = files

    @property
    def files(self) -> list[Path]:
        return self._files

    def records(self, remarks: Counter[str]) -> Iterator[Record]:
        for file in self._files:
            for line, offset, raw in _blocks(file):
                try:
                    body = raw.decode("utf-8")
                except UnicodeDecodeError:
                    remarks["latin-1"] += 1
                    body = raw.decode("latin-1")
                yield Record(file, line, offset, _document(f"{file}:{line}", body))


def _blocks(file: Path) -> Iterator[tuple[int, int, bytes]]:
    """(line, offset, what stands between <DOC> and </DOC>)."""
    inside: list[bytes] | None = None
    begun = start = 0
    for number, offset, raw in raw_lines(file):
        if inside is None:
            found = _BEGIN.match(raw)
            if found is None:
                continue
            inside, begun, start, raw = [], number, offset, raw[found.end() :]
        elif _BEGIN.match(raw):
            raise InputError(f"{file}:{number}: <DOC> inside the document of line {begun}: its </DOC> is missing")
        end = _END.search(raw)
        inside.append(raw[: end.start()] if end else raw)
        if end:
            yield begun, start, b"".join(inside)
            inside = None
    if inside is not None:
        raise InputError(f"{file}:{begun}: the document that begins here has no </DOC>: the file is cut short")


def _document(where: str, body: str) -> Document:
    number = _NUMBER.search(body)
    if number is None or not number[1].strip():
        raise InputError(f"{where}: the document has no <DOCNO>, expected <DOCNO>id</DOCNO>")
    title = _plain(" ".join(found[2] for found in _TITLE.finditer(body)))
    parts = [found[2] for found in _TEXT.finditer(body)]
    text = " ".join(parts) if parts else _NOT_TEXT.sub(" ", _TITLE.sub(" ", body))
    return Document(number[1].strip(), _plain(text), title)


def _plain(marked: str) -> str:
    return " ".join(html.unescape(_TAG.sub(" ", marked)).split())


class TsvDocuments(DocumentStream):
    """One document a line: id, text; id, title, text; or id, url, title, body (MS MARCO). Nothing is quoted."""

    def records(self, remarks: Counter[str]) -> Iterator[Record]:
        for number, offset, line in text_lines(self.path):
            fields = line.rstrip("\r\n").split("\t")
            if len(fields) not in (2, 3, 4) or not fields[0]:
                raise InputError(
                    f"{self.path}:{number}: {len(fields)} fields, expected id and text, or id, title and text, apart by tabs"
                )
            title = fields[-2] if len(fields) > 2 else ""
            yield Record(self.path, number, offset, Document(fields[0], fields[-1], title))


# ---- topics -------------------------------------------------------------------------------------------------------------

_TOPIC = re.compile(
    r"<top>(?P<old>.*?)</top>|<topic\s+number=[\"']?(?P<id>[^\"'>\s]+)[^>]*>(?P<new>.*?)</topic>",
    re.IGNORECASE | re.DOTALL,
)
_FIELD = re.compile(
    r"<(num|title|query|desc|description|question)>(.*?)(?=<(?!/?(?:b|i)>)|\Z)", re.IGNORECASE | re.DOTALL
)
_LABEL = re.compile(r"^\s*(number|topic|description)\s*:", re.IGNORECASE)


def read_topics(path: Path) -> list[Query]:
    """The topics of a file: TREC's `<top>` with `<num>` and `<title>`, TREC-COVID's `<topic number=…>` with `<query>`, or a
    table of id and text. The query is the title; a topic that has none is asked by its description.
    """
    if path.name.removesuffix(".gz").endswith(".tsv"):
        queries = [(number, *_row(path, number, line)) for number, _, line in text_lines(path)]
    else:
        queries = list(_marked_topics(path))
    first: dict[str, int] = {}
    for number, query_id, _ in queries:
        if query_id in first:
            raise InputError(
                f"{path}:{number}: the topic {query_id!r} was already given in line {first[query_id]}: keep one"
            )
        first[query_id] = number
    if not queries:
        raise InputError(f"{path} holds no topics, expected <top> … </top> or lines of id, tab, text")
    return [Query(query_id, text) for _, query_id, text in queries]


def _row(path: Path, number: int, line: str) -> tuple[str, str]:
    query_id, tab, text = line.rstrip("\r\n").partition("\t")
    if not tab or not query_id:
        raise InputError(f"{path}:{number}: expected id, tab, text, found {line[:60].rstrip()!r}")
    return query_id, text


def _marked_topics(path: Path) -> Iterator[tuple[int, str, str]]:
    raw = b"".join(line for _, _, line in raw_lines(path))
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # as for the documents of TREC's older disks
    for topic in _TOPIC.finditer(text):
        number = text.count("\n", 0, topic.start()) + 1
        fields = {
            found[1].lower(): _plain(_LABEL.sub("", found[2]))
            for found in _FIELD.finditer(topic["old"] or topic["new"])
        }
        query_id = topic["id"] or fields.get("num", "")
        asked = (fields.get(name) for name in ("title", "query", "desc", "description", "question"))
        query = next((value for value in asked if value), "")
        if not query_id or not query:
            lacks = "<num>" if not query_id else "<title> and <desc>"
            raise InputError(f"{path}:{number}: the topic has no {lacks}, expected <num>id and <title>text")
        yield number, query_id, query
