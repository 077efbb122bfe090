"""Intervals and tests against scipy, statsmodels and obvious loops; the tolerance is 1e-9 unless a test says why not."""

import itertools
import json
import math
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from cribble.errors import UsageError
from cribble.eval import compare, evaluate
from cribble.eval.significance import bootstrap, effect_size, holm, paired_t, randomisation
from cribble.records import Qrels, Run

TOLERANCE = 1e-9


def samples(seed: int, n: int) -> np.ndarray:
    """Differences as evaluations give them: many zeros, equal steps, some spread."""
    rng = np.random.default_rng(seed)
    kind = seed % 3
    if kind == 0:
        return rng.normal(0.05, 0.3, n)
    if kind == 1:
        return rng.choice([-0.5, 0.0, 0.0, 0.0, 0.25, 1.0], n)
    return rng.integers(-3, 5, n) / 10


# ---- paired t -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 10, 50, 1000])
def test_paired_t(n):
    from scipy.stats import ttest_rel

    compared = 0
    for seed in range(30):
        differences = samples(seed, n)
        if np.ptp(differences) == 0:
            continue
        baseline = np.random.default_rng(seed).random(n)
        oracle = ttest_rel(baseline + differences, baseline)
        ours = paired_t(baseline + differences - baseline)
        assert ours.t == pytest.approx(oracle.statistic, rel=TOLERANCE, abs=TOLERANCE)
        assert ours.p == pytest.approx(oracle.pvalue, abs=TOLERANCE)
        assert ours.df == oracle.df == n - 1
        compared += 1
    assert compared >= 20


@pytest.mark.parametrize("differences", [[0.0] * 5, [0.1] * 5, [0.3 - 0.2, 0.1, 0.4 - 0.3], [0.5]])
def test_without_variance_there_is_no_t(differences):
    ours = paired_t(np.array(differences))
    assert (ours.t, ours.p, ours.df) == (None, None, len(differences) - 1)
    assert effect_size(np.array(differences)) is None


# ---- randomisation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 3, 5, 8, 11])
def test_exact_randomisation(n):
    from scipy.stats import permutation_test

    for seed in range(6):
        differences = samples(seed, n)
        oracle = permutation_test(
            (differences, np.zeros(n)),
            lambda x, y, axis: np.sum(x - y, axis=axis),
            permutation_type="samples",
            n_resamples=math.inf,
            vectorized=True,
        )
        assert randomisation(differences)[0] == pytest.approx(oracle.pvalue, abs=TOLERANCE)


def test_exact_randomisation_in_fractions():
    """Every sign pattern, summed without rounding: 0.1 + 0.2 - 0.3 is a tie and must count."""
    for tenths in ([1, 2, -3, 5, 0, 4], [1, 1, 1, 1, 1, 1, 1], [3, -3, 3], [7], [0, 0]):
        exact = [Fraction(tenth, 10) for tenth in tenths]
        sums = [
            abs(sum(sign * value for sign, value in zip(signs, exact, strict=True)))
            for signs in itertools.product([1, -1], repeat=len(exact))
        ]
        wanted = sum(value >= abs(sum(exact)) for value in sums) / len(sums)
        assert randomisation(np.array(tenths) / 10)[0] == pytest.approx(wanted, abs=TOLERANCE)


