"""Runs as values: checked and ordered when made, changed into new ones."""

import numpy as np
import pyarrow as pa
import pytest
from cribble.errors import InputError, UsageError
from cribble.per_query import query_blocks
from cribble.records import Document, Run
from hypothesis import given, settings
from hypothesis import strategies as st

#: Ids of more than eight bytes with shared prefixes and astral characters, whose UTF-16 order differs.
IDS = st.lists(st.sampled_from(["a", "b", "é", "文", "\uffff", "😀", "document-"]), min_size=1, max_size=6).map("".join)
SCORES = st.one_of(st.sampled_from([0.0, -0.0, 1.0, 1.5]), st.floats(allow_nan=False, allow_infinity=False))


def ordered(row):
    """The tie rule, in plain Python."""
    by_id = sorted(row.items(), key=lambda item: item[0].encode(), reverse=True)
    return sorted(by_id, key=lambda item: item[1], reverse=True)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(IDS, st.dictionaries(IDS, SCORES, max_size=8), max_size=6))
def test_order_is_score_then_id_both_descending(data):
    run = Run.from_dict(data)
    assert list(run) == list(data)
    for query_id, row in data.items():
        assert list(zip(run.ids(query_id), run[query_id].scores.tolist(), strict=True)) == ordered(row)


def test_order_across_blocks():
    rng = np.random.default_rng(7)
    data = {f"q{q}": {f"d{d}": float(s) for d, s in enumerate(rng.integers(0, 9, 1500))} for q in range(60)}
    data["large"] = {f"document-{d}": float(d % 3) for d in range(70_000)}
    run = Run.from_dict(data)
    assert len(list(query_blocks(run.offsets))) > 1
    for query_id, row in data.items():
        assert run.ids(query_id) == [doc_id for doc_id, _ in ordered(row)]


def test_a_run_in_order_keeps_its_columns():
    ids, scores = pa.array(["b", "a", "c"], pa.large_string()), np.array([2.0, 2.0, 1.0])
    run = Run(["q"], np.array([0, 3]), ids, scores)
    assert run.doc_ids is ids
    assert np.shares_memory(run.scores, scores)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_not_finite_are_refused(score):
    with pytest.raises(
        InputError, match=rf"run 'r': query 'q2', document 'd3' has the score {score}, .* \(1 such rows\)"
    ):
        Run.from_dict({"q1": {"d1": 1.0}, "empty": {}, "q2": {"d2": 1.0, "d3": score}}, name="r")


@pytest.mark.parametrize("apart", [1, 100_000])
def test_duplicates_are_refused(apart):
    ids = [f"d{i}" for i in range(apart)] + ["d0"]
    with pytest.raises(InputError, match=r"run 'r': query 'q2' has document 'd0' twice; keep one"):
        Run.from_rankings([("q1", ["d0"], [1.0]), ("q2", ids, range(len(ids)))], name="r")


def test_two_queries_may_share_documents():
    assert Run.from_dict({"q1": {"d": 1.0}, "q2": {"d": 1.0}}).num_rows == 2


@pytest.mark.parametrize(
    ("rankings", "match"),
    [
        ([("q", ["a", "b"], [1.0])], r"query 'q' has 2 documents and 1 scores"),
        ([("q", ["a"], np.ones(2))], r"query 'q' has 1 documents and 2 scores"),
        ([("q", ["a"], [1.0]), ("q", ["b"], [1.0])], r"query 'q' is given twice"),
        ([(7, ["a"], [1.0])], r"query id 7 is of type int, expected str"),
        ([("q", [7], [1.0])], r"document id 7 is of type int, expected str"),
        ([("q", [None], [1.0])], r"document id None is of type NoneType"),
        ([("\ud800", ["a"], [1.0])], r"query id .*lone surrogate"),
        ([("q", ["\ud800"], [1.0])], r"document id .*lone surrogate"),
        ([("q", ["a"], np.array(["1.0"]))], r"scores are of type <U3, expected numbers"),
    ],
)
def test_bad_rankings(rankings, match):
    with pytest.raises(InputError, match=match):
        Run.from_rankings(rankings)


@pytest.mark.parametrize(
    ("offsets", "scores", "match"),
    [
        ([0, 1], [1.0, 2.0], "do not fit the offsets"),
        ([1, 2], [1.0, 2.0], "do not fit the offsets"),
        ([0, 2, 2], [1.0, 2.0], "do not fit the offsets"),
        ([], [1.0, 2.0], "do not fit the offsets"),
        ([0, 2], [1.0], "2 documents and 1 scores"),
    ],
)
def test_columns_that_do_not_fit(offsets, scores, match):
    with pytest.raises(InputError, match=match):
        Run(["q"], np.array(offsets, int), ["a", "b"], np.array(scores))
    with pytest.raises(InputError, match="do not fit the offsets"):
        Run(["p", "q", "r"], np.array([0, 2, 1, 2]), ["a", "b"], np.ones(2))


def test_scores_that_are_no_numbers():
    with pytest.raises(InputError, match="run 'r' has a score that is no number"):
        Run.from_dict({"q": {"d": "high"}}, name="r")
    with pytest.raises(InputError, match="run 'r' has a score that is no number"):
        Run.from_dict({"q": {"d": None, "e": [1]}}, name="r")


