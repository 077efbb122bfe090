"""BEIR folders: what is read, what is refused with file and line, what is counted."""

import gzip
import json
import logging

import pytest
from cribble.corpora import load_dataset
from cribble.errors import InputError, SetupError, UsageError
from cribble.records import Document, Query

DOCUMENTS = [
    {"_id": "d1", "title": "Sieves", "text": "a cribble is a coarse sieve"},
    {"_id": "d2", "title": "", "text": "grain is sifted twice"},
    {"_id": "d3", "text": "no title here"},
]
QUERIES = [
    {"_id": "q1", "text": "what is a cribble"},
    {"_id": "q2", "text": "sifting"},
    {"_id": "q3", "text": "unjudged"},
]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td3\t-1\nq2\td2\t1\n"


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def folder(tmp_path):
    """A function that makes a BEIR folder; contents given as bytes replace the usual ones."""

    def make(name="tiny", corpus=None, queries=None, qrels=None, corpus_name="corpus.jsonl", split="test"):
        path = tmp_path / name
        (path / "qrels").mkdir(parents=True, exist_ok=True)
        if corpus is not False:
            (path / corpus_name).write_bytes(corpus if corpus is not None else lines(DOCUMENTS))
        (path / "queries.jsonl").write_bytes(queries if queries is not None else lines(QUERIES))
        (path / "qrels" / f"{split}.tsv").write_bytes((qrels if qrels is not None else QRELS).encode())
        return path

    return make


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


# ---- what is read --------------------------------------------------------------------------------------------------


def test_folder_is_read(folder, caplog):
    caplog.set_level(logging.INFO, "cribble")
    dataset = load_dataset(f"beir:{folder()}")
    assert list(dataset.documents()) == [
        Document("d1", "a cribble is a coarse sieve", "Sieves"),
        Document("d2", "grain is sifted twice"),
        Document("d3", "no title here"),
    ]
    assert dataset.queries == [Query("q1", "what is a cribble"), Query("q2", "sifting")]
    assert dataset.qrels.to_dict() == {"q1": {"d1": 2, "d3": -1}, "q2": {"d2": 1}}
    assert dataset.id.endswith("tiny@test")
    assert dataset.num_documents == 3
    assert dataset.has_documents
    assert dataset.exclusions() == {}
    assert any("1 of 3 queries have no judgement in test" in record.getMessage() for record in caplog.records)
    assert warnings_of(caplog) == []


def test_a_bare_path_is_a_beir_folder_too(folder):
    assert load_dataset(str(folder())).id == load_dataset(f"beir:{folder()}").id


def test_streaming_twice_gives_the_same(folder):
    dataset = load_dataset(f"beir:{folder()}")
    first, second = dataset.documents(), dataset.documents()
    next(first)
    assert list(second)[1:] == list(first)


@pytest.mark.parametrize("packed", [False, True])
def test_get_many(folder, packed):
    raw = lines([{"_id": f"é{i}", "text": f"text {i}"} for i in range(3000)])
    path = folder(corpus=gzip.compress(raw) if packed else raw, corpus_name="corpus.jsonl" + ".gz" * packed)
    dataset = load_dataset(f"beir:{path}")
    asked = ["é2999", "absent", "é0", "é1500"]
    expected = {i: Document(i, f"text {i[1:]}") for i in asked if i != "absent"}
    for _ in range(2):
        found = dataset.get_many(asked)
        assert found == expected
        assert list(found) == ["é2999", "é0", "é1500"]
    assert dataset.get_many([]) == {}


def test_get_many_of_a_corpus_too_large_to_keep(folder, monkeypatch):
    raw = lines([{"_id": str(i), "text": "x" * 50} for i in range(100)])
    monkeypatch.setattr("cribble.corpora.dataset.KEPT_CHARACTERS", 500)
    dataset = load_dataset(f"beir:{folder(corpus=gzip.compress(raw), corpus_name='corpus.jsonl.gz')}")
    for _ in range(2):
        assert list(dataset.get_many(["99", "0", "nope"])) == ["99", "0"]
    assert dataset._kept is None


