"""Judgements: read from every usual form, counted and refused by file and line, kept as they are."""

import gzip

import numpy as np
import pytest
from cribble.errors import InputError
from cribble.records import Qrels
from hypothesis import given, settings
from hypothesis import strategies as st

DATA = {"q1": {"d1": 2, "d2": 0, "d3": -2}, "q2": {"d1": 1}}
ROWS = [(q, d, label) for q, row in DATA.items() for d, label in row.items()]
TREC = "".join(f"{q} 0 {d} {label}\n" for q, d, label in ROWS)
BEIR = "".join(f"{q}\t{d}\t{label}\n" for q, d, label in ROWS)
HEADER = "query-id\tcorpus-id\tscore\n"

IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\v\f\r \ufeff"), min_size=1).filter(
    lambda text: text.strip(" ") == text != "#"
)


def written(tmp_path, text, name="qrels.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize(
    "text",
    [
        TREC,
        BEIR,
        HEADER + BEIR,
        "\ufeff" + HEADER + BEIR,
        "\ufeff" + TREC,
        TREC.replace("\n", "\r\n"),
        (HEADER + BEIR).replace("\n", "\r\n"),
        TREC.replace(" ", "\t"),
        TREC.replace(" ", "  "),
        TREC.replace(" 0 d", " Q0\td"),
        BEIR.replace("\t", " "),
        "query document relevance\n" + BEIR.replace("\t", " "),
        "# judged by hand\n\n" + HEADER + BEIR,
        "# in 3\n# of 4 1\n" + TREC,
        "#made by 1 judge and others\n" + TREC,
        TREC.replace("\n", "\n\n"),
        TREC.replace(" 2\n", " 2.0\n").replace(" -2\n", " -2.0\n"),
        HEADER + BEIR.replace("\t1\n", "\t1.0\n"),
        TREC.rstrip("\n"),
        TREC.replace("\n", " \n"),
        BEIR.replace("\t", " \t"),
    ],
)
def test_usual_forms(tmp_path, text):
    assert Qrels.read(written(tmp_path, text)).to_dict() == DATA
    assert Qrels.read(written(tmp_path, gzip.compress(text.encode()), "q.tsv.gz")).to_dict() == DATA


def test_a_file_without_header_loses_no_line(tmp_path):
    assert Qrels.read(written(tmp_path, BEIR)).num_rows == len(ROWS)


def test_ids_stay_strings_and_may_hold_spaces_between_tabs(tmp_path):
    ids = ["#1", '"a"', "N/A", "null", "nan", "1e5", "007", "a b", "é\u00a0x", "😀"]
    text = HEADER + "".join(f"{i}\t{i}\t1\n" for i in ids)
    assert Qrels.read(written(tmp_path, text, "q.tsv")).to_dict() == {i: {i: 1} for i in ids}
    text = "".join(f"{i} 0 {i} 1\n" for i in ids if " " not in i)
    assert Qrels.read(written(tmp_path, text)).to_dict() == {i: {i: 1} for i in ids if " " not in i}


def test_interleaved_queries_keep_their_first_place(tmp_path):
    path = written(tmp_path, "q2 0 a 1\nq1 0 b 1\nq2 0 c 0\n")
    assert list(Qrels.read(path)) == ["q2", "q1"]
    assert Qrels.read(path)["q2"] == {"a": 1, "c": 0}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("q1 0 d 1\nq1 0 d 2\n", r"qrels\.txt:2: query 'q1' and document 'd' are judged 1 and 2: keep one"),
        ("q1 0 d 1\nq2 d\n", r"qrels\.txt:2: 2 fields, expected 3 .* or 4"),
        ("q1 0 d 1 more\n", r"qrels\.txt:1: 5 fields"),
        ("q1 0 d 1\nq1 0 e 0.5\n", r"qrels\.txt:2: the label '0\.5' is no whole number"),
        ("q1 0 d 0.5\nq1 0 e 1\n", r"qrels\.txt:1: the label '0\.5' is no whole number"),
        ("q1 0 d nan\n", r"qrels\.txt:1: the label 'nan' is no whole number"),
        ("q1 0 d inf\n", r"qrels\.txt:1: the label 'inf' is no whole number"),
        ("q1 0 d 1_0\nq1 0 e 1\n", r"qrels\.txt:1: the label '1_0' is no whole number"),
        ("q1 0 d 1\nq1 0 e good\n", r"qrels\.txt:2: the label 'good' is no whole number"),
        (HEADER + HEADER + BEIR, r"qrels\.txt:2: the label 'score' is no whole number"),
        ("q1\t\t1\n", r"qrels\.txt:1: the document id is empty"),
        ("\td\t1\n", r"qrels\.txt:1: the query id is empty"),
        (b"q1 0 \xff 1\n", r"qrels\.txt:1: not UTF-8"),
    ],
)
def test_broken_lines_are_named(tmp_path, text, match):
    with pytest.raises(InputError, match=match):
        Qrels.read(written(tmp_path, text))