def test_unknown_score_kind():
    with pytest.raises(UsageError, match="score kind 'bm52' is unknown: did you mean 'bm25'"):
        Run.from_dict({}, score_kind="bm52")


RUN = Run.from_dict(
    {"q1": {"a": 3.0, "b": 2.0, "c": 1.0}, "none": {}, "q2": {"a": 1.0}, "last": {}},
    name="r",
    score_kind="dot",
    provenance={"model": "m"},
)


def test_looking():
    assert len(RUN) == 4
    assert RUN.num_rows == 4
    assert "q1" in RUN
    assert "q9" not in RUN
    assert RUN.query_of_row.tolist() == [0, 0, 0, 2]
    assert RUN["q1"].ids.tolist() == ["a", "b", "c"]
    assert RUN["none"].ids.tolist() == []
    assert RUN["none"].scores.tolist() == []
    assert [query_id for query_id, _ in RUN.items()] == ["q1", "none", "q2", "last"]
    assert "'r', 4 queries, 4 rows, score_kind='dot'" in repr(RUN)
    for look in (RUN.__getitem__, RUN.ids, RUN.rows):
        with pytest.raises(KeyError, match="q9"):
            look("q9")


def test_scores_can_not_be_written_to():
    for scores in (RUN.scores, RUN["q1"].scores):
        with pytest.raises(ValueError, match="read-only"):
            scores *= 2
    given = np.array([2.0, 1.0])
    Run(["q"], np.array([0, 2]), ["a", "b"], given)
    given[0] = 9.0  # the caller's own array stays the caller's


def test_top():
    assert RUN.top(2).to_dict() == {"q1": {"a": 3.0, "b": 2.0}, "none": {}, "q2": {"a": 1.0}, "last": {}}
    assert RUN.top(0).to_dict() == {"q1": {}, "none": {}, "q2": {}, "last": {}}
    assert RUN.top(99) is RUN
    assert RUN.top(1).facts() == RUN.facts()
    with pytest.raises(UsageError, match=r"top\(-1\)"):
        RUN.top(-1)
    assert len(Run.from_dict({}).top(3)) == 0


def test_drop():
    dropped = RUN.drop({"q1": {"b", "zz"}, "q2": frozenset("a"), "q9": {"a"}, "none": {"a"}})
    assert dropped.to_dict() == {"q1": {"a": 3.0, "c": 1.0}, "none": {}, "q2": {}, "last": {}}
    assert dropped.facts() == RUN.facts()
    assert RUN.drop({"q1": {"zz"}}) is RUN
    assert RUN.num_rows == 4


def test_select():
    chosen = RUN.select(["q2", "q9", "q1", "none"])
    assert chosen.to_dict() == {"q2": {"a": 1.0}, "q9": {}, "q1": {"a": 3.0, "b": 2.0, "c": 1.0}, "none": {}}
    assert list(chosen) == ["q2", "q9", "q1", "none"]
    assert chosen.facts() == RUN.facts()
    assert RUN.select([]).num_rows == 0
    with pytest.raises(InputError, match="query 'q1' is given twice"):
        RUN.select(["q1", "q1"])


def test_renamed_and_equality():
    assert RUN.renamed("other").name == "other"
    assert RUN.renamed("other") == RUN
    assert RUN.renamed("other").provenance == RUN.provenance
    data = RUN.to_dict()
    assert Run.from_dict(data) == RUN
    assert Run.from_dict(data | {"q1": {"a": 3.0, "b": 2.0, "c": 1.5}}) != RUN
    assert Run.from_dict(data | {"q1": {"a": 3.0, "b": 2.0, "x": 1.0}}) != RUN
    assert RUN.select(["q2", "q1", "none", "last"]) != RUN
    assert RUN.select(["q1", "q2"]) != RUN
    assert data != RUN
    with pytest.raises(TypeError):
        hash(RUN)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(IDS, st.dictionaries(IDS, SCORES, max_size=8), max_size=6), st.integers(0, 9))
def test_top_is_the_head_of_each_ranking(data, k):
    run = Run.from_dict(data)
    assert run.top(k).to_dict() == {q: dict(ordered(row)[:k]) for q, row in data.items()}
    assert run.top(k).select(run) == run.top(k)
    assert Run.from_rankings((q, r.ids, r.scores) for q, r in run.items()) == run


@pytest.mark.slow
@pytest.mark.usefixtures("interpreted_ranx")
def test_ranx_both_ways():
    ranx = pytest.importorskip("ranx")
    run = Run.from_dict({"q1": {"a": 0.1, "b": 1e-300, "é": 3.0}, "q2": {"a": -1.0}}, name="mine")
    theirs = run.to_ranx()
    assert isinstance(theirs, ranx.Run)
    assert theirs.name == "mine"
    back = Run.from_ranx(theirs, score_kind="dot")
    assert back == run
    assert (back.name, back.score_kind) == ("mine", "dot")
    assert Run.from_ranx(theirs, name="other").name == "other"


def test_full_text_is_title_space_text():
    assert Document("d", "text", "title").full_text == "title text"
    assert Document("d", " text").full_text == " text"
    assert Document("d", "", "title").full_text == "title"