@pytest.mark.parametrize("n", [12, 64, 65, 130])
def test_drawn_randomisation_is_the_loop(n):
    """The same draws, one sign at a time; whole 64-bit words, so that the last one is used in part."""
    differences, permutations = samples(2, n), 499
    rng = np.random.default_rng(7)
    words = rng.integers(0, 1 << 64, (permutations, -(-n // 64)), np.uint64).tolist()
    extreme = 0
    for row in words:
        signs = [1 if row[i // 64] >> (i % 64) & 1 else -1 for i in range(n)]
        tenths = [round(10 * value) for value in differences]
        extreme += abs(sum(s * t for s, t in zip(signs, tenths, strict=True))) >= abs(sum(tenths))
    p = randomisation(differences, permutations=permutations, seed=7)[0]
    assert p == pytest.approx((1 + extreme) / (permutations + 1), abs=TOLERANCE)


def test_drawn_p_is_near_the_exact_one():
    """Within four standard errors of the exact p; the draws are fixed by the seed."""
    for seed in range(6):
        differences = samples(seed, 14)
        exact = randomisation(differences, permutations=1 << 14)[0]
        drawn = randomisation(differences, permutations=(1 << 14) - 1)[0]
        assert drawn != exact or exact == 1
        assert abs(drawn - exact) <= 4 * math.sqrt(exact * (1 - exact) / (1 << 14)) + 2**-14


def test_drawn_p_is_never_zero():
    assert randomisation(np.full(200, 0.5), permutations=999)[0] == 1 / 1000
    assert randomisation(np.zeros(200), permutations=999)[0] == 1.0


def test_columns_share_their_flips():
    differences = samples(0, 40)
    together = randomisation(np.column_stack([differences, -differences, 3 * differences]), permutations=2000)
    assert len(set(together)) == 1
    assert randomisation(differences, permutations=2000) == together[:1]


# ---- Holm, effect size --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 10, 60])
def test_holm(count):
    from statsmodels.stats.multitest import multipletests

    for seed in range(6):  # statsmodels takes a tenth of a second a call
        rng = np.random.default_rng(seed)
        p_values = rng.random(count) ** 4
        if seed % 2:  # equal ones, as randomisation gives them
            p_values = np.maximum(np.round(p_values, 2), 1e-5)
        assert np.abs(np.array(holm(p_values)) - multipletests(p_values, method="holm")[1]).max() <= TOLERANCE
    assert holm([]) == []


def test_effect_size():
    differences = np.array([0.1, 0.2, 0.3, 0.4])
    size = 0.25 / math.sqrt(sum((d - 0.25) ** 2 for d in (0.1, 0.2, 0.3, 0.4)) / 3)
    assert effect_size(differences) == pytest.approx(size, abs=TOLERANCE)
    assert effect_size(-differences) == pytest.approx(-size, abs=TOLERANCE)
    assert effect_size(differences, hedges=True) == pytest.approx(size * (1 - 3 / 11), abs=TOLERANCE)
    assert effect_size(differences) == pytest.approx(paired_t(differences).t / 2, abs=TOLERANCE)


# ---- bootstrap ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "confidence"), [(2, 0.95), (17, 0.9), (300, 0.99)])
def test_bootstrap_is_scipys(n, confidence):
    from scipy import stats

    for seed in range(3):
        values = np.random.default_rng(seed).random(n)
        oracle = stats.bootstrap(
            (values,),
            np.mean,
            n_resamples=999,
            confidence_level=confidence,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        ours = bootstrap(values, confidence=confidence, resamples=999, seed=seed)[0]
        assert ours == pytest.approx((oracle.low, oracle.high), abs=TOLERANCE)


def test_bootstrap_is_the_loop():
    values = np.random.default_rng(1).random((23, 2))
    rng = np.random.default_rng(9)
    drawn = rng.integers(0, 23, (500, 23))
    means = [[sum(values[i, m] for i in row) / 23 for m in range(2)] for row in drawn.tolist()]
    for interval, column in zip(bootstrap(values, resamples=500, seed=9), np.array(means).T, strict=True):
        assert interval == pytest.approx(np.percentile(column, [2.5, 97.5]), abs=TOLERANCE)


def test_bootstrap_covers():
    """Of 400 samples from a known distribution, about 95 % of the intervals hold its mean (a seed, so no chance)."""
    rng = np.random.default_rng(3)
    held = 0
    for seed in range(400):
        low, high = bootstrap(rng.beta(2, 3, 80), resamples=400, seed=seed)[0]
        held += low <= 0.4 <= high
    assert 0.91 <= held / 400 <= 0.98


def test_bootstrap_of_equal_values():
    assert bootstrap(np.full(9, 0.25))[0] == (0.25, 0.25)
    assert bootstrap(np.array([0.7]))[0] == (0.7, 0.7)


def test_seeds():
    values = np.random.default_rng(0).random(60)
    assert bootstrap(values, seed=1) == bootstrap(values, seed=1)
    assert bootstrap(values, seed=1) != bootstrap(values, seed=2)
    centred = values - 0.55
    assert randomisation(centred, seed=1) == randomisation(centred, seed=1)
    assert randomisation(centred, seed=1) != randomisation(centred, seed=2)


def test_blocks_do_not_change_the_draws(monkeypatch):
    values = np.random.default_rng(0).normal(0.03, 0.2, (70, 2))
    whole = bootstrap(values, resamples=700), randomisation(values, permutations=700)
    monkeypatch.setattr("cribble.eval.significance._BLOCK", 1000)
    assert np.abs(np.array(bootstrap(values, resamples=700)) - np.array(whole[0])).max() <= 1e-15
    assert randomisation(values, permutations=700) == whole[1]


def test_threads_do_not_change_the_results():
    """p exactly; intervals to 1e-12, the rounding of a matrix product that is split over threads."""
    code = (
        "import numpy as np; from cribble.eval.significance import *; v = np.random.default_rng(0).normal(.02, .2, (300, 4));"
        "print([p.hex() for p in randomisation(v, permutations=20000)]); print([list(i) for i in bootstrap(v)])"
    )
    told = []
    for threads in ("1", "2"):
        names = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        shown = subprocess.run(
            [sys.executable, "-c", code], env=os.environ | names, cwd="/", capture_output=True, text=True, check=True
        )
        told.append(shown.stdout.splitlines())
    assert told[0][0] == told[1][0]
    first, second = (np.array(json.loads(lines[1])) for lines in told)
    assert np.abs(first - second).max() <= 1e-12


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: bootstrap(np.zeros((0, 2))), "no query is given"),
        (lambda: randomisation(np.array([0.1, math.nan])), "not finite"),
        (lambda: bootstrap(np.ones(3), confidence=95), "confidence=95: expected a share"),
        (lambda: bootstrap(np.ones(3), resamples=0), "resamples=0"),
        (lambda: randomisation(np.ones(3), permutations=0), "permutations=0"),
    ],
)
def test_wrong_arguments(call, told):
    with pytest.raises(UsageError, match=told):
        call()


# ---- compare ------------------------------------------------------------------------------------------------------------


def runs_and_qrels(queries: int = 30) -> tuple[dict[str, Run], Qrels]:
    rng = np.random.default_rng(4)
    qrels = {f"q{i}": {f"d{j}": max(0, int(rng.integers(-5, 3))) for j in range(12)} for i in range(queries)}
    runs = {}
    for name, noise in (("good", 0.3), ("fair", 1.2), ("bad", 5.0)):
        scores = {q: {d: label + noise * float(rng.normal()) for d, label in row.items()} for q, row in qrels.items()}
        runs[name] = Run.from_dict(scores, name=name)
    return runs, Qrels.from_dict(qrels)


QUICK = {"resamples": 500, "permutations": 2000}


def test_compare_with_a_baseline():
    from scipy.stats import ttest_rel
    from statsmodels.stats.multitest import multipletests

    runs, qrels = runs_and_qrels()
    found = compare(runs, qrels, "nDCG@5 RR NumRet", baseline="fair", **QUICK)
    assert [(d.run, d.baseline, d.measure) for d in found.differences] == [
        ("good", "fair", "nDCG@5"),
        ("bad", "fair", "nDCG@5"),
        ("good", "fair", "RR"),
        ("bad", "fair", "RR"),
    ]
    assert found.family == "Holm over all 4 tests: 2 comparisons of runs × 2 measures (nDCG@5, RR)"
    values = {name: evaluate(run, qrels, "nDCG@5 RR") for name, run in runs.items()}
    for d in found.differences:
        ours, theirs = values[d.run][d.measure], values["fair"][d.measure]
        assert d.mean == pytest.approx(ours.mean() - theirs.mean(), abs=TOLERANCE)
        assert d.t == pytest.approx(ttest_rel(ours, theirs).statistic, abs=TOLERANCE)
        assert d.p_t == pytest.approx(ttest_rel(ours, theirs).pvalue, abs=TOLERANCE)
        assert d.interval.low <= d.mean <= d.interval.high
        assert (d.wins, d.losses) == (int((ours > theirs).sum()), int((ours < theirs).sum()))
        assert d.wins + d.ties + d.losses == 30
        assert d.p_randomisation == randomisation(ours - theirs, permutations=2000)[0]
    for raw, corrected in (("p_t", "holm_t"), ("p_randomisation", "holm_randomisation")):
        oracle = multipletests([getattr(d, raw) for d in found.differences], method="holm")[1]
        assert [getattr(d, corrected) for d in found.differences] == pytest.approx(oracle, abs=TOLERANCE)
    assert found.find("good", "nDCG@5").mean > 0 > found.find("bad", "nDCG@5").mean
    assert found.find("good", "AP") is None
    assert found.to_dict()["differences"][0]["interval"] == list(found.differences[0].interval)


def test_compare_every_pair_and_families():
    from statsmodels.stats.multitest import multipletests

    runs, qrels = runs_and_qrels()
    evaluations = [evaluate(run, qrels, "nDCG@5 RR") for run in runs.values()]
    found = compare(evaluations, family="measure", **QUICK)
    pairs = [("fair", "good"), ("bad", "good"), ("bad", "fair")]
    assert [(d.run, d.baseline) for d in found.differences] == pairs * 2
    assert found.family == "Holm over the 3 comparisons of runs of each measure (nDCG@5, RR)"
    for start in (0, 3):
        part = found.differences[start : start + 3]
        oracle = multipletests([d.p_t for d in part], method="holm")[1]
        assert [d.holm_t for d in part] == pytest.approx(oracle, abs=TOLERANCE)
    assert found.find("bad", "RR", "fair").baseline == "fair"
    over_all = compare(evaluations, family="all", **QUICK)
    assert max(d.holm_t for d in over_all.differences) >= max(d.holm_t for d in found.differences)
    assert any(a.holm_t > b.holm_t for a, b in zip(over_all.differences, found.differences, strict=True))


def test_what_cannot_be_tested_is_said():
    """Equal runs, a constant gain, one query: None and a note, never NaN; such tests do not count in the family."""
    qrels = {f"q{i}": {"a": 1} for i in range(4)}
    first = {f"q{i}": {"a": 2.0, "b": 1.0} for i in range(4)}
    second = {f"q{i}": {"a": 1.0, "b": 2.0} for i in range(4)}
    mixed = second | {"q0": first["q0"]}
    found = compare({"first": first, "twin": first, "second": second, "mixed": mixed}, qrels, "RR", baseline="first")
    twin, constant, partly = found.differences
    assert twin.note == "equal on every query: no t-test and no effect size"
    assert constant.note == "every query differs by the same -0.5: no t-test and no effect size"
    assert partly.note == ""
    for d in (twin, constant):
        assert (d.t, d.p_t, d.holm_t, d.effect) == (None, None, None, None)
    assert (twin.p_randomisation, constant.p_randomisation) == (1.0, 2 / 16)
    assert constant.interval == (-0.5, -0.5)
    assert partly.holm_t == partly.p_t
    assert partly.holm_randomisation > partly.p_randomisation
    single = compare({"a": {"q": {"x": 1.0}}, "b": {"q": {"y": 1.0}}}, {"q": {"x": 1}}, "RR").differences[0]
    assert single.note == "one query only: no t-test and no effect size"
    assert (single.t, single.p_randomisation) == (None, 1.0)


def test_only_noise_is_equal_to_zero():
    assert paired_t(np.array([0.3 - 0.2, 0.2 - 0.1, 0.1])).t is None
    assert paired_t(np.array([0.1, 0.1, 0.1 + 1e-9])).t is not None


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda runs, qrels: compare(runs, qrels, "RR", baseline="goood"), "baseline 'goood' .* did you mean 'good'"),
        (lambda runs, qrels: compare(runs, qrels, "RR", family="run"), "family='run'"),
        (lambda runs, qrels: compare(runs), "run 'good' is not evaluated yet"),
        (lambda runs, qrels: compare({}), "nothing to compare"),
        (lambda runs, qrels: compare([runs["good"], runs["good"]], qrels, "RR"), "two runs are called 'good'"),
        (
            lambda runs, qrels: compare(
                {"a": evaluate(runs["good"], qrels, "RR"), "b": evaluate(runs["bad"], qrels, "AP")}
            ),
            "not evaluated on the same queries with the same measures",
        ),
        (
            lambda runs, qrels: compare(
                {"a": evaluate(runs["good"], qrels, "RR"), "b": evaluate(runs["bad"], runs_and_qrels(5)[1], "RR")}
            ),
            "'a' \\(30 queries\\) and 'b' \\(5 queries\\)",
        ),
    ],
)
def test_compare_refuses(call, told):
    with pytest.raises(UsageError, match=told):
        call(*runs_and_qrels())


def test_measures_may_be_read_once():
    runs, qrels = runs_and_qrels()
    assert len(compare(runs, qrels, (name for name in ["RR", "AP"]), **QUICK).differences) == 6
