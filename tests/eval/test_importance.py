"""Importance of documents against brute force over all subsets; learned weights, pruning, RAG answers, the command."""

import itertools
import json
import random

import numpy as np
import pytest
from cribble.commands.importance import Files, Learning, importance_of
from cribble.errors import InputError, UsageError
from cribble.eval.importance import Retrievals, expected_utility, importance, learn_weights, shortened
from cribble.eval.pruning import (
    answer_worth,
    prune,
    read_answers,
    retrieval_worth,
    reweighted,
    run_utilities,
    sources_of,
    without,
)
from cribble.records import Qrels, Run


def utility_by_subsets(rows, weights, k):
    """Σ over all 2^M subsets of their probability times (1 / K) Σ of the first K present: the definition."""
    total = 0.0
    for _, items, utilities in rows:
        there = np.array(list(itertools.product([0, 1], repeat=len(items))), float).reshape(-1, len(items))
        p = np.array([weights[item] for item in items])
        probability = np.prod(np.where(there == 1, p, 1 - p), axis=1)
        counts = (there == 1) & (np.cumsum(there, axis=1) <= k)
        total += float(probability @ (counts @ np.array(utilities))) / k
    return total / len(rows)


def queries(seed, most=12, kind="graded"):
    rng = np.random.default_rng(seed)
    names = [f"i{n}" for n in range(12)]
    rows = []
    for q in range(3):
        items = [str(name) for name in rng.permutation(names)[: rng.integers(1, most + 1)]]
        utilities = {
            "graded": rng.normal(size=len(items)).round(2),
            "binary": rng.integers(0, 2, len(items)).astype(float),
            "equal": np.full(len(items), 0.7),
        }[kind]
        rows.append((f"q{q}", items, utilities.tolist()))
    return rows


@pytest.mark.parametrize("k", [1, 2, 4, 20])
@pytest.mark.parametrize("kind", ["graded", "binary", "equal"])
def test_brute_force(k, kind):
    """U and its derivatives (U is linear in each weight, so a difference of two corners), 1e-12; M up to 12."""
    for seed in range(2):
        rows = queries(seed, kind=kind)
        retrievals = Retrievals.of(rows)
        rng = np.random.default_rng(seed)
        for weights in (
            rng.random(len(retrievals.names)),
            np.ones(len(retrievals.names)),
            np.zeros(len(retrievals.names)),
        ):
            named = dict(zip(retrievals.names, weights, strict=True))
            assert expected_utility(retrievals, weights, k) == pytest.approx(
                utility_by_subsets(rows, named, k), abs=1e-12
            )
            gradient = importance(retrievals, weights, k)
            for name, value in zip(retrievals.names, gradient, strict=True):
                high, low = (utility_by_subsets(rows, named | {name: w}, k) for w in (1.0, 0.0))
                assert value == pytest.approx(high - low, abs=1e-12)


def papers_gradient(utilities, p, k):
    """The two terms of the paper, with its tables over distinct utilities, by loops."""
    m, distinct = len(p), sorted(set(utilities))
    ip = np.zeros((k + 1, m + 2))
    rp = np.zeros((k + 1, m + 2))
    b = np.zeros((k + 1, m + 2, len(distinct)))
    ip[0, 0] = rp[0, m + 1] = 1
    for j in range(1, m + 1):
        for n in range(k + 1):
            ip[n, j] = ip[n, j - 1] * (1 - p[j - 1]) + (ip[n - 1, j - 1] * p[j - 1] if n else 0)
    for j in range(m, 0, -1):
        for n in range(k + 1):
            rp[n, j] = rp[n, j + 1] * (1 - p[j - 1]) + (rp[n - 1, j + 1] * p[j - 1] if n else 0)
        for n in range(1, k + 1):
            for e, value in enumerate(distinct):
                hit = value == utilities[j - 1] if n == 1 else b[n - 1, j + 1, e]
                b[n, j, e] = b[n, j + 1, e] * (1 - p[j - 1]) + hit * p[j - 1]
    found = np.zeros(m)
    for i in range(1, m + 1):
        c = utilities[i - 1]
        found[i - 1] += c * sum(ip[j, i - 1] * rp[n - j, i + 1] for n in range(k) for j in range(n + 1))
        found[i - 1] += sum(
            (c - value) * ip[j, i - 1] * b[k - j, i + 1, e] for e, value in enumerate(distinct) for j in range(k)
        )
    return found / k


