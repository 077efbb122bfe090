"""Every measure that pytrec_eval-terrier has equals it at 1e-9 on random runs, query by query, as under `-c`."""

import random

import numpy as np
import pytest
from cribble.eval import evaluate, parse_measures
from cribble.records import Qrels, Run

pytrec_eval = pytest.importorskip("pytrec_eval")

TOLERANCE = 1e-9
CUTS = (5, 10, 15, 20, 30, 100, 200, 500, 1000)
OURS = {
    "AP": "map",
    "RR": "recip_rank",
    "Bpref": "bpref",
    "Rprec": "Rprec",
    "nDCG": "ndcg",
    "NumRet": "num_ret",
    "NumRel": "num_rel",
    "NumRelRet": "num_rel_ret",
    **{f"nDCG@{k}": f"ndcg_cut_{k}" for k in CUTS},
    **{f"AP@{k}": f"map_cut_{k}" for k in CUTS},
    **{f"R@{k}": f"recall_{k}" for k in CUTS},
    **{f"P@{k}": f"P_{k}" for k in CUTS},
    **{f"Success@{k}": f"success_{k}" for k in (1, 5, 10)},
}


def document_names(rng: random.Random, count: int) -> list[str]:
    style = rng.randrange(4)
    if style == 0:
        return [str(i) for i in range(count)]
    if style == 1:  # longer than one 8-byte word, equal in the first bytes
        return [f"collection-{'x' * (i % 9)}-{i}" for i in range(count)]
    if style == 2:  # byte order is not the order of code points in UTF-16
        letters = ["é", "中", "\U0001f600", "\uffff", "a"]
        return [f"{rng.choice(letters)}{i}" for i in range(count)]
    return [f"d{i}" for i in range(count)]


SCORES = {
    "distinct": lambda rng: rng.gauss(0, 10),
    "few values": lambda rng: float(rng.randint(0, 3)),
    "one value": lambda rng: 1.0,
    "near in float32": lambda rng: 0.9 + rng.randint(0, 5) * 1e-10,
    "near beside apart": lambda rng: 20_000_000.0 + rng.randint(0, 30) * 0.1,
    "beyond float32": lambda rng: rng.choice([1e39, 2e39, -1e39, 1e300, 3.0]),
    "tiny": lambda rng: rng.choice([1e-46, 2e-46, 0.0, -0.0, -1e-46, 1e-40]),
}


def random_case(seed: int) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, float]]]:
    rng = random.Random(seed)
    documents = document_names(rng, rng.choice([1, 2, 5, 30, 60, 250]))
    labels = rng.choice([[0, 1], [0, 1, 2, 3], [-2, -1, 0, 1], [-1, 0, 0, 0, 1, 2, 5], [0], [1]])
    kind = rng.choice(list(SCORES))
    qrels: dict[str, dict[str, int]] = {}
    run: dict[str, dict[str, float]] = {}
    for number in range(rng.randint(1, 5)):
        query = f"q{number}"
        judged = rng.sample(documents, rng.randint(1, len(documents)))
        qrels[query] = {document: rng.choice(labels) for document in judged}
        # pytrec_eval crashes on a query that has negative labels only; that case has its own test.
        qrels[query][judged[0]] = max(qrels[query][judged[0]], 0)
        if rng.random() < 0.85:
            found = rng.sample(documents, rng.randint(0, len(documents)))
            run[query] = {document: SCORES[kind](rng) for document in found}
    run["not judged"] = {documents[0]: 1.0}
    rng.shuffle(order := list(run))
    return qrels, {query: run[query] for query in order}


def expected(
    qrels: dict[str, dict[str, int]], run: dict[str, dict[str, float]], **options: object
) -> dict[str, dict[str, float]]:
    """pytrec_eval's values, with a 0 for each judged query that the run lacks."""
    oracle = pytrec_eval.RelevanceEvaluator(qrels, set(pytrec_eval.supported_measures), **options)
    found = oracle.evaluate(run)
    return {query: found.get(query, {}) for query in qrels}


def check(evaluation, values, names) -> int:
    compared = 0
    for query, row in evaluation.to_dict().items():
        for ours, value in row.items():
            if not values[query]:
                assert value == 0 or ours.startswith("NumRel"), (query, ours)
                continue
            assert abs(value - values[query][names[ours]]) <= TOLERANCE, (query, ours, value)
            compared += 1
    return compared


