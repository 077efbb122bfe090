"""Measures beyond trec_eval's against other people's programs: ir_measures' providers, BEIR, INQUIRE, CLEF-TAR, ranx."""

import gzip
import os
import random
from pathlib import Path

import numpy as np
import pytest
from cribble.eval import evaluate
from cribble.records import Run

DATA = Path(os.environ.get("CRIBBLE_DATA", ""))


def random_case(seed, *, tied=False, labels=(0, 0, 1, 2, 3), found=60, full=False):
    """Three numbered queries (gdeval takes numbers only), with unjudged documents and short lists."""
    rng = random.Random(seed)
    documents = [f"d{i}" for i in range(80)]
    qrels, run = {}, {}
    for query in ("1", "2", "3"):
        qrels[query] = {d: rng.choice(labels) for d in rng.sample(documents, 40)}
        listed = rng.sample(documents, found if full else rng.randint(1, found))
        scores = [float(rng.randint(0, 4)) for _ in listed] if tied else rng.sample(range(1000), len(listed))
        run[query] = dict(zip(listed, map(float, scores), strict=True))
    return qrels, run


# ---- ir_measures ------------------------------------------------------------------------------------------------------

IR_MEASURES = {
    # provider cwl_eval
    "RBP(rel=1, p=0.8)": 1e-9,
    "RBP(rel=2, p=0.5)": 1e-9,
    # provider gdeval (a Perl script that prints five decimals)
    "ERR@5": 6e-6,
    "ERR@20": 6e-6,
    "nDCG(dcg='exp-log2')@20": 6e-6,
    # providers judged and pytrec_eval
    "Judged@10": 1e-9,
    "SetP": 1e-9,
    "SetR": 1e-9,
    "SetF": 1e-9,
    "SetF(beta=2.0)": 1e-9,
    "SetP(rel=2)": 1e-9,
    "SetR(rel=2)": 1e-9,
}


@pytest.mark.parametrize("name", IR_MEASURES)
def test_ir_measures(name):
    """Oracle: ir_measures >= 0.3.7 on lists without ties, whose order its providers disagree about; tolerance as above."""
    ir_measures = pytest.importorskip("ir_measures")
    oracle = ir_measures.parse_measure(name.replace("beta=2.0", "beta=4.0"))  # trec_eval's parameter is β squared
    try:
        ir_measures.evaluator([oracle], {"1": {"a": 1}})
    except ValueError:
        pytest.skip(f"ir_measures has no provider for {name} here: pip install cwl-eval, or Perl")
    for seed in range(4):
        qrels, run = random_case(seed)
        values = evaluate(run, qrels, name).per_query(name)
        for metric in ir_measures.iter_calc([oracle], qrels, run):
            assert values[metric.query_id] == pytest.approx(metric.value, abs=IR_MEASURES[name])


def test_pytrec_evals_set_measures_with_ties_and_negative_labels():
    """Oracle: pytrec_eval-terrier's set_P, set_recall and set_F, 1e-9."""
    pytrec_eval = pytest.importorskip("pytrec_eval")
    for seed in range(30):
        qrels, run = random_case(seed, tied=True, labels=(-1, 0, 1, 2))
        theirs = pytrec_eval.RelevanceEvaluator(qrels, {"set_P", "set_recall", "set_F"}).evaluate(run)
        for query, row in evaluate(run, qrels, "set_P SetR set_F").to_dict().items():
            wanted = {"SetP": "set_P", "SetR": "set_recall", "SetF": "set_F"}
            for ours, name in wanted.items():
                assert row[ours] == pytest.approx(theirs[query][name], abs=1e-9)


# ---- ranx -------------------------------------------------------------------------------------------------------------


def test_ranx_on_lists_without_ties(interpreted_ranx):
    """Oracle: ranx 0.3.20 or later, 1e-9: RBP on binary labels, and the spine's measures on graded ones."""
    ranx = pytest.importorskip("ranx")
    names = {"nDCG@10": "ndcg@10", "AP": "map", "RR": "mrr", "P@5": "precision@5", "R@20": "recall@20"}
    names |= {"Success@5": "hit_rate@5", "Rprec": "r-precision", "nDCG(dcg='exp-log2')@10": "ndcg_burges@10"}
    for seed in range(2):
        for labels, wanted in (((0, 1), {"RBP": "rbp.80", "RBP(p=0.5)": "rbp.50"}), ((1, 2, 3), names)):
            qrels, run = random_case(seed, labels=labels)
            for ours, theirs in wanted.items():
                value = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), theirs)
                assert evaluate(run, qrels, ours).mean(ours) == pytest.approx(value, abs=1e-9), ours


