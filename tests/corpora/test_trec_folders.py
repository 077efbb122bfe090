"""Folders in TREC's formats."""

import gzip
import logging

import pytest
from cribble.corpora import load_dataset
from cribble.errors import InputError, UsageError
from cribble.records import Document, Query

DOCS = b"""<DOC>
<DOCNO> FT911-1 </DOCNO>
<HEADLINE>FT 14 MAY 91 / Sieves &amp; grain</HEADLINE>
<DATE>910514</DATE>
<TEXT>
A <b>cribble</b> is a
coarse sieve.
</TEXT>
<TEXT>Second part</TEXT>
</DOC>

<doc><docno>plain-2</docno>no markup inside 1 < 2</doc>
"""
TOPICS = """<top>
<num> Number: 301
<title> Coarse sieves

<desc> Description:
Which sieves are coarse?
<narr> Narrative:
Any.
</top>
<top><num>302</num><title></title><desc>Only described</desc></top>
"""
QRELS = "301 0 FT911-1 2\n302 0 plain-2 1\n"


@pytest.fixture
def folder(tmp_path):
    def make(**files):
        for name, content in ({"docs.trec": DOCS, "topics.301-302": TOPICS, "qrels.txt": QRELS} | files).items():
            path = tmp_path / name
            path.unlink(missing_ok=True)
            if content is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        return f"trec:{tmp_path}"

    return make


def test_sgml_documents_topics_and_judgements(folder):
    dataset = load_dataset(folder())
    expected = [
        Document("FT911-1", "A cribble is a coarse sieve. Second part", "FT 14 MAY 91 / Sieves & grain"),
        Document("plain-2", "no markup inside 1 < 2"),
    ]
    for _ in range(2):
        assert list(dataset.documents()) == expected
    assert dataset.get_many(["plain-2", "absent"]) == {"plain-2": expected[1]}
    assert dataset.queries == [Query("301", "Coarse sieves"), Query("302", "Only described")]
    assert dataset.qrels.to_dict() == {"301": {"FT911-1": 2}, "302": {"plain-2": 1}}


def test_packed_files_in_a_folder_of_documents(folder):
    files = {"docs.trec": None, "docs/b/ft2.gz": gzip.compress(b"<DOC><DOCNO>z</DOCNO>zz</DOC>"), "docs/a/ft1": DOCS}
    assert [document.id for document in load_dataset(folder(**files)).documents()] == ["FT911-1", "plain-2", "z"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("collection.tsv", "a\tone\n", Document("a", "one")),
        ("docs.tsv", "a\tTitle\tone\n", Document("a", "one", "Title")),
        ("docs.tsv", 'D1\thttp://x\tTitle\tbody "quoted\n', Document("D1", 'body "quoted', "Title")),
        ("corpus.jsonl", '{"id": "a", "contents": "one"}\n', Document("a", "one")),
        ("documents/part.tsv", "a\tone\r\n", Document("a", "one")),
    ],
)
def test_tables_of_documents(folder, name, content, expected):
    dataset = load_dataset(folder(**{"docs.trec": None, name: content}))
    assert list(dataset.documents()) == [expected]
    assert dataset.get_many([expected.id]) == {expected.id: expected}


def test_topics_as_a_table_or_as_xml(folder):
    table = {"topics.301-302": None, "queries.tsv": "301\tcoarse sieves\r\n302\tx\ty\n"}
    assert load_dataset(folder(**table)).queries == [Query("301", "coarse sieves"), Query("302", "x\ty")]
    xml = '<topics>\n<topic number="301">\n<query>sieves &amp; grain</query>\n<question>Why?</question>\n</topic></topics>'
    dataset = load_dataset(folder(**{"queries.tsv": None, "topics.301-302": xml, "qrels.txt": "301 0 FT911-1 1\n"}))
    assert dataset.queries == [Query("301", "sieves & grain")]


