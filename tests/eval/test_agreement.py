"""Agreement of judges and of rankings, against scikit-learn, krippendorff, scipy, definitions and published numbers."""

import gzip
import itertools
import math
import os
import random
from pathlib import Path

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.eval import parse_measures
from cribble.eval.agreement import (
    agreement,
    cohen_kappa,
    kendall_tau,
    krippendorff_alpha,
    paired_labels,
    rank_biased_overlap,
    system_agreement,
    tau_ap,
)
from cribble.records import Qrels, Run

DATA = Path(os.environ.get("CRIBBLE_DATA", ""))


def two_judges(seed, count=300, labels=(0, 1, 2, 3)):
    rng = np.random.default_rng(seed)
    first = rng.choice(labels, count)
    return first, np.where(rng.random(count) < 0.5, first, rng.choice(labels, count))


# ---- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_kappa_equals_scikit_learns(weights):
    """Oracle: sklearn.metrics.cohen_kappa_score, 1e-12; labels with gaps, and one that only one judge uses."""
    metrics = pytest.importorskip("sklearn.metrics")
    for seed, labels in itertools.product(range(5), [(0, 1, 2, 3), (-2, 0, 7), (0, 1)]):
        first, second = two_judges(seed, labels=labels)
        second[0] = 9
        wanted = metrics.cohen_kappa_score(first, second, weights=None if weights == "none" else weights)
        assert cohen_kappa(first, second, weights=weights) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval", "ratio"])
def test_alpha_equals_krippendorffs(level):
    """Oracle: the package krippendorff >= 0.7, 1e-12, five judges with gaps."""
    package = pytest.importorskip("krippendorff")
    rng = np.random.default_rng(1)
    for labels in ([0, 1, 2, 3], [1, 2, 5], [0, 1]):
        values = rng.choice(np.array(labels, float), (5, 60))
        values[1:][rng.random((4, 60)) < 0.4] = values[0][None].repeat(4, 0)[rng.random((4, 60)) < 0.4][:1]
        values[rng.random((5, 60)) < 0.3] = np.nan
        values[1:, 7] = np.nan  # a unit with one label at most
        wanted = package.alpha(reliability_data=values, level_of_measurement=level)
        assert krippendorff_alpha(values, level=level) == pytest.approx(wanted, abs=1e-12)


def test_what_does_not_exist_is_none():
    same = np.ones(5, int)
    assert cohen_kappa(same, same) is None
    assert krippendorff_alpha(np.stack([same, same])) is None
    assert cohen_kappa(np.array([0, 1]), np.array([1, 1])) == 0.0
    assert kendall_tau([1.0], [1.0]) is kendall_tau([1, 1], [1, 2]) is None
    assert tau_ap([1.0], [1.0]) is tau_ap([1, 1], [1, 2]) is None


def test_pairs_and_what_does_not_meet():
    first = Qrels.from_dict({"q": {"a": 5, "b": 0, "c": 1}, "r": {"a": -1}})
    second = Qrels.from_dict({"q": {"a": 3, "b": 1, "z": 2}, "r": {"a": 0}})
    labels = paired_labels(first, second, scale=(0, 3))
    assert labels.counts == {"pairs": 3, "only_first": 1, "only_second": 1, "clamped": 2}
    assert (labels.first.tolist(), labels.second.tolist()) == ([3, 0, 0], [3, 1, 0])
    assert paired_labels(first, second).first.tolist() == [5, 0, -1]
    found = agreement(labels)
    assert found.raw == 2 / 3
    assert set(found.cuts) == {1, 3}
    assert found.confusion == {(0, 0): 1, (0, 1): 1, (3, 3): 1}
    with pytest.raises(InputError, match="have no judged pair in common"):
        paired_labels(first, Qrels.from_dict({"x": {"a": 1}}))


@pytest.mark.parametrize(
    "call",
    [
        lambda: cohen_kappa(np.ones(3), np.ones(4)),
        lambda: cohen_kappa(np.ones(3), np.ones(3), weights="cubic"),
        lambda: krippendorff_alpha(np.ones(3)),
        lambda: krippendorff_alpha(np.ones((2, 3)), level="cardinal"),
        lambda: krippendorff_alpha(np.array([[1.0, np.nan], [np.nan, 1.0]])),
        lambda: kendall_tau([1, 2], [1, 2], variant="c"),
        lambda: kendall_tau([1, 2], [1, 2, 3]),
        lambda: rank_biased_overlap(["a", "a"], ["a"]),
        lambda: rank_biased_overlap([], ["a"]),
        lambda: rank_biased_overlap(["a"], ["a"], p=1.0),
        lambda: system_agreement({"a": Run.from_dict({})}, Qrels.from_dict({}), Qrels.from_dict({}), []),
    ],
)
def test_wrong_arguments(call):
    with pytest.raises(UsageError):
        call()