# ---- BEIR -------------------------------------------------------------------------------------------------------------

#: beir 2.2.0, EvaluateRetrieval.evaluate(…, [1, 3, 10], ignore_identical_ids=flag) and evaluate_custom, on `beir_case`;
#: made on 2026-11-29, five decimals.
BEIR = {
    False: {
        "nDCG@1": 0.2,
        "nDCG@3": 0.15934,
        "nDCG@10": 0.27173,
        "AP@3": 0.09278,
        "AP@10": 0.18043,
        "R@10": 0.37,
        "P@10": 0.22,
    },
    True: {
        "nDCG@1": 0.0,
        "nDCG@3": 0.06548,
        "nDCG@10": 0.20435,
        "AP@3": 0.02778,
        "AP@10": 0.10824,
        "R@10": 0.305,
        "P@10": 0.18,
    },
}
BEIR_CUSTOM = {
    "RR@1": 0.33333, "RR@3": 0.47222, "RR@10": 0.48889,
    "R_cap@1": 0.33333, "R_cap@3": 0.22222, "R_cap@10": 0.30833,
    "Hole@1": 0.16667, "Hole@3": 0.27778, "Hole@10": 0.21667,
    "Success@1": 0.33333, "Success@3": 0.66667, "Success@10": 0.83333,
}  # fmt: skip


def beir_case():
    """Six judged queries of which the run lacks one; query 2 finds the relevant document 2 first."""
    rng = random.Random(7)
    documents = [str(i) for i in range(40)]
    qrels = {str(q): {d: rng.choice([0, 1, 1, 2]) for d in rng.sample(documents, 8)} for q in range(6)}
    qrels["2"]["2"] = 1
    for judged in qrels.values():
        judged[rng.choice(documents)] = 1
    run = {str(q): {d: rng.random() for d in rng.sample(documents, 20)} for q in range(5)}
    run["2"]["2"] = 2.0
    return qrels, run


@pytest.mark.parametrize("ignore_identical_ids", [False, True])
def test_beirs_own_evaluate(ignore_identical_ids):
    """Its mean is over the queries that are in both; ours over all judged ones, so that a lost query counts 0."""
    qrels, run = beir_case()
    chosen = Run.from_dict(run)
    if ignore_identical_ids:
        chosen = chosen.drop({query: {query} for query in run})
    in_both = {query: judged for query, judged in qrels.items() if query in run}
    means = evaluate(chosen, in_both, list(BEIR[False])).means
    assert {name: round(value, 5) for name, value in means.items()} == BEIR[ignore_identical_ids]
    strict = evaluate(chosen, qrels, "nDCG@10").mean("nDCG@10")
    assert strict == pytest.approx(means["nDCG@10"] * 5 / 6, abs=1e-9)


def test_beirs_custom_measures():
    """They divide by the number of judged queries, as we do."""
    qrels, run = beir_case()
    evaluation = evaluate(run, qrels, list(BEIR_CUSTOM))
    for name, value in BEIR_CUSTOM.items():
        assert evaluation.mean(name) == pytest.approx(value, abs=5.1e-6), name


# ---- INQUIRE ----------------------------------------------------------------------------------------------------------


def inquire(labels, scores, positives):
    """AP, nDCG and MRR as INQUIRE's src/metrics.py makes them of scikit-learn's."""
    metrics = pytest.importorskip("sklearn.metrics")
    k, found = len(labels), int(labels.sum())
    ap = metrics.average_precision_score(labels, scores) * found / min(positives, k) if found else 0.0
    missed = positives - found
    ndcg = metrics.ndcg_score([[*labels, *[1] * missed]], [[*scores, *[-100.0] * missed]], k=k)
    order = np.argsort(-scores, kind="stable")
    return ap, ndcg, next((1 / rank for rank, i in enumerate(order, 1) if labels[i]), 0.0)


