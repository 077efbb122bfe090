"""Measures of screening, of returned sets, of users who give up, and of what is not judged: definitions in plain Python."""

import random

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.eval import evaluate, parse_measures
from cribble.eval.report import make_report

TOLERANCE = 1e-9


def case(seed, queries=("q1", "q2", "q3")):
    """Ties, negative labels, lists shorter and longer than the judgements, unjudged documents, an empty list at times."""
    rng = random.Random(seed)
    documents = [f"d{i}" for i in range(rng.choice([1, 3, 12, 40, 90]))]
    qrels, run = {}, {}
    for query in queries:
        judged = rng.sample(documents, rng.randint(1, len(documents)))
        qrels[query] = {d: rng.choice([-1, 0, 0, 1, 2, 3]) for d in judged}
        found = rng.sample(documents, rng.randint(0, len(documents)))
        run[query] = {d: rng.choice([1.0, 2.0, rng.random()]) for d in found}
    return qrels, run


def ranked(scores):
    return sorted(scores, key=lambda d: (float(np.float32(scores[d])), d.encode()), reverse=True)


def relevant(judged, rel=1):
    return sum(label >= rel for label in judged.values())


def screened(order, judged):
    return max(sum(label >= 0 for label in judged.values()), len(order))


def work_saved(order, judged, percent, rel=1):
    """CLEF-TAR's loop: read on until round(percent / 100 · R) relevant documents are found."""
    found = last = 0
    wanted = round(relevant(judged, rel) * (percent / 100))
    for rank, document in enumerate(order, 1):
        if judged.get(document, 0) >= rel and found < max(wanted, 1):
            found, last = found + 1, rank
    size = screened(order, judged)
    if not relevant(judged, rel) or found < wanted or not found:
        return 0.0
    return (size - last) / size - (1 - percent / 100)


def area(order, judged):
    """Trapezes under the curve of relevant documents found, and the rectangle of what was not read."""
    total, found = 0.0, 0
    for document in order:
        hit = judged.get(document, 0) >= 1
        total, found = total + found + hit / 2, found + hit
    size, most = screened(order, judged), relevant(judged)
    total += (size - len(order)) * found
    return total / (most * size - most**2 / 2) if most else 0.0


def reader(order, judged, top, cutoff=None):
    """The cascade of ERR: satisfied at a rank, or going on."""
    value, reading = 0.0, 1.0
    for rank, document in enumerate(order[:cutoff], 1):
        stop = (2.0 ** max(judged.get(document, 0), 0) - 1) / 2**top
        value, reading = value + reading * stop / rank, reading * (1 - stop)
    return value


def biased(order, p, counts, cutoff=None):
    return sum((1 - p) * p ** (rank - 1) for rank, d in enumerate(order[:cutoff], 1) if counts(d))


def capped(order, judged, cutoff, rel=1):
    most = min(relevant(judged, rel), cutoff)
    return sum(judged.get(d, 0) >= rel for d in order[:cutoff]) / most if most else 0.0


def in_percent(order, judged, percent):
    read = screened(order, judged) * percent // 100
    return sum(judged.get(d, 0) >= 1 for d in order[:read]) / relevant(judged) if relevant(judged) else 0.0


def set_f(order, judged, beta=1.0, cutoff=None):
    best = order[:cutoff]
    hits = sum(judged.get(d, 0) >= 1 for d in best)
    if not hits:
        return 0.0
    precision, recall = hits / len(best), hits / relevant(judged)
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def known(order, judged):
    return [d for d in order if judged.get(d, -1) >= 0]


DEFINITIONS = {
    "WSS@95": lambda o, j: work_saved(o, j, 95),
    "WSS@100": lambda o, j: work_saved(o, j, 100),
    "WSS(rel=2)@50": lambda o, j: work_saved(o, j, 50, 2),
    "LastRel": lambda o, j: float(max((r for r, d in enumerate(o, 1) if j.get(d, 0) >= 1), default=0)),
    "NormArea": area,
    "RecallPercent@20": lambda o, j: in_percent(o, j, 20),
    "RecallPercent@100": lambda o, j: in_percent(o, j, 100),
    "CappedR@5": lambda o, j: capped(o, j, 5),
    "CappedR(rel=2, judged_only=True)@3": lambda o, j: capped(known(o, j), j, 3, 2),
    "RBP": lambda o, j: biased(o, 0.8, lambda d: j.get(d, 0) >= 1),
    "RBP(p=0.5, rel=2)@4": lambda o, j: biased(o, 0.5, lambda d: j.get(d, 0) >= 2, 4),
    "RBP(judged_only=True)": lambda o, j: biased(known(o, j), 0.8, lambda d: j.get(d, 0) >= 1),
    "RBPResidual": lambda o, j: 1 - biased(o, 0.8, lambda d: j.get(d, -1) >= 0),
    "ERR": lambda o, j: reader(o, j, 4),
    "ERR(top=3)@5": lambda o, j: reader(o, j, 3, 5),
    "ERR(judged_only=True)@5": lambda o, j: reader(known(o, j), j, 4, 5),
    "Unjudged@5": lambda o, j: sum(j.get(d, -1) < 0 for d in o[:5]) / 5,
    "SetP@7": lambda o, j: sum(j.get(d, 0) >= 1 for d in o[:7]) / max(len(o[:7]), 1),
    "SetF": set_f,
    "SetF(beta=2)@7": lambda o, j: set_f(o, j, 2.0, 7),
}