# ---- rankings ---------------------------------------------------------------------------------------------------------


def test_kendalls_tau_equals_scipys():
    """Oracle: scipy.stats.kendalltau variant b, with and without ties, 1e-12; a equals it where nothing is tied."""
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for n, tied in itertools.product([2, 5, 30], [False, True]):
        for _ in range(5):
            first, second = (rng.integers(0, 5, n).astype(float) if tied else rng.random(n) for _ in range(2))
            wanted = stats.kendalltau(first, second).statistic
            ours = kendall_tau(first, second)
            assert (ours is None and math.isnan(wanted)) or ours == pytest.approx(wanted, abs=1e-12)
            if not tied:
                assert kendall_tau(first, second, variant="a") == pytest.approx(ours, abs=1e-12)


def test_tau_ap_by_its_definition():
    rng = random.Random(2)
    for n in (2, 3, 10, 25):
        tested, reference = rng.sample(range(1000), n), rng.sample(range(1000), n)
        order = sorted(range(n), key=lambda i: -tested[i])
        total = 0.0
        for i in range(1, n):
            total += sum(reference[above] > reference[order[i]] for above in order[:i]) / i
        assert tau_ap(tested, reference) == pytest.approx(2 * total / (n - 1) - 1, abs=1e-12)
    assert tau_ap([3, 2, 1], [3, 2, 1]) == 1
    assert tau_ap([3, 2, 1], [1, 2, 3]) == -1
    # A swap at the top costs more than one at the bottom; τ does not see the difference.
    top, bottom = [3, 4, 2, 1], [4, 3, 1, 2]
    assert tau_ap(top, [4, 3, 2, 1]) < tau_ap(bottom, [4, 3, 2, 1])
    assert kendall_tau(top, [4, 3, 2, 1]) == kendall_tau(bottom, [4, 3, 2, 1])


def overlap_sum(first, second, p, depth=1500):
    total = 0.0
    seen: tuple[set, set] = (set(), set())
    shared = 0
    for d in range(1, depth + 1):
        for own, other, ranking in ((0, 1, first), (1, 0, second)):
            item = ranking[d - 1]
            seen[own].add(item)
            shared += item in seen[other]
        total += (1 - p) * p ** (d - 1) * shared / d
    return total


@pytest.mark.parametrize("p", [0.5, 0.9, 0.98])
def test_rank_biased_overlap_by_its_definition(p):
    """The infinite sum, by brute force to depth 1,500: the lists continued by strangers give the least value, continued
    by what the other has and then alike the most. Tolerance 1e-9."""
    rng = random.Random(4)
    items = [f"i{n}" for n in range(30)]
    for _ in range(12):
        first, second = (rng.sample(items, rng.randint(1, 20)) for _ in range(2))
        found = rank_biased_overlap(first, second, p)
        strangers = ([f"x{n}" for n in range(1500)], [f"y{n}" for n in range(1500)])
        assert found.least == pytest.approx(overlap_sum(first + strangers[0], second + strangers[1], p), abs=1e-9)
        missing = [[i for i in b if i not in a] for a, b in ((first, second), (second, first))]
        alike = [f"z{n}" for n in range(1500)]
        most = overlap_sum(first + missing[0] + alike, second + missing[1] + alike, p)
        assert found.least + found.residual == pytest.approx(most, abs=1e-9)
        assert found.least - 1e-12 <= found.extrapolated <= found.least + found.residual + 1e-12
        assert rank_biased_overlap(second, first, p) == found


def test_rank_biased_overlap_equals_the_package_rbo():
    """Golden values of `rbo_ext` of PyPI's rbo 0.1.3, made on 2026-11-29, and equal lists; 1e-9."""
    assert rank_biased_overlap(list("abcdefg"), list("abcdefg"), 0.9).extrapolated == pytest.approx(1.0, abs=1e-12)
    for first, second, p, wanted in RBO:
        assert rank_biased_overlap(list(first), list(second), p).extrapolated == pytest.approx(wanted, abs=1e-9)


RBO = [
    ("jfecig", "afihbcekl", 0.98, 0.579478487142133),
    ("lhg", "cda", 0.5, 0.0),
    ("ijb", "gbedifhac", 0.8, 0.27201405968253967),
    ("efadji", "ghc", 0.5, 0.0),
    ("gbj", "bjd", 0.8, 0.5066666666666667),
    ("abcile", "jhi", 0.8, 0.09659733333333334),
]