@pytest.mark.parametrize("tied", [False, True])
def test_inquire(tied):
    """Oracle: scikit-learn by INQUIRE's formulas, 1e-12, ties included; its MRR without ties only."""
    compared = 0
    for seed in range(40):
        qrels, run = random_case(seed, tied=tied, labels=(0, 1))
        for cutoff in (3, 10, 50):
            evaluation = evaluate(run, qrels, f"InquireAP@{cutoff} InquireNDCG@{cutoff} RR@{cutoff}")
            in_list = evaluate(run, qrels, f"InquireAP(pool=list)@{cutoff} InquireNDCG(pool=list)@{cutoff}")
            for row, query in enumerate(evaluation.query_ids):
                ids, scores = Run.from_dict(run)[query]
                labels = np.array([qrels[query].get(d, 0) for d in ids[:cutoff]])
                if len(labels) < 2:
                    continue  # scikit-learn has no nDCG of one document
                ap, ndcg, rr = inquire(labels, scores[:cutoff], sum(qrels[query].values()))
                assert evaluation.values[row, :2] == pytest.approx([ap, ndcg], abs=1e-12)
                assert tied or evaluation.values[row, 2] == rr
                if labels.any():
                    assert in_list.values[row] == pytest.approx(
                        inquire(labels, scores[:cutoff], labels.sum())[:2], abs=1e-12
                    )
                compared += 1
    assert compared > 300


# ---- CLEF-TAR ---------------------------------------------------------------------------------------------------------


def test_the_ninety_five_percent_of_clef_tar():
    """Which relevant document ends WSS@95: CLEF-TAR's Python 3 `round` goes half to even (10 → 10, 30 → 28, 50 → 48)."""
    for relevant in range(1, 121):
        wanted = round(float(relevant) * 0.95)
        documents = [f"d{i:04}" for i in range(400)]
        qrels = {"q": {d: int(i < relevant) for i, d in enumerate(documents)}}
        run = {"q": {d: 400.0 - i for i, d in enumerate(documents)}}
        value = evaluate(run, qrels, "WSS@95").mean("WSS@95")
        assert value == pytest.approx((400 - wanted) / 400 - 0.05, abs=1e-12), relevant
    assert [round(n * 0.95) for n in (10, 30, 50)] == [10, 28, 48]


#: CLEF-TAR/tar@dbc13d0 scripts/tar_eval.py on qrel_abs_test and UOS.sis.AL30Q_BM25: three decimals; 2026-11-29.
CLEF_TAR = {"LastRel": 2290.633, "WSS@100": 0.405, "WSS@95": 0.527, "NormArea": 0.861, "AP": 0.218}
CLEF_TAR_NCG = {20: 0.792, 30: 0.792, 50: 0.875, 60: 0.958, 80: 1.0}


@pytest.fixture(scope="module")
def clef_tar():
    folder = DATA / "clef-tar-2017"
    if not folder.is_dir():
        pytest.skip("CRIBBLE_DATA does not hold clef-tar-2017")

    def lines(path):
        with gzip.open(path, "rt") as stream:
            return [line.split() for line in stream]

    qrels, run = {}, {}
    for query, _, document, label in lines(folder / "qrel_abs_test.txt.gz"):
        qrels.setdefault(query, {})[document] = int(label)
    for query, _, document, *_ in lines(folder / "runs" / "UOS.sis.AL30Q_BM25.res.gz"):
        ranked = run.setdefault(query, {})  # the script goes by the order of the file; all scores are 0.0
        ranked.setdefault(document, -float(len(ranked)))
    return qrels, run


@pytest.mark.real
def test_clef_tars_script_on_a_real_run(clef_tar):
    """30 topics and 117,562 documents: the official script's means, equal in the three decimals that it prints."""
    qrels, run = clef_tar
    means = evaluate(run, qrels, list(CLEF_TAR)).means
    assert {name: round(value, 3) for name, value in means.items()} == CLEF_TAR


@pytest.mark.real
def test_recall_after_a_share_and_the_scripts_slip(clef_tar):
    """CD007431 has 2,074 documents: as the script. CD008081 has 970, a multiple of ten, where the script prints each
    value a step too late (NCG@10 is 0, NCG@20 what is found in the first 10 %)."""
    qrels, run = clef_tar
    names = [f"NCG@{k}" for k in (10, 20, 30, 40, 50, 60, 70, 80, 90, 100)]
    rows = evaluate(run, qrels, names).to_dict()
    for k, value in CLEF_TAR_NCG.items():
        assert rows["CD007431"][f"RecallPercent@{k}"] == pytest.approx(value, abs=5e-4)
    slipped = {20: 0.115, 30: 0.462, 40: 0.769, 50: 0.923}
    for k, value in slipped.items():
        assert rows["CD008081"][f"RecallPercent@{k - 10}"] == pytest.approx(value, abs=5e-4)
