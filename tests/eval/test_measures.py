"""Measures: their grammar, and definitions in plain Python for what pytrec_eval lacks."""

import dataclasses
import itertools
import math
import random
import subprocess
import sys

import cribble.eval
import numpy as np
import pytest
from cribble.errors import UsageError
from cribble.eval import Measure, all_measures, evaluate, parse_measures

TOLERANCE = 1e-9


# ---- the grammar ------------------------------------------------------------------------------------------------------


def every_measure() -> list[Measure]:
    """Each kind with and without a cutoff, and with each of its options, as far as it takes them."""
    values = {"rel": [1, 2, 3], "judged_only": [False, True], "dcg": ["log2", "exp-log2"]}
    values |= {"p": [0.8, 0.95], "top": [4, 3], "beta": [1.0, 0.5], "pool": ["judged", "list"]}
    made = []
    for kind in all_measures().values():
        cutoffs = {"none": [None], "required": [1, 10], "optional": [None, 1, 1000]}[kind.takes_cutoff]
        for cutoff, *chosen in itertools.product(cutoffs, *(values[option] for option in kind.options())):
            made.append(kind(cutoff=cutoff, **dict(zip(kind.options(), chosen, strict=True))))
    return made


def test_repr_is_read_back():
    measures = every_measure()
    assert len(measures) > 80
    assert len(set(map(str, measures))) == len(set(measures)) == len(measures)
    for measure in measures:
        assert parse_measures(repr(measure)) == [measure]
    assert parse_measures(" ".join(map(str, measures))) == measures
    assert parse_measures(", ".join(map(str, measures))) == measures
    assert parse_measures([str(m) if i % 2 else m for i, m in enumerate(measures)]) == measures


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("ndcg@10", "nDCG@10"),
        ("NDCG_CUT_10", "nDCG@10"),
        ("ndcg_cut.10", "nDCG@10"),
        ("MAP", "AP"),
        ("map_cut_100", "AP@100"),
        ("mrr@10", "RR@10"),
        ("recip_rank", "RR"),
        ("recall@100", "R@100"),
        ("recall_100", "R@100"),
        ("Precision@5", "P@5"),
        ("P_5", "P@5"),
        ("P.5", "P@5"),
        ("success@1", "Success@1"),
        ("num_rel_ret", "NumRelRet"),
        ("AP(rel=1)", "AP"),
        ("AP()@5", "AP@5"),
        ("AP ( rel = 2 )@5", "AP(rel=2)@5"),
        ("nDCG(dcg=exp-log2)@10", "nDCG(dcg='exp-log2')@10"),
        ('nDCG(dcg="exp-log2", judged_only=True)@10', "nDCG(dcg='exp-log2', judged_only=True)@10"),
        ("nDCG(judged_only=True,dcg='log2')@10", "nDCG(judged_only=True)@10"),
    ],
)
def test_other_spellings(written, means):
    assert [str(measure) for measure in parse_measures(written)] == [means]


def test_lists_keep_their_order_and_one_of_each():
    assert [str(m) for m in parse_measures(" R@100,nDCG@10\tAP\n ndcg@10, MAP RR@10,")] == [
        "R@100",
        "nDCG@10",
        "AP",
        "RR@10",
    ]


@pytest.mark.parametrize(
    ("written", "position", "told"),
    [
        ("nDGC@10", 1, "did you mean 'nDCG@10'?"),
        ("AP  nDGC@10", 5, "did you mean 'nDCG@10'?"),
        ("AP,sucess@5", 4, "did you mean 'Success@5'?"),
        ("nDCG@10 zzz", 9, "known: AP, Bpref, CappedR"),
        ("P", 1, "P needs a cutoff, e.g. P@10"),
        ("AP Judged", 4, "Judged needs a cutoff, e.g. Judged@10"),
        ("Rprec@10", 1, "Rprec takes no cutoff"),
        ("P@0", 1, "the cutoff must be"),
        ("P@-1", 1, "expected a whole number"),
        ("P@1.5", 1, "expected a whole number"),
        ("P@ten", 1, "expected a whole number"),
        ("P@" + "9" * 5000, 1, "expected a whole number"),
        ("P@999999999999999999", 1, "the cutoff must be from 1 to"),
        ("nDCG@10@5", 1, "expected a form such as"),
        ("@10", 1, "expected a form such as"),
        ("AP(rel=2", 1, "expected a form such as"),
        ("AP(2)", 1, "key=value"),
        ("AP(rel=0)", 1, "whole number >= 1"),
        ("AP(rel=2.5)", 1, "whole number >= 1"),
        ("AP(rel=True)", 1, "whole number >= 1"),
        ("AP(rel=2,rel=3)", 1, "given twice"),
        ("AP(rell=2)", 1, "did you mean 'rel'?"),
        ("AP(judged_only=1)", 1, "expected True or False"),
        ("NumRet(rel=2)", 1, "no option 'rel'"),
        ("nDCG(dcg='exp-lg2')@10", 1, "did you mean 'exp-log2'?"),
        ("P_10@5", 1, "is unknown"),
    ],
)
def test_errors_tell_position_and_remedy(written, position, told):
    with pytest.raises(UsageError) as caught:
        parse_measures(written)
    assert told in str(caught.value)
    assert f"position {position}: " in str(caught.value)