# ---- LLMJudge 2024 ----------------------------------------------------------------------------------------------------

#: Published: four-grade κ (the challenge's paper), κ at >= 1, >= 2, >= 3 (recomputed by others), ordinal α (its notebook).
LLMJUDGE = {
    "willia-umbrela1": (0.2863, 0.4161, 0.3985, 0.3145, 0.4918),
    "willia-umbrela2": (0.2688, None, None, None, 0.4556),
    "willia-umbrela3": (0.2741, 0.4114, 0.3447, 0.3215, None),
    "h2oloo-fewself": (0.2774, 0.4172, 0.4280, 0.3048, 0.4958),
    "h2oloo-zeroshot1": (0.2817, None, None, None, 0.4812),
    "h2oloo-zeroshot2": (0.2589, None, None, None, None),
    "Olz-gpt4o": (0.2625, 0.4228, None, None, None),
    "NISTRetrieval-instruct0": (0.1877, None, None, 0.0, None),
    "TREMA-4prompts": (0.1829, None, None, None, None),
    "prophet-setting2": (0.1757, None, None, None, None),
    "TREMA-nuggets": (0.0604, None, None, None, None),
    "TREMA-rubric0": (0.0779, None, None, None, None),
    "Olz-exp": (0.2519, None, None, None, None),
    "RMITIR-GPT4o": (0.2388, None, None, None, None),
}


def llmjudge(name="qrels/test.tsv"):
    path = DATA / "llmjudge-2024" / name
    if not path.is_file():
        pytest.skip("CRIBBLE_DATA does not hold llmjudge-2024")
    return Qrels.read(path)


@pytest.mark.real
@pytest.mark.parametrize("name", LLMJUDGE)
def test_published_agreement_of_llm_judges(name):
    """From the label files of 4,423 pairs, to the four decimals that are published. Labels are clamped to 0–3."""
    found = agreement(paired_labels(llmjudge(), llmjudge(f"llm-labels/{name}.txt.gz"), scale=(0, 3)))
    assert found.counts == {"pairs": 4423, "only_first": 0, "only_second": 0, "clamped": name.endswith("zeroshot2") * 1}
    wanted = LLMJUDGE[name]
    values = (found.kappa, found.cuts[1], found.cuts[2], found.cuts[3], found.alpha)
    for value, published in zip(values, wanted, strict=True):
        assert published is None or value == pytest.approx(published, abs=5.1e-5)


@pytest.mark.real
def test_the_agreement_of_all_judges_at_once():
    """Ordinal α of 34 judges, against the package; 1e-12."""
    package = pytest.importorskip("krippendorff")
    human = llmjudge()
    files = sorted((DATA / "llmjudge-2024" / "llm-labels").glob("*.gz"))
    rows = []
    for path in files:
        with gzip.open(path, "rt") as stream:
            own = {(q, d): int(label) for q, _, d, label in map(str.split, stream)}
        rows.append([min(max(own.get((q, d), -1), 0), 3) if (q, d) in own else np.nan for q in human for d in human[q]])
    rows.append([label for q in human for label in human[q].values()])
    wanted = package.alpha(reliability_data=np.array(rows), level_of_measurement="ordinal")
    assert len(rows) == 34
    assert krippendorff_alpha(np.array(rows)) == pytest.approx(wanted, abs=1e-12)


def test_systems_ranked_by_two_judges():
    """Three runs; the second judge turns the best two round: τ (2 - 1) / 3, τ_AP by hand, one place lost."""
    runs = {
        name: Run.from_dict({"q": {d: 1.0}, "x": {"a": 1.0}})
        for name, d in (("one", "a"), ("two", "b"), ("three", "c"))
    }
    first = Qrels.from_dict({"q": {"a": 3, "b": 2, "c": 0}, "only first": {"a": 1}})
    second = Qrels.from_dict({"q": {"a": 2, "b": 3, "c": 0}})
    (found,) = system_agreement(runs, first, second, parse_measures("nDCG@10"))
    assert found.tau == pytest.approx(1 / 3)
    assert found.tau_ap == pytest.approx(2 * ((0 / 1 + 2 / 2) / 2) - 1)
    assert found.largest_drop == 1
    assert 0 < found.overlap.extrapolated < 1
    assert found.to_dict()["systems"] == 3
    assert [round(a, 4) for a, _ in found.scores.values()] == [0.7039, 0.4693, 0.0]