def test_splits(folder):
    path = folder()
    (path / "qrels" / "train.tsv.gz").write_bytes(gzip.compress(b"query-id\tcorpus-id\tscore\nq3\td3\t1\n"))
    assert [query.id for query in load_dataset(f"beir:{path}@train").queries] == ["q3"]
    with pytest.raises(UsageError, match=r"no split 'tran'.*there: test, train.*did you mean 'train'"):
        load_dataset(f"beir:{path}@tran")
    (path / "qrels" / "test.tsv").unlink()
    with pytest.raises(UsageError, match=r"no split 'test'.*use beir:.*@train"):
        load_dataset(f"beir:{path}")


def test_a_folder_may_have_an_at_sign(folder):
    assert load_dataset(f"beir:{folder(name='me@home')}").id.endswith("me@home@test")


def test_msmarco_is_scored_on_dev(folder):
    assert load_dataset(f"beir:{folder(name='msmarco', split='dev')}").id.endswith("msmarco@dev")


def test_header_less_qrels_are_kept_whole(folder):
    dataset = load_dataset(f"beir:{folder(qrels=QRELS.partition(chr(10))[2])}")
    assert dataset.qrels.num_rows == 3


def test_without_qrels_all_queries_stay(folder):
    path = folder()
    (path / "qrels" / "test.tsv").unlink()
    dataset = load_dataset(f"beir:{path}")
    assert dataset.qrels is None
    assert len(dataset.queries) == 3
    with pytest.raises(UsageError, match="holds no judgements"):
        load_dataset(f"beir:{path}@test")


def test_without_corpus_queries_can_be_used(folder, caplog):
    dataset = load_dataset(f"beir:{folder(corpus=False)}")
    assert not dataset.has_documents
    assert len(dataset.queries) == 2
    assert "has no corpus.jsonl" in warnings_of(caplog)[0]
    with pytest.raises(UsageError, match="has no documents"):
        dataset.documents()


def test_judged_documents_that_the_corpus_lacks(folder):
    dataset = load_dataset(f"beir:{folder(qrels=QRELS + 'q2' + chr(9) + 'd99' + chr(9) + '1' + chr(10))}")
    assert dataset.unknown_judged() == {"d99"}


# ---- facts ---------------------------------------------------------------------------------------------------------


def test_self_matches_are_dropped_where_the_set_says_so(folder):
    dataset = load_dataset(f"beir:{folder(name='arguana')}")
    assert dataset.drop_self
    assert dataset.exclusions() == {"q1": frozenset(["q1"]), "q2": frozenset(["q2"])}
    dataset.excluded = {"q1": frozenset(["d3"])}
    assert dataset.exclusions()["q1"] == {"q1", "d3"}
    assert not load_dataset(f"beir:{folder(name='scifact')}").drop_self


def test_the_sets_that_drop_self_matches():
    from cribble.corpora.facts import beir_sets

    # mteb's list; see beir_sets.json for why not BEIR's "always"
    assert {name for name, facts in beir_sets().items() if facts.drop_self} == {
        "arguana", "fiqa", "fever", "quora", "msmarco",
    }  # fmt: skip
    assert len(beir_sets()) == 19
    assert sum(bool(facts.md5) for facts in beir_sets().values()) == 15
    assert len({facts.md5 for facts in beir_sets().values() if facts.md5}) == 15


def test_cqadupstack_has_parts_and_nothing_of_its_own(folder, caplog):
    for part in ("android", "tex"):
        folder(name=f"cqadupstack/{part}")
    root = folder(name="elsewhere").parent / "cqadupstack"
    dataset = load_dataset(f"beir:{root}")
    assert list(dataset.parts) == ["android", "tex"]
    assert "2 of CQADupStack's 12 forums" in warnings_of(caplog)[0]
    assert dataset.parts["tex"].id.endswith("cqadupstack/tex@test")
    assert len(list(dataset.parts["tex"].documents())) == 3
    assert not dataset.has_documents
    assert dataset.exclusions() == {}
    for forbidden in (
        lambda: dataset.queries,
        lambda: dataset.qrels,
        dataset.documents,
        lambda: dataset.get_many(["d1"]),
    ):
        with pytest.raises(UsageError, match=r"2 parts and nothing of its own.*android, tex"):
            forbidden()
    assert load_dataset(f"beir:{root}/android").queries