@pytest.mark.parametrize("nothing", ["", " , ", [], [""]])
def test_no_measure(nothing):
    with pytest.raises(UsageError, match="no measure is given"):
        parse_measures(nothing)


@pytest.mark.parametrize("wrong", [5, [5], [None], None])
def test_not_text(wrong):
    with pytest.raises(UsageError, match="expected text such as 'nDCG@10"):
        parse_measures(wrong)


def test_names_of_the_package_take_cutoff_and_options():
    from cribble.eval import AP, RR, P, nDCG

    assert str(nDCG @ 10) == "nDCG@10"
    assert str(AP(rel=2) @ 100) == str((AP @ 100)(rel=2)) == "AP(rel=2)@100"
    assert nDCG(dcg="exp-log2") @ 10 == parse_measures("nDCG(dcg='exp-log2')@10")[0]
    assert RR @ 10 != P @ 10
    assert len({RR @ 10, P @ 10, RR @ 10}) == 2
    assert {"nDCG", "Bpref", "evaluate"} <= set(dir(cribble.eval))
    with pytest.raises(UsageError, match="needs a cutoff"):
        parse_measures([P])
    with pytest.raises(UsageError, match="whole number"):
        nDCG @ "10"
    with pytest.raises(UsageError, match="did you mean 'rel'"):
        AP(rels=2)
    with pytest.raises(AttributeError, match="nDGC"):
        _ = cribble.eval.nDGC


