"""What an evaluation counts, says and gives: missing and unjudged queries, wrong input, means over parts."""

import logging
import math
import random

import cribble.eval
import pytest
from cribble.errors import InputError, UsageError
from cribble.eval import compare, evaluate, mean_of_parts, parse_measures
from cribble.records import Qrels, Run

TOLERANCE = 1e-9

RUN = {"q1": {"a": 2.0, "b": 1.0}, "q2": {}, "q4": {"a": 1.0}, "x1": {"a": 1.0, "b": 0.5}, "x2": {"a": 1.0}}
QRELS = {"q1": {"b": 1}, "q2": {"a": 1}, "q3": {"a": 2}, "q4": {"a": 0}, "q5": {}}


def test_counts_and_warnings(caplog):
    with caplog.at_level(logging.WARNING, logger="cribble"):
        evaluation = evaluate(RUN, QRELS, "RR NumRet", name="mine")
    assert evaluation.counts == {
        "evaluated": 4,  # q5 has no judgement
        "missing": 2,
        "unjudged_queries": 2,
        "no_relevant": 1,
        "dropped_rows": 3,
    }
    assert evaluation.missing == ("q2", "q3")
    assert evaluation.unjudged == ("x1", "x2")
    assert evaluation.no_relevant == ("q4",)
    assert evaluation.to_dict() == {
        "q1": {"RR": 0.5, "NumRet": 2.0},
        "q2": {"RR": 0.0, "NumRet": 0.0},
        "q3": {"RR": 0.0, "NumRet": 0.0},
        "q4": {"RR": 0.0, "NumRet": 1.0},
    }
    assert evaluation.means == {"RR": 0.125, "NumRet": 3.0}
    assert len(evaluation) == 4
    assert [record.getMessage() for record in caplog.records] == [
        "mine: 2 of 4 judged queries have no results and count as 0 (q2, q3)",
        "mine: 2 queries of the run have no judgements; they and their 3 rows do not count (x1, x2)",
    ]


def test_nothing_is_said_of_a_whole_run(caplog):
    with caplog.at_level(logging.INFO, logger="cribble"):
        evaluate({"q": {"a": 1.0}}, {"q": {"a": 1}}, "RR")
    assert not caplog.records


def test_long_lists_of_queries_are_shortened(caplog):
    qrels = {f"q{i}": {"a": 1} for i in range(9)}
    evaluate({"q0": {"a": 1.0}}, qrels, "RR")
    assert "8 of 9 judged queries have no results and count as 0 (q1, q2, q3, …)" in caplog.text


def test_no_common_query():
    with pytest.raises(InputError, match="have no query in common") as caught:
        evaluate({"1": {"a": 1.0}}, {"q1": {"a": 1}}, "RR", name="mine")
    assert "'1'" in str(caught.value)
    assert "'q1'" in str(caught.value)


@pytest.mark.parametrize("qrels", [{}, {"q": {}}])
def test_no_judgements(qrels):
    with pytest.raises(InputError, match="holds no judgements"):
        evaluate({"q": {"a": 1.0}}, qrels, "RR")


@pytest.mark.parametrize("run", [{}, {"q": {}}])
def test_an_empty_run_scores_zero_and_says_so(run, caplog):
    evaluation = evaluate(run, {"q": {"a": 1}}, "nDCG@10 AP RR Judged@10 Bpref Rprec P@5 R@5 Success@5 NumRet")
    assert set(evaluation.means.values()) == {0.0}
    assert evaluation.counts["missing"] == 1
    assert "1 of 1 judged queries have no results" in caplog.text


def test_dicts_and_records_are_the_same():
    run, qrels = {"q": {"a": 2, "b": 1}}, {"q": {"b": 1}}
    assert evaluate(run, qrels, "nDCG").means == evaluate(Run.from_dict(run), Qrels.from_dict(qrels), "nDCG").means
    with pytest.raises(InputError, match="expected a finite number"):
        evaluate({"q": {"a": math.nan}}, qrels, "nDCG")
    with pytest.raises(InputError, match="expected int"):
        evaluate(run, {"q": {"b": 1.5}}, "nDCG")


def test_order_of_input_does_not_count():
    rng = random.Random(1)
    documents = [f"d{i}" for i in range(50)]
    run = {f"q{i}": {d: float(rng.randint(0, 5)) for d in documents} for i in range(5)}
    qrels = {f"q{i}": {d: rng.randint(0, 2) for d in rng.sample(documents, 20)} for i in range(5)}
    measures = "nDCG@10 AP Bpref"
    shuffled = {q: dict(rng.sample(list(row.items()), len(row))) for q, row in rng.sample(list(run.items()), 5)}
    first, second = evaluate(run, qrels, measures), evaluate(shuffled, qrels, measures)
    assert first.to_dict() == second.to_dict()


def test_values_by_measure():
    evaluation = evaluate(RUN, QRELS, "RR P@1")
    assert evaluation["RR"].tolist() == evaluation.values[:, 0].tolist() == [0.5, 0, 0, 0]
    assert evaluation[cribble.eval.RR].tolist() == evaluation["mrr"].tolist()
    assert evaluation.only(parse_measures("P@1")).means == {"P@1": 0.0}
    with pytest.raises(UsageError, match="'run' was not evaluated with 'RR@10': known: P@1, RR"):
        evaluation["RR@10"]
    with pytest.raises(UsageError, match="was not evaluated with 'AP'"):
        evaluation.only(parse_measures("AP"))
    with pytest.raises(UsageError, match="holds 2 measures, expected one"):
        evaluation.mean("RR P@1")


def test_mean_of_parts_is_the_mean_of_the_parts_means():
    """As CQADupStack's twelve forums: the small part weighs as much as the big one."""
    small = evaluate({"1": {"a": 1.0}}, {"1": {"a": 1}}, "RR NumRet")
    big = evaluate(
        {"1": {"a": 1.0}, "9": {"a": 1.0}}, {str(i): {"b": 1} for i in range(3)} | {"4": {"b": 0}}, "RR NumRet"
    )
    both = mean_of_parts({"android": small, "english": big}, name="all")
    assert both.mean("RR") == pytest.approx((1.0 + 0.0) / 2, abs=TOLERANCE)
    assert both.mean("RR") != both["RR"].mean() == 1 / 5
    assert both.weighted("RR").mean() == pytest.approx(0.5, abs=TOLERANCE)
    assert both.mean("NumRet") == 2.0
    assert both.query_ids == ("android/1", "english/0", "english/1", "english/2", "english/4")
    assert both.counts == {
        "evaluated": 5,
        "missing": 3,
        "unjudged_queries": 1,
        "no_relevant": 1,
        "dropped_rows": 1,
    }
    assert both.weights.sum() == pytest.approx(1.0)
    difference = compare([both, both.renamed("twin")]).find("twin", "RR")
    assert difference.mean == 0.0
    with pytest.raises(UsageError, match="other measures than 'android'"):
        mean_of_parts({"android": small, "english": big.only(parse_measures("RR"))})
    with pytest.raises(UsageError, match="no part"):
        mean_of_parts({})