@pytest.mark.parametrize("measure", DEFINITIONS)
def test_definitions(measure):
    distinct = set()
    for seed in range(40):
        qrels, run = case(seed)
        values = evaluate(run, qrels, measure).per_query(measure)
        for query, judged in qrels.items():
            wanted = DEFINITIONS[measure](ranked(run[query]), judged)
            assert values[query] == pytest.approx(wanted, abs=TOLERANCE), (seed, query)
            distinct.add(round(wanted, 12))
    assert len(distinct) >= 4


def test_measures_of_all_queries_together():
    """JudgedPooled and PNR are one ratio of the whole run; a hole is a document that no query's judgements know."""
    for seed in range(40):
        qrels, run = case(seed)
        orders = {query: ranked(scores) for query, scores in run.items()}
        if not any(orders.values()):
            continue
        means = evaluate(run, qrels, "JudgedPooled@5 Hole@5").means
        listed = [(query, d) for query, order in orders.items() for d in order[:5]]
        assert means["JudgedPooled@5"] == pytest.approx(sum(d in qrels[q] for q, d in listed) / len(listed))
        anywhere = {d for judged in qrels.values() for d in judged}
        assert means["Hole@5"] == pytest.approx(sum(d not in anywhere for _, d in listed) / 15)
        agree = disagree = 0
        for query, order in orders.items():
            both = known(order, qrels[query])
            for a in both:
                for b in both:
                    better = qrels[query][a] > qrels[query][b]
                    agree += better and np.float32(run[query][a]) > np.float32(run[query][b])
                    disagree += better and np.float32(run[query][a]) < np.float32(run[query][b])
        if disagree:
            assert evaluate(run, qrels, "PNR").mean("PNR") == pytest.approx(agree / disagree, abs=TOLERANCE)
        else:
            with pytest.raises(InputError, match="no pair of documents stands against its labels"):
                evaluate(run, qrels, "PNR")


def test_holes_follow_the_order_of_float32_ties():
    """b stands before a, which float64 would put first: the document at rank 1 is the judged one."""
    run = {"q": {"a": 0.9 + 1e-10, "b": 0.9, "c": 0.1}, "r": {"a": 1.0}}
    qrels = {"r": {"b": 0}, "q": {"z": 1}}
    assert evaluate(run, qrels, "Hole@1")["Hole@1"].tolist() == [1.0, 0.0]
    assert evaluate(run, qrels, "Hole@1", ties="float64")["Hole@1"].tolist() == [1.0, 1.0]


def test_the_four_denominators_of_judged():
    """Three of a list of four places are filled, one of them judged: over what was retrieved, over k, and over all."""
    run = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}, "r": {"x": 1.0}}
    qrels = {"q": {"a": 1, "z": 0}, "r": {"c": 1}}
    evaluation = evaluate(run, qrels, "Judged@4 Unjudged@4 JudgedPooled@4 Hole@4")
    assert evaluation.per_query("Judged@4") == {"q": 1 / 3, "r": 0.0}
    assert evaluation.per_query("Unjudged@4") == {"q": 2 / 4, "r": 1 / 4}
    assert evaluation.mean("JudgedPooled@4") == 1 / 4
    assert evaluation.per_query("Hole@4") == {"q": 1 / 4, "r": 1 / 4}


def test_what_is_no_merit_is_shown_and_not_tested():
    qrels, run = case(3)
    names = "nDCG@10 LastRel Unjudged@10 Hole@10 JudgedPooled@10 RBPResidual Judged@10"
    evaluations = [evaluate(run, qrels, names, name=name) for name in ("a", "b")]
    report = make_report(evaluations, resamples=20, permutations=20)
    assert [str(m) for m in report.comparison.measures] == ["nDCG@10"]
    assert len(report.measures) == 7


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("WSS@101", "WSS@101: WSS takes a percentage from 1 to 100"),
        ("NCG@0", "RecallPercent@0: the cutoff must be"),
        ("WSS", "WSS needs a cutoff"),
        ("RBP(p=1)", r"RBP\(p=1\): expected a probability between 0 and 1"),
        ("RBPResidual(p=0)@3", r"RBPResidual\(p=0\): expected a probability"),
        ("ERR(top=0)", r"ERR\(top=0\): expected the scale's highest label"),
        ("SetF(beta=0)", r"SetF\(beta=0\): expected a number above 0"),
        ("InquireAP(pool=all)@50", r"InquireAP\(pool='all'\): known: judged, list"),
        ("LastRel@10", "LastRel takes no cutoff"),
    ],
)
def test_wrong_options(written, told):
    with pytest.raises(UsageError, match=told):
        parse_measures(written)


def test_err_refuses_labels_beyond_its_scale():
    with pytest.raises(InputError, match=r"ERR\(top=4\): the judgements go up to 5"):
        evaluate({"q": {"a": 1.0}}, {"q": {"a": 5}}, "ERR@10")


def test_other_spellings():
    written = "last_rel norm_area NCG@10 R_cap@100 unj_10 set_P set_recall set_F"
    means = ["LastRel", "NormArea", "RecallPercent@10", "CappedR@100", "Unjudged@10", "SetP", "SetR", "SetF"]
    assert [str(m) for m in parse_measures(written)] == means
