"""Requests with texts: both forms, broken lines, the round trip, and the file given with TREC DL 2019."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from cribble.errors import InputError
from cribble.records import Document, Qrels, Query, Run
from cribble.request_files import read_requests, write_requests

RANK_LLM = [
    {
        "query": {"qid": "q1", "text": "one"},
        "candidates": [
            {"docid": "a", "score": 2.5, "doc": {"title": "T", "text": "x"}},
            {"docid": "b", "score": 3.5, "doc": {"contents": "y"}},
            {"docid": "c", "score": 1.5, "doc": {"segment": "z"}},
            {"docid": "d", "score": 0.5, "doc": "plain"},
            {"docid": "e", "score": 0.25},
        ],
    },
    {"query": {"qid": "q2", "text": "two"}, "candidates": []},
]
RANK_GPT = [
    {
        "query": "one",
        "hits": [{"qid": 1, "docid": 7, "rank": 1, "score": 2, "content": "x"}, {"qid": 1, "docid": 8, "score": 1}],
    },
    {"query": "two", "qid": "2", "hits": []},
]


def written(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_rank_llms_form(tmp_path):
    requests = read_requests(written(tmp_path / "r.jsonl", RANK_LLM), score_kind="bm25")
    assert requests.queries == [Query("q1", "one"), Query("q2", "two")]
    assert requests.run.to_dict() == {"q1": {"b": 3.5, "a": 2.5, "c": 1.5, "d": 0.5, "e": 0.25}, "q2": {}}
    assert requests.run.facts() == {"name": "r", "score_kind": "bm25", "provenance": {}}
    assert requests.texts == {
        "a": Document("a", "x", "T"),
        "b": Document("b", "y"),
        "c": Document("c", "z"),
        "d": Document("d", "plain"),
    }


def test_rank_gpts_form(tmp_path):
    requests = read_requests(written(tmp_path / "r.jsonl", RANK_GPT), name="mine")
    assert requests.queries == [Query("1", "one"), Query("2", "two")]
    assert requests.run.to_dict() == {"1": {"7": 2.0, "8": 1.0}, "2": {}}
    assert requests.texts == {"7": Document("7", "x")}
    assert requests.run.name == "mine"


def test_candidates_without_scores_keep_their_order(tmp_path):
    row = {"query": {"qid": "q", "text": "t"}, "candidates": [{"docid": "b"}, {"docid": "c"}, {"docid": "a"}]}
    assert read_requests(written(tmp_path / "r.jsonl", [row])).run.ids("q") == ["b", "c", "a"]


def test_run_read_takes_requests(tmp_path):
    path = written(tmp_path / "r.jsonl", RANK_LLM)
    packed = tmp_path / "p.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert Run.read(path) == Run.read(packed) == read_requests(path).run


def request(**changes):
    return {"query": {"qid": "q", "text": "t"}, "candidates": [{"docid": "a", "score": 1.0}]} | changes


@pytest.mark.parametrize(
    "bad",
    [
        "{not json",
        "[1]",
        "7",
        '"text"',
        {"query": {"text": "t"}, "candidates": []},
        {"query": {"qid": "q"}, "candidates": []},
        {"query": {"qid": "q", "text": "t"}},
        {"query": "text", "candidates": []},
        {"query": "text", "hits": []},
        request(candidates=[{"score": 1.0}]),
        request(candidates=[{"docid": "a", "score": "high"}]),
        request(candidates=[{"docid": "a", "score": None}]),
        request(candidates=[{"docid": None, "score": 1}]),
        request(query={"qid": None, "text": "t"}),
        request(query={"qid": "q", "text": None}),
        request(candidates=[{"docid": "a", "doc": {"body_text": "x"}}]),
        request(candidates=[{"docid": "a", "doc": 7}]),
        request(candidates=["a"]),
        request(candidates={"a": 1}),
        request(candidates=None),
    ],
)
def test_broken_lines_are_named(tmp_path, bad):
    path = written(tmp_path / "r.jsonl", [request(query={"qid": "first", "text": "t"}), "", bad])
    with pytest.raises(InputError, match=r"r\.jsonl:3: no request of the form"):
        read_requests(path)


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([request(), request()], r"r\.jsonl: .*query 'q' is given twice"),
        ([request(candidates=[{"docid": "a"}, {"docid": "a"}])], r"r\.jsonl: .*query 'q' has document 'a' twice"),
        ([request(candidates=[{"docid": "a", "score": float("nan")}])], r"r\.jsonl: .*'a' has the score nan"),
    ],
)
def test_refused_runs_name_the_file(tmp_path, rows, match):
    with pytest.raises(InputError, match=match):
        read_requests(written(tmp_path / "r.jsonl", rows))


RUN = Run.from_dict({"q1": {"a": 0.1, "b": 1e-300, "é x": 3.0}, "q2": {}, "q3": {"a": -0.0}}, name="r")
QUERIES = [Query("q3", "trois\n"), Query("q1", "une 😀"), Query("q2", "deux"), Query("q9", "more")]
TEXTS = {"a": Document("a", "text\u2028a", "Title"), "é x": Document("é x", "")}


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_round_trip(tmp_path, ending):
    path = tmp_path / f"r.{ending}"
    assert write_requests(RUN, path, QUERIES, TEXTS) == 1
    back = read_requests(path)
    assert back.run == RUN
    assert back.run["q3"].scores.view("i8").tolist() == RUN["q3"].scores.view("i8").tolist()
    assert back.queries == [QUERIES[1], QUERIES[2], QUERIES[0]]
    assert back.texts == TEXTS


class Store:
    """A text source."""

    def get_many(self, ids):
        return {i: TEXTS[i] for i in ids if i in TEXTS}


def test_any_text_source_serves(tmp_path):
    write_requests(RUN, tmp_path / "a.jsonl", QUERIES, TEXTS)
    assert write_requests(RUN, tmp_path / "b.jsonl", QUERIES, Store()) == 1
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_a_failure_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_text("old")
    with pytest.raises(InputError, match=r"r\.jsonl: the run's query 'q3' is not among the 2 queries given"):
        write_requests(RUN, path, QUERIES[1:3], TEXTS)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["r.jsonl"]


@pytest.mark.real
def test_the_requests_given_with_dl19():
    if not os.environ.get("CRIBBLE_DATA"):
        pytest.skip("CRIBBLE_DATA is not set: the real collections are not here")
    folder = Path(os.environ["CRIBBLE_DATA"]) / "trec-dl-2019-judged"
    requests = read_requests(folder / "requests/bm25_top20.hits.jsonl")
    assert len(requests.queries) == 43
    assert requests.run.num_rows == 43 * 20
    assert set(requests.texts) == {doc_id for query_id in requests.run for doc_id in requests.run.ids(query_id)}
    assert all(document.text for document in requests.texts.values())
    same = Run.read(folder / "runs/bm25_top100.trec").top(20).select(requests.run)
    assert requests.run.doc_ids.equals(same.doc_ids)
    assert (requests.run.scores == same.scores.astype(np.float32)).all()  # the requests hold Lucene's own float32
    assert set(requests.run) == set(Qrels.read(folder / "qrels/test.tsv"))
