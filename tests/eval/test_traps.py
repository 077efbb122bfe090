"""Traps that evaluation programs have fallen into: each flatters a run, hides a query, or prints what is no number."""

import random
import re

import pytest
from cribble.errors import InputError
from cribble.eval import compare, evaluate, make_report, with_judged
from cribble.eval.rendering import FORMATS, render
from cribble.records import Qrels, Run

QUICK = {"resamples": 200, "permutations": 500}


def systems(count, queries=20, seed=1):
    """Runs of the same queries, the better the higher their number, and judgements."""
    rng = random.Random(seed)
    documents = [f"d{i}" for i in range(30)]
    qrels = {f"q{i}": {d: rng.choice([0, 0, 1, 2]) for d in rng.sample(documents, 12)} for i in range(queries)}
    runs = {
        f"system-{n:02}": {
            q: {d: judged.get(d, 0) * n / count + rng.gauss(0, 1) for d in documents} for q, judged in qrels.items()
        }
        for n in range(count)
    }
    return runs, qrels


def test_a_run_without_its_hard_queries_is_not_better():
    """rank_llm cuts the judgements to the run's queries, BEIR and mteb average over the intersection."""
    runs, qrels = systems(1)
    whole = runs["system-00"]
    values = evaluate(whole, qrels, "nDCG@10").per_query("nDCG@10")
    hard = sorted(values, key=values.get)[:10]
    cut = {query: row for query, row in whole.items() if query not in hard}
    evaluation = evaluate(cut, qrels, "nDCG@10")
    assert evaluation.mean("nDCG@10") == pytest.approx(sum(values[q] for q in cut) / len(values))
    assert evaluation.mean("nDCG@10") < evaluate(whole, qrels, "nDCG@10").mean("nDCG@10")
    assert set(evaluation.missing) == set(hard)
    (difference,) = compare({"whole": whole, "cut": cut}, qrels, "nDCG@10", baseline="whole", **QUICK).differences
    assert (difference.wins, difference.mean < 0) == (0, True)
    flattered = {query: qrels[query] for query in cut}
    assert evaluate(cut, flattered, "nDCG@10").mean("nDCG@10") > evaluate(whole, qrels, "nDCG@10").mean("nDCG@10")


def test_neither_the_order_of_a_file_nor_its_ranks_count(tmp_path):
    """Scores order a run, ids those that are equal; trec_eval ignores ranks, others the scores."""
    rows = [("q1", f"d{i}", score) for i, score in enumerate([0.5, 0.9, 0.5, 0.1, 0.5, 0.9])]
    qrels = {"q1": {"d4": 1, "d1": 1}}
    seen = set()
    for seed in range(6):
        shuffled = random.Random(seed).sample(rows, len(rows))
        path = tmp_path / f"{seed}.trec"
        path.write_text("".join(f"{q} Q0 {d} {rank} {score} x\n" for rank, (q, d, score) in enumerate(shuffled)))
        seen.add(tuple(evaluate(Run.read(path), qrels, "RR AP nDCG@3").means.values()))
    assert len(seen) == 1
    assert next(iter(seen))[0] == 1 / 2, "d5, d1, d4, d2, d0, d3: of the two at .9 the higher id is first"


def test_queries_of_one_side_only(caplog):
    """Judged and not run: 0, and counted. Run and not judged: no part of any mean, and counted; never a KeyError."""
    qrels = {"both": {"a": 1}, "judged": {"a": 1}}
    run = {"both": {"a": 1.0}, "run": {"a": 1.0, "b": 0.5}}
    evaluation = evaluate(run, qrels, "RR CappedR@10 Hole@10 Unjudged@10 WSS@95 InquireAP@10 RBP ERR JudgedPooled@5")
    assert evaluation.query_ids == ("both", "judged")
    assert evaluation.mean("RR") == evaluation.mean("CappedR@10") == evaluation.mean("InquireAP@10") == 0.5
    assert evaluation.mean("Hole@10") == 0, "what the judged queries' lists hold is judged"
    assert (evaluation.missing, evaluation.unjudged, evaluation.dropped_rows) == (("judged",), ("run",), 2)
    assert "1 queries of the run have no judgements; they and their 2 rows do not count" in caplog.text
    with pytest.raises(InputError, match="no query in common"):
        evaluate({"run": {"a": 1.0}}, qrels, "RR")


