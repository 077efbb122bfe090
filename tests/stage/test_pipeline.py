"""Checkpoints: what was finished is never done again, and a resumed run equals an uninterrupted one."""

import json

import pytest
from cribble.pipeline import explain, run_pipeline
from cribble.stage import rrf


@pytest.fixture
def files(tmp_path):
    return lambda: sorted((tmp_path / "stages").glob("*.jsonl"))


def test_result_equals_the_plain_call(hashed, by_length, queries, texts, tmp_path):
    pipeline = rrf(hashed(1), hashed(2)) >> by_length(depth=5)
    done = run_pipeline(pipeline, queries, tmp_path, texts=texts)
    assert done.run == pipeline(queries, texts=texts)
    assert [cost.label for cost in done.costs] == ["hashed1", "hashed2", "bylength"]
    assert done.seconds > 0
    assert done.run.provenance == {"scored": len(queries)}  # counts of batches add up


def test_interrupted_run_goes_on_at_the_next_query_batch(hashed, by_length, queries, texts, tmp_path):
    first, second = hashed(1), by_length()
    second.fail_at = "q20"  # batches are 16 queries: the second one breaks
    with pytest.raises(KeyboardInterrupt):
        run_pipeline(first >> second, queries, tmp_path, texts=texts)
    again, rest = hashed(1), by_length()
    done = run_pipeline(again >> rest, queries, tmp_path, texts=texts)
    assert again.calls == [[]]  # only the check on zero queries
    assert [query_id for call in rest.calls for query_id in call] == [query.id for query in queries[16:]]
    assert done.run == (hashed(1) >> by_length())(queries, texts=texts)
    assert [(cost.label, cost.resumed) for cost in done.costs] == [("hashed1", 40), ("bylength", 16)]


def test_torn_last_line_is_cut_off(hashed, queries, tmp_path, files):
    whole = run_pipeline(hashed(1), queries, tmp_path).run
    path = files()[0]
    path.write_bytes(path.read_bytes()[:-9])
    assert run_pipeline(hashed(1), queries, tmp_path).run == whole
    assert [json.loads(line)["name"] for line in path.read_bytes().splitlines()] == ["hashed1"]


def test_other_options_queries_or_exclusions_never_meet_old_results(hashed, queries, tmp_path, files):
    run_pipeline(hashed(1), queries, tmp_path)
    run_pipeline(hashed(1, k=3), queries, tmp_path)
    run_pipeline(hashed(1), queries[:3], tmp_path)
    run_pipeline(hashed(1), queries, tmp_path, exclude={"q1": frozenset(["d1"])})
    assert len(files()) == 4


def test_equal_prefixes_are_computed_once(hashed, by_length, queries, texts, tmp_path):
    run_pipeline(hashed(1) >> by_length(depth=3), queries, tmp_path, texts=texts)
    other = hashed(1)
    run_pipeline(other >> by_length(depth=4), queries, tmp_path, texts=texts)
    assert other.calls == [[]]


def test_wrappers_and_fusions_over_checkpoints(hashed, by_length, queries, texts, tmp_path):
    pipeline = 0.5 * hashed(1).normalised("max") + hashed(2).normalised("max") >> by_length() % 4
    assert run_pipeline(pipeline, queries, tmp_path, texts=texts).run == pipeline(queries, texts=texts)
    resumed = run_pipeline(pipeline, queries, tmp_path, texts=texts)
    assert resumed.run == pipeline(queries, texts=texts)
    assert all(cost.resumed == 40 for cost in resumed.costs)


def test_explain_follows_one_document(hashed, by_length, texts):
    pipeline = rrf(hashed(1), hashed(2)) >> by_length(depth=20)
    traces = explain(pipeline, "text", "d29", texts)
    assert [trace.stage for trace in traces] == ["hashed1", "hashed2", "rrf(hashed1, hashed2)", "bylength"]
    last = traces[-1]
    assert last.rank is None or last.score == len("word29 " * 30)
    assert explain(pipeline, "text", "absent", texts)[-1].rank is None