def test_measures_are_values():
    measure = parse_measures("AP(rel=2)@100")[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        measure.cutoff = 5
    assert measure @ 5 != measure
    assert str(measure) == "AP(rel=2)@100"


def test_importing_stays_light():
    code = "import sys, cribble.eval; cribble.eval.nDCG @ 10; print([m for m in ('scipy','rich','ranx') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


# ---- definitions, slowly ----------------------------------------------------------------------------------------------


def ranked(scores: dict[str, float]) -> list[str]:
    """trec_eval's order: score in float32 descending, then id descending by its bytes."""
    return sorted(scores, key=lambda d: (float(np.float32(scores[d])), d.encode()), reverse=True)


def reciprocal_rank(order, judged, cutoff, rel=1):
    return next((1 / rank for rank, d in enumerate(order[:cutoff], 1) if judged.get(d, 0) >= rel), 0.0)


def judged_share(order, judged, cutoff):
    best = order[:cutoff]
    return sum(judged.get(d, -1) >= 0 for d in best) / len(best) if best else 0.0


def average_precision(order, judged, cutoff, rel):
    found, total = 0, 0.0
    for rank, document in enumerate(order[:cutoff], 1):
        if judged.get(document, 0) >= rel:
            found += 1
            total += found / rank
    relevant = sum(label >= rel for label in judged.values())
    return total / relevant if relevant else 0.0


def gain_ratio(order, judged, cutoff, gain):
    def cumulated(labels):
        return sum(gain(label) / math.log2(rank + 1) for rank, label in enumerate(labels[:cutoff], 1) if label > 0)

    ideal = cumulated(sorted(judged.values(), reverse=True))
    return cumulated([judged.get(d, 0) for d in order]) / ideal if ideal else 0.0


def condensed(order, judged):
    return [d for d in order if judged.get(d, -1) >= 0]


def exponential(label):
    return 2.0**label - 1.0


SLOWLY = {
    "RR@10": lambda o, j: reciprocal_rank(o, j, 10),
    "RR(rel=2)@3": lambda o, j: reciprocal_rank(o, j, 3, rel=2),
    "RR(judged_only=True)@5": lambda o, j: reciprocal_rank(condensed(o, j), j, 5),
    "Judged@10": lambda o, j: judged_share(o, j, 10),
    "Judged@1": lambda o, j: judged_share(o, j, 1),
    "AP(rel=2)@100": lambda o, j: average_precision(o, j, 100, 2),
    "AP(rel=2)@7": lambda o, j: average_precision(o, j, 7, 2),
    "AP(rel=3, judged_only=True)@7": lambda o, j: average_precision(condensed(o, j), j, 7, 3),
    "nDCG@10": lambda o, j: gain_ratio(o, j, 10, float),
    "nDCG@3": lambda o, j: gain_ratio(o, j, 3, float),
    "nDCG(dcg='exp-log2')@10": lambda o, j: gain_ratio(o, j, 10, exponential),
    "nDCG(dcg='exp-log2')": lambda o, j: gain_ratio(o, j, None, exponential),
    "nDCG(dcg='exp-log2', judged_only=True)@10": lambda o, j: gain_ratio(condensed(o, j), j, 10, exponential),
    "R(rel=2)@7": lambda o, j: sum(j.get(d, 0) >= 2 for d in o[:7]) / max(1, sum(label >= 2 for label in j.values())),
    "P(judged_only=True)@3": lambda o, j: sum(j[d] >= 1 for d in condensed(o, j)[:3]) / 3,
    "Success(rel=2)@3": lambda o, j: float(any(j.get(d, 0) >= 2 for d in o[:3])),
    "NumRelRet(rel=2)": lambda o, j: float(sum(j.get(d, 0) >= 2 for d in o)),
}


@pytest.mark.parametrize("measure", SLOWLY)
def test_definitions(measure):
    rng = random.Random(5)
    distinct = set()
    for _ in range(60):
        documents = [f"d{i}" for i in range(rng.choice([1, 3, 12, 40, 150]))]
        qrels, run = {}, {}
        for query in ("q1", "q2", "q3"):
            judged = rng.sample(documents, rng.randint(1, len(documents)))
            qrels[query] = {d: rng.choice([-1, 0, 0, 1, 2, 3]) for d in judged}
            found = rng.sample(documents, rng.randint(0, len(documents)))
            run[query] = {d: rng.choice([1.0, 2.0, 2.0 + 1e-9, rng.random()]) for d in found}
        values = evaluate(run, qrels, measure).per_query(measure)
        for query, judged in qrels.items():
            wanted = SLOWLY[measure](ranked(run[query]), judged)
            assert abs(values[query] - wanted) <= TOLERANCE, (query, values[query], wanted)
            distinct.add(wanted)
    assert len(distinct) >= (2 if measure.startswith(("Success", "Judged@1")) else 4)


def test_by_hand():
    """Ranks: a (unjudged), b (2), c (0), d (1); e (3) is not found."""
    run = {"q": {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}}
    qrels = {"q": {"b": 2, "c": 0, "d": 1, "e": 3}}
    means = evaluate(
        run, qrels, "RR@10 Judged@10 Judged@1 AP(rel=2)@100 nDCG(dcg='exp-log2')@10 P(judged_only=True)@2"
    ).means
    ideal = 7 + 3 / math.log2(3) + 1 / 2
    assert means == pytest.approx(
        {
            "RR@10": 1 / 2,
            "Judged@10": 3 / 4,
            "Judged@1": 0.0,
            "AP(rel=2)@100": 1 / 4,
            "nDCG(dcg='exp-log2')@10": (3 / math.log2(3) + 1 / math.log2(5)) / ideal,
            "P(judged_only=True)@2": 1 / 2,
        },
        abs=TOLERANCE,
    )


def test_ties_in_float64():
    run = {"q": {"a": 0.9 + 1e-10, "b": 0.9, "c": 0.1, "d": 0.1}}
    assert evaluate(run, {"q": {"a": 1}}, "RR").mean("RR") == 0.5
    assert evaluate(run, {"q": {"a": 1}}, "RR", ties="float64").mean("RR") == 1.0
    for ties in ("float32", "float64"):  # really equal: the higher id first
        assert evaluate(run, {"q": {"c": 1}}, "RR", ties=ties).mean("RR") == 0.25
    with pytest.raises(UsageError, match="ties='float16'"):
        evaluate(run, {"q": {"a": 1}}, "RR", ties="float16")