@pytest.mark.parametrize("header", ["", "query-id\tcorpus-id\tscore\n"])
def test_judgements_without_a_header_keep_their_first_line(tmp_path, header):
    path = tmp_path / "test.tsv"
    path.write_text(f"{header}1\ta\t1\n1\tb\t1\n2\tc\t1\n")
    qrels = Qrels.read(path)
    assert qrels.to_dict() == {"1": {"a": 1, "b": 1}, "2": {"c": 1}}
    assert evaluate({"1": {"a": 2.0}, "2": {"c": 1.0}}, qrels, "R@10").mean("R@10") == 0.75


def test_a_query_and_a_document_of_one_id():
    """beir#187: query "0" loses its relevant document "0" where self-matches are dropped for all sets: .9364 for a run
    that is perfect. Here that is a set's fact, so nothing is dropped unless asked for."""
    documents = [str(i) for i in range(10)]
    qrels, run = {"0": dict.fromkeys(documents, 1)}, {"0": {d: 10.0 - i for i, d in enumerate(documents)}}
    assert evaluate(run, qrels, "nDCG@10").mean("nDCG@10") == pytest.approx(1.0)
    dropped = Run.from_dict(run).drop({"0": {"0"}})
    assert evaluate(dropped, qrels, "nDCG@10").mean("nDCG@10") == pytest.approx(0.9364, abs=5e-5)
    assert run["0"]["0"] == 10.0, "the caller's run is left as it was"


@pytest.mark.parametrize("label", [-100, -1, 0])
def test_an_excluded_document_must_leave_the_run(label):
    """BRIGHT as ir_datasets has it: a negative label keeps the excluded document's place, and RR is .5 for 1."""
    run, qrels = Run.from_dict({"q": {"excluded": 2.0, "gold": 1.0}}), {"q": {"gold": 1, "excluded": label}}
    assert evaluate(run, qrels, "RR").mean("RR") == 0.5
    assert evaluate(run.drop({"q": {"excluded"}}), qrels, "RR").mean("RR") == 1.0


@pytest.mark.parametrize("form", FORMATS)
def test_identical_runs_have_no_p_and_no_nan(form):
    """ranx: p NaN for identical runs, 0 for a constant difference."""
    runs, qrels = systems(1)
    run = runs["system-00"]
    evaluations = [evaluate(run, qrels, with_judged("nDCG@10 RR"), name=name) for name in ("one", "twin")]
    report = make_report(evaluations, **QUICK)
    for difference in report.comparison.differences:
        assert (difference.t, difference.p_t, difference.holm_t, difference.effect) == (None, None, None, None)
        assert difference.p_randomisation == 1.0
        assert "equal on every query" in difference.note
    text = render(report, form)
    visible = re.sub(r"<style.*?</style>|<script.*?</script>|<svg.*?</svg>", "", text, flags=re.DOTALL)
    assert not re.search(r"\bnan\b", visible, re.IGNORECASE)


@pytest.mark.parametrize("form", FORMATS)
def test_thirty_systems_in_one_table(form):
    """ranx has letters for 26. Every system has its row and its test; 29 against the baseline."""
    runs, qrels = systems(30, queries=8)
    evaluations = [evaluate(run, qrels, "nDCG@10", name=name) for name, run in runs.items()]
    report = make_report(evaluations, baseline="system-00", **QUICK)
    assert len(report.comparison.differences) == 29
    text = render(report, form)
    assert all(name in text for name in runs)


def test_every_pair_of_thirty_systems_is_corrected_for():
    runs, qrels = systems(30, queries=25)
    found = compare(runs, qrels, "nDCG@10", resamples=50, permutations=20_000)
    assert len(found.differences) == 30 * 29 // 2
    assert "435" in found.family
    plain = sum(d.p_t < 0.05 for d in found.differences)
    corrected = sum(d.holm_t < 0.05 for d in found.differences)
    assert 0 < corrected < plain
    best = found.find("system-29", "nDCG@10", "system-00") or found.find("system-00", "nDCG@10", "system-29")
    assert best.holm_t < 0.05