def test_a_folder_of_other_beir_folders_asks_for_one(folder):
    folder(name="xquad/en")
    root = folder(name="xquad/de").parent
    with pytest.raises(UsageError, match=r"name one .*xquad/de, .*xquad/en"):
        load_dataset(f"beir:{root}")


# ---- counted, not refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "expected", "told"),
    [
        ({"_id": "a b/c", "text": "x"}, Document("a b/c", "x"), "1 ids hold white space"),
        ({"_id": "tab\there", "text": "x"}, Document("tab\there", "x"), "1 ids hold white space"),
        ({"_id": 17, "text": "x"}, Document("17", "x"), "1 ids are numbers"),
        ({"_id": "e", "text": ""}, Document("e", ""), "1 records have neither text nor title"),
        ({"_id": "e", "text": None, "title": None}, Document("e", ""), "1 records have neither text nor title"),
        ({"_id": "e", "text": " \n"}, Document("e", " \n"), "1 records have neither text nor title"),
        (
            {"_id": "s", "text": "half \ud83d pair"},
            Document("s", "half \ufffd pair"),
            "1 records hold half a surrogate",
        ),
        ({"_id": "ok", "text": "whole \U0001f600 pair"}, Document("ok", "whole \U0001f600 pair"), None),
        ({"_id": "t", "title": "only a title", "text": ""}, Document("t", "", "only a title"), None),
        ({"_id": "日本-é", "text": "ünï"}, Document("日本-é", "ünï"), None),
        ({"_id": "m", "text": "x", "metadata": {"url": "y"}}, Document("m", "x"), None),
    ],
)
def test_odd_documents_are_kept_and_counted_once(folder, caplog, row, expected, told):
    dataset = load_dataset(f"beir:{folder(corpus=lines([*DOCUMENTS, row]))}")
    for _ in range(2):
        assert list(dataset.documents())[-1] == expected
    assert dataset.get_many([expected.id]) == {expected.id: expected}
    assert len(warnings_of(caplog)) == (told is not None)
    assert told is None or told in warnings_of(caplog)[0]


def test_crlf_bom_and_blank_lines(folder, caplog):
    raw = b"\xef\xbb\xbf" + lines(DOCUMENTS).replace(b"\n", b"\r\n\r\n")
    queries = b"\xef\xbb\xbf" + lines(QUERIES).replace(b"\n", b"\r\n")
    dataset = load_dataset(f"beir:{folder(corpus=raw, queries=queries)}")
    assert [document.id for document in dataset.documents()] == ["d1", "d2", "d3"]
    assert dataset.get_many(["d1", "d3"])["d3"].text == "no title here"
    assert len(dataset.queries) == 2
    assert dataset.num_documents == 3
    assert warnings_of(caplog) == []


def test_a_document_of_ten_megabytes(folder):
    dataset = load_dataset(f"beir:{folder(corpus=lines([*DOCUMENTS, {'_id': 'big', 'text': 'word ' * 2_000_000}]))}")
    assert len(list(dataset.documents())[-1].text) == 10_000_000
    assert len(dataset.get_many(["big"])["big"].text) == 10_000_000


def test_judged_queries_without_text_are_told(folder, caplog):
    dataset = load_dataset(f"beir:{folder(qrels=QRELS + 'q9' + chr(9) + 'd1' + chr(9) + '1' + chr(10))}")
    assert "1 of the 3 queries judged in test are not in it ('q9' is the first); they score 0" in warnings_of(caplog)[0]
    assert "q9" in dataset.qrels


