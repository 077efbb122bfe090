"""`jsonl:PATH`: requests with texts, and plain documents."""

import gzip
import json

import pytest
from cribble.corpora import load_dataset
from cribble.errors import InputError
from cribble.records import Document, Query

X = {"docid": "x", "score": 2, "doc": {"title": "T", "text": "xx"}}
REQUESTS = [
    {"query": {"qid": 1, "text": "a"}, "candidates": [X, {"docid": "y", "score": 3}]},
    {"query": {"qid": "2", "text": "b"}, "candidates": [X]},
]


@pytest.fixture
def write(tmp_path):
    def to(rows, name="file.jsonl"):
        raw = rows if isinstance(rows, bytes) else "".join(json.dumps(row) + "\n" for row in rows).encode()
        (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return f"jsonl:{tmp_path / name}"

    return to


@pytest.mark.parametrize("name", ["bm25.jsonl", "bm25.jsonl.gz"])
def test_requests(write, caplog, name):
    dataset = load_dataset(write(REQUESTS, name))
    assert dataset.queries == [Query("1", "a"), Query("2", "b")]
    assert dataset.qrels is None
    assert dataset.candidates.to_dict() == {"1": {"y": 3.0, "x": 2.0}, "2": {"x": 2.0}}
    assert dataset.candidates.name == "bm25"
    assert list(dataset.documents()) == [Document("x", "xx", "T")]
    assert dataset.get_many(["y", "x"]) == {"x": Document("x", "xx", "T")}
    assert "1 of 3 candidates have no text" in caplog.text


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"id": "a", "text": "t"}, Document("a", "t")),
        ({"_id": "a", "title": "T", "text": "t"}, Document("a", "t", "T")),
        ({"docid": 5, "contents": "t"}, Document("5", "t")),
    ],
)
def test_documents(write, row, expected, packed):
    dataset = load_dataset(write([row], f"docs.jsonl{packed}"))
    assert list(dataset.documents()) == [expected]
    assert dataset.get_many([expected.id, "b"]) == {expected.id: expected}
    assert (dataset.queries, dataset.qrels, dataset.candidates) == ([], None, None)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (b"", "is empty, expected JSON lines"),
        (b"oops\n", r"file\.jsonl:1: no JSON"),
        ([{"name": "x"}], r"file\.jsonl:1: no field 'id' or '_id' or 'docid', found 'name'"),
        ([{"id": "x"}], r"file\.jsonl:1: no field 'text' or 'contents'"),
        ([*REQUESTS, {"query": "no candidates"}], r"file\.jsonl:3: no request of the form"),
        ([REQUESTS[0], REQUESTS[0]], "query '1' is given twice"),
    ],
)
def test_what_is_refused(write, rows, message):
    with pytest.raises(InputError, match=message):
        load_dataset(write(rows))


def test_an_absent_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_dataset(f"jsonl:{tmp_path / 'none.jsonl'}")
