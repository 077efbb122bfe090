"""trec_eval's own test data: its expected outputs, at the four decimals that they are printed with."""

import os
import re
from pathlib import Path

import pytest
from cribble.eval import evaluate, parse_measures
from cribble.records import Qrels, Run

DATA = os.environ.get("CRIBBLE_DATA", "")
pytestmark = [pytest.mark.real, pytest.mark.skipif(not DATA, reason="CRIBBLE_DATA is not set")]
FIXTURES = Path(DATA) / "trec-eval-fixtures"
HALF_A_DIGIT = 0.5e-4 + 1e-9

NAMES = {
    "map": "AP",
    "Rprec": "Rprec",
    "bpref": "Bpref",
    "recip_rank": "RR",
    "ndcg": "nDCG",
    "num_ret": "NumRet",
    "num_rel": "NumRel",
    "num_rel_ret": "NumRelRet",
}
FAMILIES = {"ndcg_cut": "nDCG", "map_cut": "AP", "recall": "R", "P": "P", "success": "Success"}


def our_name(theirs: str) -> str | None:
    """Our spelling of a trec_eval output name, or None for what we do not have."""
    if theirs in NAMES:
        return NAMES[theirs]
    match = re.fullmatch(r"(ndcg_cut|map_cut|recall|P|success)_(\d+)", theirs)
    return f"{FAMILIES[match[1]]}@{match[2]}" if match else None


def read_expected(name: str) -> dict[tuple[str, str], float]:
    """(our measure, query or "all") → printed value."""
    values = {}
    for line in (FIXTURES / name).read_text().splitlines():
        theirs, query, value = line.split()
        ours = our_name(theirs)
        if ours is not None:
            values[ours, query] = float(value)
    return values


def compare(name: str, qrels: str, results: str, rel: int = 1, top: int | None = None) -> int:
    values = read_expected(name)
    run = Run.read(FIXTURES / results)
    run = run if top is None else run.top(top)
    judged = Qrels.read(FIXTURES / qrels)
    measures = {ours: at_level(ours, rel) for ours, _ in values}
    evaluation = evaluate(run, judged, list(dict.fromkeys(measures.values())))
    for (ours, query), value in values.items():
        measure = measures[ours]
        got = evaluation.mean(measure) if query == "all" else evaluation.per_query(measure)[query]
        assert abs(got - value) <= HALF_A_DIGIT, (ours, query, got, value)
    return len(values)


def at_level(name: str, rel: int) -> str:
    measure = parse_measures(name)[0]
    return str(measure(rel=rel) if "rel" in measure.options() and rel != 1 else measure)


@pytest.mark.parametrize("qrels", ["qrels.test", "qrels.test.with-comments"])
def test_default_output(qrels):
    assert compare("out.test", qrels, "results.test") >= 15


def test_all_measures():
    assert compare("out.test.a", "qrels.test", "results.test") >= 45


def test_by_query():
    assert compare("out.test.aq", "qrels.test", "results.test") >= 180


def test_complete_with_a_missing_query():
    assert compare("out.test.aqc", "qrels.test", "results.trunc") >= 180
    evaluation = evaluate(Run.read(FIXTURES / "results.trunc"), Qrels.read(FIXTURES / "qrels.test"), "AP")
    assert evaluation.counts["missing"] == 1


def test_complete_first_hundred():
    assert compare("out.test.aqcM", "qrels.test", "results.trunc", top=100) >= 180


def test_relevance_level_two():
    assert compare("out.test.aql", "qrels.rel_level", "results.test", rel=2) >= 180


def test_measure_parameters():
    assert compare("out.test.meas_params", "qrels.test", "results.test") >= 30


def test_dl19_bm25():
    folder = Path(DATA) / "trec-dl-2019-judged"
    run, qrels = Run.read(folder / "runs/bm25_top100.trec"), Qrels.read(folder / "qrels/test.tsv")
    evaluation = evaluate(run, qrels, "nDCG@10 Judged@10")
    assert round(evaluation.mean("nDCG@10"), 4) == 0.5058
    assert evaluation.counts == {
        "evaluated": 43,
        "missing": 0,
        "unjudged_queries": 0,
        "no_relevant": 0,
        "dropped_rows": 0,
    }