@pytest.mark.parametrize("block", range(12))
def test_random_runs(block):
    runs = compared = 0
    for seed in range(block * 100, block * 100 + 100):
        qrels, run = random_case(seed)
        if all(query not in qrels for query in run):
            continue
        values = expected(qrels, run)
        compared += check(evaluate(Run.from_dict(run), Qrels.from_dict(qrels), OURS), values, OURS)
        runs += 1
    assert runs >= 90, "twelve blocks make more than a thousand runs"
    assert compared > 5_000


def test_the_random_runs_hold_what_they_are_for():
    """Missing queries, empty rankings, negative labels, lists shorter than every cutoff, ties in float32 only."""
    seen = dict.fromkeys(("missing", "empty", "negative", "short", "long", "no relevant", "tie", "float32 tie"), 0)
    for seed in range(1200):
        qrels, run = random_case(seed)
        for query, judged in qrels.items():
            scores = list(run.get(query, {}).values())
            with np.errstate(over="ignore"):
                in_float32 = set(np.array(scores).astype(np.float32).tolist())
            seen["missing"] += query not in run
            seen["empty"] += run.get(query) == {}
            seen["negative"] += min(judged.values()) < 0
            seen["no relevant"] += max(judged.values()) <= 0
            seen["short"] += 0 < len(scores) < 5
            seen["long"] += len(scores) > 200
            seen["tie"] += len(set(scores)) < len(scores)
            seen["float32 tie"] += len(in_float32) < len(set(scores))
    assert min(seen.values()) >= 50, seen


@pytest.mark.parametrize("rel", [2, 3])
def test_relevance_level(rel):
    level = f"(rel={rel})"
    names = {
        str(parse_measures(name)[0](rel=rel)): theirs
        for name, theirs in OURS.items()
        if "nDCG" not in name and name != "NumRet"
    }
    names |= {name: theirs for name, theirs in OURS.items() if "nDCG" in name}
    assert f"AP{level}@10" in names
    for seed in range(2000, 2150):
        qrels, run = random_case(seed)
        if any(query in qrels for query in run):
            check(evaluate(run, qrels, names), expected(qrels, run, relevance_level=rel), names)


def test_judged_only():
    names = {
        str(parse_measures(name)[0](judged_only=True)): theirs
        for name, theirs in OURS.items()
        if not name.startswith(("Num", "Bpref"))
    }
    for seed in range(3000, 3150):
        qrels, run = random_case(seed)
        if any(query in qrels for query in run):
            check(evaluate(run, qrels, names), expected(qrels, run, judged_docs_only_flag=True), names)


def test_ties_of_every_multiplicity():
    """One tie of every length: beyond 16 a sort that is not stable gives up the input order, beyond 64 a block's."""
    names = {ours: theirs for ours, theirs in OURS.items() if "@" not in ours or ours.endswith(("@5", "@20", "@1000"))}
    for length in [*range(1, 131), 300, 1000]:
        documents = [f"d{i}" for i in range(length)]
        random.Random(length).shuffle(documents)
        qrels = {"q": {document: i % 3 for i, document in enumerate(documents)}}
        run = {"q": dict.fromkeys(documents, 0.5)}
        assert check(evaluate(run, qrels, names), expected(qrels, run), names) == len(names)


def test_a_query_with_negative_labels_only():
    """pytrec_eval crashes on it, so the oracle is one on which the same documents are judged not relevant."""
    run = {"q1": {"a": 2.0, "b": 1.0}, "q2": {"a": 2.0, "b": 1.0}}
    evaluation = evaluate(run, {"q1": {"a": -1, "b": -2}, "q2": {"b": 1}}, OURS)
    values = expected({"q1": {"a": 0, "b": 0}, "q2": {"b": 1}}, run)
    assert check(evaluation, values, OURS) == 2 * len(OURS)
    assert evaluation.no_relevant == ("q1",)


def test_float64_ties_differ_as_trec_eval_10_does():
    qrels = {"q": {"a": 1, "b": 0}}
    run = {"q": {"a": 20_000_000.1, "b": 20_000_000.0}}
    assert (
        evaluate(run, qrels, "RR").mean("RR")
        == pytrec_eval.RelevanceEvaluator(qrels, {"recip_rank"}).evaluate(run)["q"]["recip_rank"]
    )
    assert evaluate(run, qrels, "RR").mean("RR") == 0.5
    assert evaluate(run, qrels, "RR", ties="float64").mean("RR") == 1.0