def test_repeated_judgements_are_counted_once_and_said(tmp_path, caplog):
    path = written(tmp_path, TREC + TREC)
    assert Qrels.read(path).to_dict() == DATA
    assert [r.getMessage() for r in caplog.records] == [
        f"{path}: 4 judgements are given more than once (alike); each counts once"
    ]


@pytest.mark.parametrize("ending", ["txt", "tsv", "qrels.gz", "tsv.gz"])
@settings(max_examples=30, deadline=None)
@given(
    data=st.dictionaries(
        IDS, st.dictionaries(IDS, st.integers(-(2**53), 2**53), min_size=1, max_size=4), min_size=1, max_size=4
    )
)
def test_round_trip(tmp_path_factory, ending, data):
    path = tmp_path_factory.mktemp("round") / f"q.{ending}"
    Qrels.from_dict(data).write(path)
    assert Qrels.read(path).to_dict() == data
    assert list(Qrels.read(path)) == list(data)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"q": {"a b": 1}}, "q.txt"),
        ({"q q": {"a": 1}}, "q.txt"),
        ({"#": {"a": 1}}, "q.txt"),
        ({"": {"a": 1}}, "q.txt"),
        ({"q": {"a\tb": 1}}, "q.tsv"),
        ({"q": {"a\nb": 1}}, "q.tsv"),
        ({"q": {" a": 1}}, "q.tsv"),
        ({"q": {"a ": 1}}, "q.tsv"),
        ({"# q": {"a": 1}}, "q.tsv"),
        ({"q": {"": 1}}, "q.tsv"),
    ],
)
def test_ids_that_would_read_otherwise_are_refused(tmp_path, data, name):
    with pytest.raises(InputError, match=rf"{name}: the (query|document) id .* rename"):
        Qrels.from_dict(data).write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_spaces_are_kept_between_tabs(tmp_path):
    qrels = Qrels.from_dict({"a q": {"a d": 1}})
    qrels.write(tmp_path / "q.tsv")
    assert Qrels.read(tmp_path / "q.tsv") == qrels


@pytest.mark.parametrize("label", ["1", 1.0, None])
def test_labels_must_be_integers(label):
    with pytest.raises(InputError, match="expected int"):
        Qrels.from_dict({"q": {"d": label}})


def test_columns():
    qrels = Qrels(["q1", "q2"], np.array([0, 1, 2]), ["a", "a"], np.array([1, -1], np.int8))
    assert qrels.labels.dtype == np.int64
    assert qrels.to_dict() == {"q1": {"a": 1}, "q2": {"a": -1}}
    assert "2 queries, 2 judgements" in repr(qrels)
    with pytest.raises(InputError, match="labels are of type float64, expected integers"):
        Qrels(["q"], np.array([0, 1]), ["a"], np.array([1.0]))
    with pytest.raises(InputError, match="1 documents and 2 labels"):
        Qrels(["q"], np.array([0, 1]), ["a"], np.array([1, 2]))
    with pytest.raises(InputError, match="query 'q' has document 'a' twice"):
        Qrels(["q"], np.array([0, 2]), ["a", "a"], np.array([1, 1]))
    with pytest.raises(InputError, match="query id 7 is of type int"):
        Qrels.from_dict({7: {"a": 1}})


def test_equality_ignores_order():
    assert Qrels.from_dict(DATA) == Qrels.from_dict(
        {q: dict(reversed(row.items())) for q, row in reversed(DATA.items())}
    )
    assert Qrels.from_dict(DATA) != Qrels.from_dict(DATA | {"q2": {"d1": 2}})
    assert Qrels.from_dict(DATA) != DATA


@pytest.mark.slow
@pytest.mark.usefixtures("interpreted_ranx")
def test_ranx_qrels_both_ways():
    ranx = pytest.importorskip("ranx")
    data = {"q1": {"d1": 2, "d2": 1}, "q2": {"é": 3}}
    theirs = Qrels.from_dict(data).to_ranx()
    assert isinstance(theirs, ranx.Qrels)
    assert Qrels.from_ranx(theirs).to_dict() == data
