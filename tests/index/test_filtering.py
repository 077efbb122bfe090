"""Filters against brute force, conditions against Python, and what a condition may not be."""

from __future__ import annotations

import logging
import sqlite3

import numpy as np
import pytest
from cribble.errors import InputError, SetupError, UsageError
from cribble.index import metadata as metadata_module
from cribble.index.filtering import selected_rows
from cribble.index.flat import FlatIndex
from cribble.index.metadata import FILE
from cribble.index.opening import open_index
from cribble.records import DescribedDocument, Document
from cribble.tests.index.builds import build_flat, make_documents
from cribble.vectors import Dense, EncoderSpec

N, DIM = 10_000, 16
VECTORS = np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32)
QUERIES = np.random.default_rng(1).standard_normal((5, DIM)).astype(np.float32)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Document i has the metadata {"n": i}."""
    path = tmp_path_factory.mktemp("filters") / "i"
    return FlatIndex.build(
        path,
        (DescribedDocument.of(Document(f"d{i}", ""), {"n": i}) for i in range(N)),
        lambda batch: Dense(VECTORS[[int(d.id[1:]) for d in batch]]),
        spec=EncoderSpec("m", dim=DIM),
        corpus="c",
        similarity="dot",
        shard_documents=1000,
    )


def brute_force(rows: np.ndarray, k: int) -> list[list[str]]:
    """float64 products, ties (there are none) by id descending."""
    scores = QUERIES.astype(np.float64) @ VECTORS[rows].astype(np.float64).T
    return [[f"d{rows[i]}" for i in np.argsort(-row)[:k]] for row in scores]


@pytest.mark.parametrize("selectivity", [0.0001, 0.001, 0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("how", ["allow", "deny", "where", "all"])
def test_filters_equal_brute_force(index, selectivity, how):
    rows = np.random.default_rng(int(selectivity * 1e4)).permutation(N)[: max(1, int(N * selectivity))]
    keep = np.zeros(N, bool)
    keep[rows] = True
    filters = {}
    if how == "allow":
        filters["allow"] = [f"d{i}" for i in rows]
    elif how == "deny":
        filters["deny"] = [f"d{i}" for i in np.flatnonzero(~keep)]
    elif how == "where":
        keep[:] = np.arange(N) % max(1, round(1 / selectivity)) == 0
        filters["where"] = f"n % {max(1, round(1 / selectivity))} = 0"
    else:
        keep &= (np.arange(N) >= 2000) & (np.arange(N) % 3 != 0)
        filters = {
            "allow": [f"d{i}" for i in rows],
            "deny": [f"d{i}" for i in range(0, N, 3)],
            "where": "n >= 2000",
        }
    mask = selected_rows(index.texts, **filters)
    assert mask.tolist() == keep.tolist()
    for k in (1, 10, 200):
        found = index.search(Dense(QUERIES), k, **filters)
        assert [ids.tolist() for ids, _ in found] == brute_force(np.flatnonzero(keep), k)


def test_no_filter_is_no_mask_and_unknown_ids_are_counted(index, caplog):
    assert selected_rows(index.texts) is None
    with caplog.at_level(logging.WARNING, "cribble"):
        assert selected_rows(index.texts, allow=["d1", "x"], deny=["d1", "y", "z"]).sum() == 0
    assert "1 of the 2 allowed document ids are not in the index" in caplog.text
    assert "2 of the 3 denied document ids are not in the index" in caplog.text
    with pytest.raises(UsageError, match="expected a list"):
        selected_rows(index.texts, allow="d1")


# ---- conditions -----------------------------------------------------------------------------------------------------

FIELDS = [
    {
        "year": 1990 + i % 40,
        "source": "xyz"[i % 3],
        "sc ore": i / 7,
        "flag": i % 2 == 0,
        "tags": ["a", "b"],
        "big": 2**70,
    }
    if i % 5
    else {}
    for i in range(100)
]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    documents = [DescribedDocument.of(d, FIELDS[i]) if FIELDS[i] else d for i, d in enumerate(make_documents(100))]
    return build_flat(tmp_path_factory.mktemp("conditions") / "i", documents).texts


@pytest.mark.parametrize(
    ("where", "met"),
    [
        ("year >= 2020 and source = 'x'", lambda f: f["year"] >= 2020 and f["source"] == "x"),
        ("year >= '2020'", lambda f: f["year"] >= 2020),
        ("YEAR BETWEEN 2000 AND 2005 -- both", lambda f: 2000 <= f["year"] <= 2005),
        ('"sc ore" < 2 /* quoted */ or not flag', lambda f: f["sc ore"] < 2 or not f["flag"]),
        ("source in ('x', 'it''s') and flag", lambda f: f["source"] == "x" and f["flag"]),
        ("upper(source) like 'Y%' or year % 7 = 1", lambda f: f["source"] == "y" or f["year"] % 7 == 1),
        ("json_extract(tags, '$[1]') = 'b'", lambda f: True),
        ("big like '118059%'", lambda f: True),
        ("documents.year is not null", lambda f: True),
        ("year = 'x'", lambda f: False),
        ("typeof(\"sc ore\") = 'real'", lambda f: True),
    ],
)
def test_conditions_agree_with_python(texts, where, met):
    assert selected_rows(texts, where=where).tolist() == [bool(f) and met(f) for f in FIELDS]


def test_a_missing_field_is_null(texts):
    assert selected_rows(texts, where="year is null").tolist() == [not f for f in FIELDS]
    assert texts.metadata.columns == ["big", "flag", "sc ore", "source", "tags", "year"]


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("yaer >= 2020", "no column 'yaer': did you mean 'year'"),
        ('"yaer" >= 2020', "no column \"yaer\" at character 1 .*did you mean 'year'"),
        ('source = "x"', 'no column "x" at character 10 .*single quotes'),
        ("yaer(1) > 0", "no function 'yaer'"),
        ("year FORM 2020", "syntax error at 'FORM', character 6"),
        ("year > 1 and year > > 3", "syntax error at '>', character 21"),
        ("year >= 2020)", "at the end"),
        ("(year >= 2020", "at the end"),
        ("year >=", "at the end"),
        ("source = 'x", "does not end.* character 10"),
        ("year = ?", "parameter"),
        ("year = :year", "parameter"),
        ("", "expected a condition"),
        ("year = '\0'", "null character"),
        ("(" * 2000 + "1" + ")" * 2000, "stack overflow|too deep|Expression tree"),
        ("year = 1 or " * 20_000 + "1", "too (big|large)|too deep"),
        ("abs(-9223372036854775808) > 0", "integer overflow"),
    ],
)
def test_wrong_conditions_are_told_with_the_place(texts, where, told):
    with pytest.raises(UsageError, match=told) as caught:
        selected_rows(texts, where=where)
    assert len(str(caught.value)) < 1200


@pytest.mark.parametrize(
    "where",
    [
        "1; DROP TABLE documents",
        "1); DROP TABLE documents; --",
        "1; ATTACH 'x.db' AS x",
        "1; PRAGMA writable_schema = 1",
        "1) UNION SELECT name FROM sqlite_master WHERE (1",
        "1) UNION SELECT year FROM documents WHERE (1",
        "1) THEN 1 END FROM documents UNION SELECT CASE WHEN (1",
        "1) THEN 1 END FROM documents --",
        "1) /*",
        "1) ORDER BY (year",
        "1) LIMIT (3",
        "1) GROUP BY (year",
        "year IN (SELECT year FROM documents)",
        "EXISTS (SELECT 1 FROM sqlite_master)",
        "(WITH a AS (SELECT 1) SELECT * FROM a)",
        "1 IN sqlite_master",
        "'x' IN (SELECT sql FROM sqlite_schema)",
        "1 IN json_each('[1]')",
        "1 IN pragma_table_info",
        "rowid > 5",
        '"document row" > 5',
        "readfile('/etc/passwd') = ''",
        "load_extension('x')",
        "writefile('x', 'y')",
        "randomblob(1000000000) > 0",
        "zeroblob(1000000000) = 0",
        "printf('%1000000000d', 1) = ''",
        "sqlite_version() > ''",
        "sum(year) > 3",
        "row_number() OVER () > 3",
        "year REGEXP 'x'",
        "year MATCH 'x'",
        "RAISE(ABORT, 'x')",
    ],
)
def test_nothing_but_a_condition_is_run(texts, where):
    before = (texts.manifest.whole_folder(texts.root) / FILE).read_bytes()
    with pytest.raises(UsageError):
        selected_rows(texts, where=where)
    assert (texts.manifest.whole_folder(texts.root) / FILE).read_bytes() == before
    assert {p.name for p in (texts.root / "whole").glob(f"{FILE}*")} == {FILE}


def test_types_are_those_of_the_data(tmp_path, caplog):
    rows = [{"mixed": 5, "real": 1, "text": "7"}, {"mixed": "many", "real": 0.5, "Text": "007"}, {"mixed": None}]
    documents = [DescribedDocument.of(d, f) for d, f in zip(make_documents(3), rows, strict=True)]
    with caplog.at_level(logging.WARNING, "cribble"):
        texts = build_flat(tmp_path / "i", documents).texts
    assert "numbers in some documents and texts in others: mixed;" in caplog.text
    with sqlite3.connect(tmp_path / "i" / "whole" / FILE) as connection:
        columns = connection.execute("SELECT name, type FROM pragma_table_info('documents')").fetchall()
    assert columns[1:] == [("mixed", ""), ("real", "REAL"), ("text", "TEXT")]
    assert selected_rows(texts, where="text = 7").tolist() == [True, False, False]
    assert selected_rows(texts, where="mixed > 4 and typeof(mixed) = 'integer'").tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"year": 1, "YEAR": 2}, "the case of ASCII letters only"),
        ({"": 1}, "empty"),
        ({"a\0b": 1}, "zero byte"),
        ({"year": {1, 2}}, "no JSON object"),
        ({"year": "\ud800"}, "no JSON object"),
    ],
)
def test_metadata_that_can_not_be_stored_is_refused_by_document(tmp_path, fields, told):
    with pytest.raises(InputError, match=f"document 'd0': its metadata .*{told}"):
        build_flat(tmp_path / "i", [DescribedDocument.of(make_documents(1)[0], fields)])


def test_fields_without_end_are_left_out_and_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(metadata_module, "MOST_COLUMNS", 3)
    documents = [DescribedDocument.of(d, {f"f{i}": i}) for i, d in enumerate(make_documents(5))]
    with caplog.at_level(logging.WARNING, "cribble"):
        texts = build_flat(tmp_path / "i", documents).texts
    assert "metadata has 5 fields: the first 3 can be used in conditions, 2 not (f3" in caplog.text
    assert texts.metadata.columns == ["f0", "f1", "f2"]


def test_metadata_counts_for_the_fingerprint_and_damage_is_told(tmp_path):
    plain, described = make_documents(3), [DescribedDocument.of(d, {"a": 1}) for d in make_documents(3)]
    one, two = build_flat(tmp_path / "a", plain).manifest, build_flat(tmp_path / "b", described).manifest
    assert one.fingerprint != two.fingerprint
    index = open_index(tmp_path / "b")
    (tmp_path / "b" / "whole" / FILE).write_bytes(b"no database " * 100)
    with pytest.raises(SetupError, match=r"SQLite can.t read it .*cribble doctor"):
        selected_rows(index.texts, where="a = 1")


def test_lucene_takes_the_same_filters(tmp_path):
    pytest.importorskip("pyserini")
    from cribble.index.lucene import LuceneIndex

    documents = [DescribedDocument.of(Document(f"d{i}", "sea"), {"n": i}) for i in range(20)]
    index = LuceneIndex.build(tmp_path / "i", documents, corpus="c")
    found = index.search(["sea"], 20, where="n < 10", deny=["d1"], allow=[f"d{i}" for i in range(0, 20, 3)] + ["d1"])
    assert found[0].ids.tolist() == ["d9", "d6", "d3", "d0"]
    with pytest.raises(UsageError, match="did you mean 'n'"):
        index.search(["sea"], 3, where="nn < 10")
