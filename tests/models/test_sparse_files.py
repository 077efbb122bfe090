"""Files of query vectors: both forms, what is wrong with them, and pruning."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from cribble.errors import InputError
from cribble.models.sparse_files import largest_terms, read_query_vectors
from cribble.records import Query
from cribble.vectors import Sparse

IDS = {"cat": 7, "##s": 3, "dog": 5}
QUERIES = [Query("2", "dogs"), Query("1", "cats")]


def rows(vectors):
    return [dict(zip(ids.tolist(), w.tolist(), strict=True)) for ids, w in map(vectors.row, range(len(vectors)))]


def test_both_forms_give_the_same_in_the_queries_order(tmp_path):
    text = "1\tcat cat cat ##s\n9\tdog\n2\t##s dog dog\n"
    (tmp_path / "q.tsv").write_text(text)
    with gzip.open(tmp_path / "q.tsv.gz", "wt") as stream:
        stream.write(text)
    (tmp_path / "q.jsonl").write_text(
        '{"id": 1, "vector": {"cat": 3, "##s": 1}}\n{"_id": "2", "vector": {"##s": 1.0, "dog": 2}}\n'
    )
    for name in ("q.tsv", "q.tsv.gz", "q.jsonl"):
        got = read_query_vectors(tmp_path / name, QUERIES, IDS, 10)
        assert rows(got) == [{3: 1.0, 5: 2.0}, {3: 1.0, 7: 3.0}]
    assert len(read_query_vectors(tmp_path / "q.tsv", [], IDS, 10)) == 0


def test_unknown_tokens_are_counted(tmp_path, caplog):
    (tmp_path / "q.tsv").write_text("1\tcat bird bird fish\n2\tbird\n")
    assert rows(read_query_vectors(tmp_path / "q.tsv", QUERIES, IDS, 10)) == [{}, {7: 1.0}]
    assert "2 tokens of 3 are not in the index's vocabulary" in caplog.text


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("q.tsv", "1\tcat\n", "no vector of the query '2'"),
        ("q.tsv", "1 cat\n", r"q\.tsv:1: no tab"),
        ("q.jsonl", '{"id": "1"}\n', r"q\.jsonl:1: expected an object with id and vector"),
        ("q.jsonl", "{\n", "expected JSON"),
        ("q.jsonl", '{"id": "2", "vector": {"cat": -1}}\n', "the weight -1 of 'cat', expected a number above 0"),
        ("q.jsonl", '{"id": "2", "vector": {"cat": "1"}}\n', "the weight '1' of 'cat'"),
    ],
)
def test_wrong_files_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_query_vectors(tmp_path / name, QUERIES, IDS, 10)


def test_the_largest_terms_are_kept_and_of_equal_ones_the_first():
    vectors = Sparse(np.array([0, 4, 4]), np.array([1, 2, 5, 8]), np.array([2.0, 3.0, 2.0, 3.0], np.float32), 9)
    assert rows(largest_terms(vectors, 3)) == [{1: 2.0, 2: 3.0, 8: 3.0}, {}]