def test_latin_1_is_read_and_counted(folder, caplog):
    documents = list(load_dataset(folder(**{"docs.trec": DOCS + b"<DOC><DOCNO>l</DOCNO>caf\xe9</DOC>"})).documents())
    assert documents[-1] == Document("l", "café")
    assert "1 documents are not UTF-8" in caplog.text


def test_what_may_be_absent(folder):
    assert not load_dataset(folder(**{"docs.trec": None})).has_documents
    dataset = load_dataset(folder(**{"qrels.txt": "301 0 FT911-1 1\n"}))
    assert [query.id for query in dataset.queries] == ["301"]


def test_without_judgements_all_topics_stay(folder):
    dataset = load_dataset(folder(**{"qrels.txt": None}))
    assert dataset.qrels is None
    assert len(dataset.queries) == 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"topics.301-302": None},
            r"no topics among docs\.trec, qrels\.txt: expected documents: .* topics: a file with <top>",
        ),
        ({"more": TOPICS}, r"2 files that look like topics \(more, topics\.301-302\)"),
        ({"qrels.2": QRELS}, r"2 files that look like judgements \(qrels\.2, qrels\.txt\)"),
        ({"docs.tsv": "a\tb\n"}, r"2 files that look like documents \(docs\.trec, docs\.tsv\)"),
        ({"docs.trec": DOCS + DOCS}, r"docs\.trec:1[0-9]: the id 'FT911-1' was already given in line 1: keep one"),
        ({"docs2.trec": DOCS}, r"docs2\.trec:1: the id 'FT911-1' was already given in .*docs\.trec:1"),
        ({"docs.trec": DOCS[:60]}, r"docs\.trec:1: the document that begins here has no </DOC>"),
        ({"docs.trec": b"<DOC>\n<DOCNO>a</DOCNO>\n<DOC>\n"}, r"docs\.trec:3: <DOC> inside the document of line 1"),
        ({"docs.trec": b"<DOC>\nx\n</DOC>\n"}, r"docs\.trec:1: the document has no <DOCNO>"),
        ({"docs.trec": None, "docs.tsv": "a\tone\nb\n"}, r"docs\.tsv:2: 1 fields, expected id and text"),
        ({"docs.trec": None, "docs.tsv": "\tone\n"}, r"docs\.tsv:1: 2 fields|expected id and text"),
        ({"docs.trec": None, "docs.tsv": ""}, r"docs\.tsv holds no records"),
        ({"topics.301-302": TOPICS + TOPICS}, r"topics\.301-302:11: the topic '301' was already given in line 1"),
        ({"topics.301-302": "<top>\n<title> x\n</top>\n"}, r"topics\.301-302:1: the topic has no <num>"),
        ({"topics.301-302": "<top>\n<num> 1\n</top>\n"}, r"topics\.301-302:1: the topic has no <title> and <desc>"),
        (
            {"topics.301-302": None, "topics.tsv": "301 sieve\n"},
            r"topics\.tsv:1: expected id, tab, text, found '301 sieve'",
        ),
        ({"qrels.txt": "999 0 d 1\n"}, r"none of its 2 queries is judged .*ids like '301' here, like '999' there"),
        ({"qrels.txt": "301 0 d\n1 2 3 4 5\n"}, r"qrels\.txt:2: 5 fields"),
    ],
)
def test_what_is_refused(folder, files, message):
    with pytest.raises(InputError, match=message):
        list(load_dataset(folder(**files)).documents())


def test_no_folder(tmp_path):
    with pytest.raises(UsageError, match="is no folder: expected documents"):
        load_dataset(f"trec:{tmp_path / 'absent'}")


def test_left_out_topics_are_told(folder, caplog):
    caplog.set_level(logging.INFO, "cribble")
    load_dataset(folder(**{"qrels.txt": "301 0 FT911-1 1\n"}))
    assert "1 of 2 queries have no judgement" in caplog.text