# ---- refused, with file and line -----------------------------------------------------------------------------------

GOOD = lines(DOCUMENTS)


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        (GOOD + lines([DOCUMENTS[0]]), r"corpus\.jsonl:4: the id 'd1' was already given in line 1"),
        (GOOD + b"{not json}\n", r"corpus\.jsonl:4: no JSON"),
        (GOOD + b"[1, 2]\n", r"corpus\.jsonl:4: a JSON list, expected an object with '_id' and 'text'"),
        (GOOD + b"[" * 100_000 + b"\n", r"corpus\.jsonl:4: no JSON"),
        (GOOD + b'{"_id": "x", "text": "caf\xe9"}\n', r"corpus\.jsonl:4: not UTF-8 at byte 26 of the line"),
        (GOOD + lines([{"text": "x"}]), r"corpus\.jsonl:4: no field '_id', found 'text'"),
        (GOOD + lines([{"_id": "x", "contents": "y"}]), r"corpus\.jsonl:4: no field 'text', found '_id', 'contents'"),
        (GOOD + lines([{"_id": "x", "text": ["y"]}]), r"corpus\.jsonl:4: text is of type list"),
        (GOOD + lines([{"_id": "x", "text": "y", "title": 3}]), r"corpus\.jsonl:4: title is of type int"),
        (GOOD + lines([{"_id": "", "text": "x"}]), r"corpus\.jsonl:4: _id is '', expected a text"),
        (GOOD + lines([{"_id": None, "text": "x"}]), r"corpus\.jsonl:4: _id is None"),
        (GOOD + lines([{"_id": 1.5, "text": "x"}]), r"corpus\.jsonl:4: _id is 1.5"),
        (GOOD + lines([{"_id": True, "text": "x"}]), r"corpus\.jsonl:4: _id is True"),
        (b"", r"corpus\.jsonl holds no records"),
        (b"\n \r\n", r"corpus\.jsonl holds no records"),
    ],
)
def test_bad_corpus_names_file_and_line(folder, corpus, message):
    with pytest.raises(InputError, match=message) as caught:
        list(load_dataset(f"beir:{folder(corpus=corpus)}").documents())
    assert "\n" not in str(caught.value)


def test_a_duplicate_far_away_names_both_lines(folder):
    rows = [{"_id": str(i), "text": "x"} for i in range(5000)] + [{"_id": "17", "text": "again"}]
    dataset = load_dataset(f"beir:{folder(corpus=gzip.compress(lines(rows)), corpus_name='corpus.jsonl.gz')}")
    with pytest.raises(InputError, match=r"corpus\.jsonl\.gz:5001: the id '17' was already given in line 18"):
        list(dataset.documents())


def test_a_number_and_its_text_are_the_same_id(folder):
    with pytest.raises(InputError, match="the id '1' was already given in line 1"):
        load_dataset(f"beir:{folder(corpus=lines([{'_id': 1, 'text': 'x'}, {'_id': '1', 'text': 'y'}]))}")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda raw: raw[: len(raw) // 2], "can't be read on"),
        (lambda raw: raw[:-8] + bytes(8), "can't be read on .CRC check failed"),
        (lambda raw: b"plain text, not gzip\n", r"corpus\.jsonl\.gz:1: can't be read on"),
        (
            lambda raw: raw[:40] + bytes([raw[40] ^ 255]) + raw[41:],
            r"corpus\.jsonl\.gz:\d+: (can't be read on|not UTF-8|no JSON)",
        ),
    ],
)
def test_broken_gzip(folder, damage, message):
    raw = gzip.compress(lines([{"_id": str(i), "text": f"text {i * i}"} for i in range(3000)]))
    path = folder(corpus=damage(raw), corpus_name="corpus.jsonl.gz")
    with pytest.raises(InputError, match=message):
        list(load_dataset(f"beir:{path}").documents())