def test_our_sum_is_the_papers_two_terms():
    """Both of its terms in one: 1e-12 on lists of 60, where subsets can't be counted."""
    rng = np.random.default_rng(5)
    for k in (1, 3, 10):
        utilities = rng.choice([0.0, 0.25, 1.0, -0.5], 60).tolist()
        items = [f"d{i}" for i in range(60)]
        weights = rng.random(60)
        ours = importance(Retrievals.of([("q", items, utilities)]), weights, k)
        assert ours == pytest.approx(papers_gradient(utilities, weights, k), abs=1e-12)


#: ragbooster 0.1.1 (Rust): learn_importance(…, K 2, learning rate .5, 3 epochs), alone and in three groups; 2026-11-29.
RAGBOOSTER = [
    0.4750954415817314,
    0.49806686030611913,
    0.5707818980991517,
    0.5156444007070885,
    0.7248668659075141,
    0.5688981484782163,
    0.5614971732183092,
    0.7177124899768347,
]
RAGBOOSTER_GROUPS = [
    0.5138653692246059,
    0.5138653692246059,
    0.5138653692246059,
    0.6002819774873335,
    0.6002819774873335,
    0.6002819774873335,
    0.6411787538176836,
    0.6411787538176836,
]


def test_learned_weights_equal_ragboosters():
    """Golden values of the authors' own package, 1e-12. Items are numbers there."""
    rng = random.Random(11)
    rows = [(rng.sample(range(8), 5), [rng.choice([0.0, 1.0]) for _ in range(5)]) for _ in range(6)]
    retrievals = Retrievals.of([(f"q{q}", list(map(str, items)), values) for q, (items, values) in enumerate(rows)])
    order = [int(name) for name in retrievals.names]
    learned = learn_weights(retrievals, 2, epochs=3, learning_rate=0.5)
    assert learned == pytest.approx(np.array(RAGBOOSTER)[order], abs=1e-12)
    groups = np.array([0, 0, 0, 1, 1, 1, 2, 2])[order]
    grouped = learn_weights(retrievals, 2, groups=groups, epochs=3, learning_rate=0.5)
    assert grouped == pytest.approx(np.array(RAGBOOSTER_GROUPS)[order], abs=1e-12)


@pytest.mark.parametrize("epsilon", [0.3, 0.01, 1e-4])
def test_the_approximation_keeps_its_bound(epsilon):
    rng = np.random.default_rng(1)
    rows = [(f"q{q}", [f"d{i}" for i in rng.permutation(300)[:100]], rng.random(100).tolist()) for q in range(20)]
    retrievals = Retrievals.of(rows)
    weights = rng.uniform(0.3, 1, len(retrievals.names))
    short = shortened(retrievals, weights, 10, epsilon)
    assert len(short.item) < 0.6 * len(retrievals.item)
    error = np.abs(importance(retrievals, weights, 10, epsilon=epsilon) - importance(retrievals, weights, 10))
    assert 0 < error.max() <= 2 * epsilon * retrievals.utility.max() / 10


def planted(seed=0, count=200):
    """Items of three sources: `good` is mostly right, `bad` never and often on top, `rare` was seen once."""
    rng = np.random.default_rng(seed)
    rows = []
    for q in range(count):
        items = [f"good/{i}" for i in rng.permutation(300)[:20]] + [f"bad/{i}" for i in rng.permutation(60)[:20]]
        rng.shuffle(items)
        rows.append((f"q{q}", items, [float(item.startswith("good") and rng.random() < 0.6) for item in items]))
    rows[0][1].append("rare/1")
    rows[0][2].append(0.0)
    return rows


