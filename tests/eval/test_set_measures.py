"""Precision, recall and F1 of returned sets, thresholds and PR-AUC, against scikit-learn and plain loops."""

import numpy as np
import pytest
from cribble.errors import InputError
from cribble.eval.set_measures import average_precision, best_threshold, set_measures


def pairs(seed, count=200, decimals=2):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=count).round(decimals)
    return scores, rng.random(count) < 1 / (1 + np.exp(2 - scores))


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_average_precision_equals_scikit_learns(decimals):
    """Oracle: sklearn.metrics.average_precision_score, 1e-12, with and without ties."""
    metrics = pytest.importorskip("sklearn.metrics")
    scores, relevant = pairs(3, decimals=decimals)
    assert average_precision(scores, relevant) == pytest.approx(
        metrics.average_precision_score(relevant, scores), abs=1e-12
    )
    assert average_precision(scores, np.zeros(len(scores), bool)) == 0


@pytest.mark.parametrize("seed", range(5))
def test_the_best_threshold_is_best_among_all(seed):
    scores, relevant = pairs(seed)
    total = int(relevant.sum()) + 7  # seven were not found

    def f1(threshold):
        kept = scores >= threshold
        return 2 * (kept & relevant).sum() / (kept.sum() + total)

    assert f1(best_threshold(scores, relevant, total)) == max(map(f1, scores))


def test_a_threshold_for_a_recall_is_the_highest_that_reaches_it():
    scores, relevant = pairs(1)
    total = int(relevant.sum())
    for recall in (0.2, 0.5, 0.9, 1.0):
        threshold = best_threshold(scores, relevant, total, recall)
        assert (relevant & (scores >= threshold)).sum() / total >= recall
        higher = scores[scores >= threshold].min()
        assert (relevant & (scores > higher)).sum() / total < recall
    with pytest.raises(InputError, match=r"hold 0\.500 of the relevant"):
        best_threshold(scores, relevant, 2 * total, 0.9)
    with pytest.raises(InputError, match="no candidate is relevant"):
        best_threshold(scores, np.zeros(len(scores), bool), 3)


def test_measures_of_sets_by_hand():
    """Three queries: two of three right and one missed; nothing returned for one wanted; nothing wanted, nothing given."""
    kept = np.array([1, 1, 1, 0, 0, 0, 0], bool)
    relevant = np.array([1, 1, 0, 0, 0, 0, 0], bool)
    got = set_measures(kept, relevant, np.array([0, 4, 5, 7]), np.array([3, 1, 0]))
    assert (got["precision"], got["recall"], got["f1"]) == pytest.approx((2 / 3, 2 / 4, 4 / 7))
    assert got["macro_precision"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert got["macro_recall"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert got["macro_f1"] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert (got["returned"], got["empty"], got["removed"]) == (1, 2, pytest.approx(4 / 7))