@pytest.mark.parametrize(
    ("queries", "qrels", "message"),
    [
        (lines([*QUERIES, QUERIES[0]]), None, r"queries\.jsonl:4: the id 'q1' was already given in line 1"),
        (lines(QUERIES) + b"oops\n", None, r"queries\.jsonl:4: no JSON"),
        (b"", None, r"queries\.jsonl holds no records"),
        (
            lines([{"_id": "other", "text": "x"}]),
            None,
            r"none of its 1 queries is judged in test: ids like 'other' here, like 'q1'",
        ),
        (None, "query-id\tcorpus-id\tscore\nq1\td1\tmany\n", r"test\.tsv:2: the label 'many' is no whole number"),
        (None, QRELS + "q1\td1\t0\n", r"test\.tsv:5: query 'q1' and document 'd1' are judged 2 and 0"),
        (None, "query-id\tcorpus-id\tscore\n", "none of its 3 queries is judged"),
    ],
)
def test_bad_queries_and_judgements(folder, queries, qrels, message):
    with pytest.raises(InputError, match=message):
        load_dataset(f"beir:{folder(queries=queries, qrels=qrels)}")


def test_broken_gzip_judgements(folder):
    path = folder()
    rows = "".join(f"q1\td{i}\t{i % 3}\n" for i in range(5000))
    raw = bytearray(gzip.compress(rows.encode()))
    raw[len(raw) // 2] ^= 255
    (path / "qrels" / "test.tsv").unlink()
    (path / "qrels" / "test.tsv.gz").write_bytes(raw)
    with pytest.raises(InputError, match=r"test\.tsv\.gz"):
        load_dataset(f"beir:{path}")


def test_a_tilde_is_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder().parent))
    assert load_dataset("beir:~/tiny").queries


def test_packed_and_not_packed_at_once(folder):
    path = folder()
    (path / "corpus.jsonl.gz").write_bytes(gzip.compress(lines(DOCUMENTS)))
    with pytest.raises(SetupError, match=r"corpus\.jsonl and corpus\.jsonl\.gz are both there"):
        load_dataset(f"beir:{path}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("beri:scifact", "scheme 'beri' is unknown: did you mean 'beir'"),
        ("ir-datasets:vaswani", "did you mean 'ir_datasets'"),
        ("beir:scifct", "no set of BEIR: did you mean 'scifact'"),
        ("beir:cqadupstack/andriod", "has no part 'andriod': did you mean 'android'"),
        ("beir:", "names nothing after the colon"),
        ("beir:@test", "expected a folder or name before the @"),
        ("sample:stdlb", "the only sample is sample:stdlib"),
        ("scifact", "did you mean 'beir:scifact'"),
        ("nothing-like-it", "is neither a folder nor of the form scheme:rest"),
        ("", "is neither a folder nor of the form scheme:rest"),
    ],
)
def test_unknown_specs(spec, message):
    with pytest.raises(UsageError, match=message):
        load_dataset(spec)


def test_specs_for_the_wrong_kind_of_path(tmp_path):
    (tmp_path / "docs.jsonl").write_text('{"id": "1", "text": "x"}\n')
    with pytest.raises(UsageError, match=r"is a file: write jsonl:"):
        load_dataset(str(tmp_path / "docs.jsonl"))
    with pytest.raises(UsageError, match=r"is a folder without queries.jsonl: for TREC's formats write trec:"):
        load_dataset(str(tmp_path))
    with pytest.raises(UsageError, match="is a file, expected a folder"):
        load_dataset(f"beir:{tmp_path / 'docs.jsonl'}")
    with pytest.raises(InputError, match=r"no BEIR folder: expected queries.jsonl.*found docs.jsonl"):
        load_dataset(f"beir:{tmp_path}")


def test_list_datasets_names_what_load_dataset_takes():
    from cribble.corpora import list_datasets

    names = dict(list_datasets())
    assert names["beir:scifact"] == "scientific claims, 5,183 documents"
    assert {name.partition(":")[0] for name in names} == {
        "beir",
        "bright",
        "images",
        "ir_datasets",
        "jsonl",
        "sample",
        "trec",
    }