def test_the_harmful_source_is_found_and_dropped():
    retrievals = Retrievals.of(planted())
    names = sources_of(retrievals.names, "before:/")
    sources, groups = np.unique(np.array(names), return_inverse=True)
    weights = learn_weights(retrievals, 10, groups=groups, epochs=60)
    by_source = {name: set(weights[groups == i]) for i, name in enumerate(sources)}
    assert by_source["bad"] == {0.0}
    assert min(by_source["good"]) > 0.7
    ones, learned = np.ones(len(weights)), weights
    assert expected_utility(retrievals, learned, 10) > expected_utility(retrievals, ones, 10) + 0.1
    seen = np.array([not name.startswith("rare") for name in retrievals.names])
    found = prune(weights, seen, retrieval_worth(retrievals, 10))
    assert {retrievals.names[i].split("/")[0] for i in np.flatnonzero(found.kept)} == {"good", "rare"}
    assert found.after > found.before + 0.1


def test_worth_of_what_is_there_by_the_definition():
    rows = queries(3)
    retrievals = Retrievals.of(rows)
    kept = np.random.default_rng(1).random(len(retrievals.names)) < 0.6
    worth = retrieval_worth(retrievals, 2)(kept)
    for value, (_, items, utilities) in zip(worth, rows, strict=True):
        there = [u for item, u in zip(items, utilities, strict=True) if kept[retrievals.names.index(item)]]
        assert value == pytest.approx(sum(there[:2]) / 2)
    assert expected_utility(retrievals, kept.astype(float), 2) == pytest.approx(float(worth.mean()), abs=1e-12)


ANSWERS = [
    {
        "query": "a",
        "retrieved": ["x.org/1", "y.org/1", "y.org/2"],
        "answers": ["Bern ", "Geneva", "geneva"],
        "correct": ["bern"],
    },
    {"query": "b", "retrieved": ["y.org/1", "x.org/1"], "answers": ["Nine", "ten"], "correct": ["ten", "10"]},
]


def test_answers_are_voted(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ANSWERS))
    answers = read_answers(path)
    assert answers.retrievals.utility.tolist() == [1, 0, 0, 0, 1]
    everything = np.ones(3, bool)
    assert answer_worth(answers, 1)(everything).tolist() == [1, 0]
    assert answer_worth(answers, 3)(everything).tolist() == [0, 0], "a tie goes to the answer that came first"
    assert answer_worth(answers, 3, np.array([1.0, 0.4, 0.4]))(everything).tolist() == [1, 1]
    assert answer_worth(answers, 3)(np.array([True, False, False])).tolist() == [1, 1]
    assert answer_worth(answers, 3)(np.zeros(3, bool)).tolist() == [0, 0]
    assert sources_of(answers.retrievals.names, "domain") == ["x.org", "y.org", "y.org"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "no valid JSON"),
        ("[]", "expected an object with query and the lists"),
        ('{"query": 1, "retrieved": [], "answers": [], "correct": []}', "the query is 1"),
        ('{"query": "a", "retrieved": ["x"], "answers": [], "correct": []}', "1 retrieved items and 0 answers"),
        ('{"query": "a", "retrieved": ["x", "x"], "answers": ["a", "b"], "correct": []}', "has an item twice"),
        ("", "holds no answers"),
    ],
)
def test_wrong_answers(tmp_path, line, told):
    path = tmp_path / "a.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(InputError, match=told):
        read_answers(path)


def test_a_runs_hits_and_what_is_written_of_them():
    run = Run.from_dict({"q": {"a": 3.0, "b": 2.0, "c": 1.0}, "x": {"a": 1.0}})
    qrels = Qrels.from_dict({"q": {"b": 2, "c": 1}, "missing": {"a": 1}})
    assert run_utilities(run, qrels, rel=2).utility.tolist() == [0, 1, 0]
    retrievals = run_utilities(run, qrels, gain="label")
    assert retrievals.utility.tolist() == [0, 1, 0.5]
    assert without(run, retrievals.names, np.array([False, True, True])).to_dict() == {
        "q": {"b": 2.0, "c": 1.0},
        "x": {},
    }
    assert reweighted(run, retrievals.names, np.array([0.1, 1.0, 1.0])).ids("q") == ["b", "c", "a"]
    with pytest.raises(InputError, match="negative scores"):
        reweighted(Run.from_dict({"q": {"a": -1.0}}), ["a"], np.array([0.5]))
    with pytest.raises(InputError, match="has no judged query"):
        run_utilities(run, Qrels.from_dict({"y": {"a": 1}}))


@pytest.mark.parametrize(
    "call",
    [
        lambda r: importance(r, np.ones(3), 1),
        lambda r: importance(r, np.full(len(r.names), 1.5), 1),
        lambda r: importance(r, np.ones(len(r.names)), 0),
        lambda r: importance(r, np.ones(len(r.names)), 1, epsilon=1.0),
        lambda r: learn_weights(r, 1, epochs=0),
        lambda r: learn_weights(r, 1, learning_rate=0),
        lambda r: sources_of(r.names, "nowhere.tsv"),
        lambda r: run_utilities(Run.from_dict({}), Qrels.from_dict({}), gain="gain"),
        lambda r: run_utilities(Run.from_dict({}), Qrels.from_dict({}), depth=0),
    ],
)
def test_wrong_arguments(call):
    with pytest.raises(UsageError):
        call(Retrievals.of(queries(0)))


def test_the_command(tmp_path):
    """Learned from half of the queries, told of the other half: dropping the planted source helps there too."""
    rows = planted(1)
    run = {q: {item: float(-i + 100) for i, item in enumerate(items)} for q, items, _ in rows}
    qrels = {q: {item: int(u) for item, u in zip(items, utilities, strict=True)} for q, items, utilities in rows}
    Run.from_dict(run).write(tmp_path / "run.trec")
    Qrels.from_dict(qrels).write(tmp_path / "q.txt")
    files = Files(tmp_path / "w.tsv", tmp_path / "drop.txt", tmp_path / "pruned.trec", tmp_path / "re.trec")
    learning = Learning(k=10, sources="before:/", epochs=40)
    done = importance_of(tmp_path / "run.trec", None, tmp_path / "q.txt", learning, files).results
    assert (done["learned_from"], done["held_out"], done["sources"]) == (100, 100, 3)
    assert done["report"]["after"] > done["report"]["before"] + 0.1
    assert done["report"]["interval"][0] > 0
    dropped = (tmp_path / "drop.txt").read_text().split()
    assert dropped
    assert all(item.startswith("bad/") for item in dropped)
    assert not set(dropped) & set(Run.read(tmp_path / "pruned.trec").doc_ids.to_pylist())
    table = (tmp_path / "w.tsv").read_text().splitlines()
    assert table[0] == "item\tsource\tweight\timportance\tkept"
    assert len(table) == 1 + done["items"]
    assert importance_of(tmp_path / "run.trec", None, tmp_path / "q.txt", learning, files).results == done
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ANSWERS))
    told = importance_of(
        path, None, None, Learning(k=3, holdout=0.0, sources="domain"), Files(tmp_path / "w.tsv")
    ).results
    assert told["report"] == {"before": 0.0, "after": 1.0, "interval": [1.0, 1.0]}
    assert told["weighted_votes"] == 1.0
    with pytest.raises(UsageError, match="answers have no run to write"):
        importance_of(path, None, None, Learning(), files)
    with pytest.raises(UsageError, match="--holdout 1"):
        importance_of(path, None, None, Learning(holdout=1.0), Files(tmp_path / "w.tsv"))
