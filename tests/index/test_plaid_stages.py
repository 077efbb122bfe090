"""PLAID's stages and WARP's estimate against both written out in float64: the same documents, scores to 1e-5 a query token."""

from __future__ import annotations

import numpy as np
import pytest
from cribble.errors import UsageError
from cribble.index.plaid_kernels import best_centroids
from cribble.index.plaid_parameters import Probing, Stages, checked_parameters
from cribble.index.plaid_stages import staged
from cribble.index.plaid_warp import estimated
from cribble.tests.index.plaid_oracle import decoded, exhaustive, made, ordered, plaid_by_hand, queries, warp_by_hand

SHAPES = [(16, 2), (8, 1), (24, 4), (5, 8), (11, 2), (40, 1)]


def best(index, query, rows, values, k):
    return ordered(index, dict(zip(rows.tolist(), values.tolist(), strict=True)))[:k]


def assert_same(found, expected, terms):
    assert [i for i, _ in found] == [i for i, _ in expected]
    assert [s for _, s in found] == pytest.approx([s for _, s in expected], abs=1e-5 * max(1, terms))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("findable", [None, 0.5])
def test_the_stages(seed, findable):
    dim, bits = SHAPES[seed % len(SHAPES)]
    index = made(seed, dim=dim, bits=bits)
    rng = np.random.default_rng(seed)
    rows = None if findable is None else np.flatnonzero(rng.random(index.documents) < findable)
    allowed = [i for i in (range(index.documents) if rows is None else rows.tolist()) if len(index.codes[i])]
    for query in queries(seed, index):
        for k, ncells, threshold, ndocs in [
            (1, 1, 0.5, 4),
            (5, 1, 0.3, 20),
            (5, 2, 0.6, 8),
            (20, 3, 0.99, 30),
            (3, 24, -9, 7),
        ]:
            stages = Stages.of({"ncells": ncells, "threshold": threshold, "ndocs": ndocs}, k)
            found = staged(query, index.tokens, index.postings, index.ranks, stages, np.array(allowed))
            expected = plaid_by_hand(index, query, k, ncells=ncells, threshold=threshold, ndocs=ndocs, findable=allowed)
            assert_same(best(index, query, *found, k), expected, len(query))


@pytest.mark.parametrize("seed", range(6))
def test_all_centroids_and_documents_are_an_exhaustive_search(seed):
    dim, bits = SHAPES[seed % len(SHAPES)]
    index = made(seed, dim=dim, bits=bits)
    for query in queries(seed, index):
        filled = np.flatnonzero(index.tokens.filled)
        stages = Stages.of({"ncells": 24, "threshold": -1.0, "ndocs": 4 * index.documents}, 10)
        rows, values = staged(query, index.tokens, index.postings, index.ranks, stages, filled)
        assert_same(best(index, query, rows, values, 10), exhaustive(index, query, 10), len(query))
        assert_same(
            best(index, query, filled, index.tokens.maxsim(query, filled), 500),
            exhaustive(index, query, 500),
            len(query),
        )


@pytest.mark.parametrize("seed", range(6))
def test_warp(seed):
    dim, bits = SHAPES[seed % len(SHAPES)]
    index = made(seed, dim=dim, bits=bits)
    for number, query in enumerate(queries(seed, index)):
        allowed = None if number % 2 else [i for i in range(index.documents) if (i + seed) % 3 and len(index.codes[i])]
        every = np.array(allowed) if allowed is not None else np.flatnonzero(index.tokens.filled)
        for nprobe, t_prime, bound in [(1, 0, 1), (2, 30, 24), (5, 200, 7), (24, 10**6, 24)]:
            found = estimated(query, index.tokens, index.postings, Probing(nprobe, t_prime, bound), every)
            expected = warp_by_hand(index, query, 50, nprobe=nprobe, t_prime=t_prime, bound=bound, findable=allowed)
            assert_same(best(index, query, *found, 50), expected, len(query))


def test_warp_over_more_documents_than_are_added_up_at_once():
    index = made(8, documents=2100, shards=1)
    [query] = queries(8, index, 1)
    every = np.flatnonzero(index.tokens.filled)
    found = estimated(query, index.tokens, index.postings, Probing(6, 900, 24), every)
    expected = warp_by_hand(index, query, 300, nprobe=6, t_prime=900, bound=24)
    assert len(found[0]) > 1024
    assert [s for _, s in best(index, query, *found, 300)] == pytest.approx([s for _, s in expected], abs=1e-4)


def test_more_query_tokens_than_a_tile_has_columns():
    index = made(3)
    query = np.concatenate(queries(3, index, 20))
    assert len(query) > 64
    stages = Stages.of({"ncells": 1, "threshold": 0.4, "ndocs": 8}, 2)
    filled = np.flatnonzero(index.tokens.filled)
    found = staged(query, index.tokens, index.postings, index.ranks, stages, filled)
    expected = plaid_by_hand(index, query, 2, ncells=1, threshold=0.4, ndocs=8)
    assert_same(best(index, query, *found, 2), expected, len(query))


@pytest.mark.parametrize("seed", range(3))
def test_cells_that_are_not_given_are_enough(seed):
    """As with as many cells, of 1, 2, 4, …, as give the candidates by hand."""
    index = made(seed)
    filled = np.flatnonzero(index.tokens.filled)
    for query in queries(seed, index):
        query = query[:1]
        order = np.argsort(-(query @ index.tokens.codec.centroids.T)[0])
        for least in (1, 15, 40, 80):
            needed = next(
                n for n in (1, 2, 4, 8, 16, 32) if sum(bool({*order[:n]} & {*own}) for own in index.codes) >= least
            )
            narrow = staged(query, index.tokens, index.postings, index.ranks, Stages(1, 0.4, 10, 5, least), filled)
            wide = staged(query, index.tokens, index.postings, index.ranks, Stages(needed, 0.4, 10, 5), filled)
            assert narrow[0].tolist() == wide[0].tolist()
            assert narrow[1].tolist() == wide[1].tolist()


def test_documents_without_a_kept_centroid_come_last():
    """Also after those whose sums are negative, in the order of their ranks."""
    index = made(5)
    scores = np.full((24, 16), -0.5, np.float32)
    scores[0, 0] = 0.9
    kept = np.zeros(24, np.uint8)
    kept[0] = 1
    rows = np.flatnonzero(index.tokens.filled)
    sums = index.tokens.centroid_sums(rows, scores, 3, kept)
    having = np.array([0 in index.codes[row] for row in rows])
    assert having.any()
    assert sums[having] == pytest.approx(-0.1)
    assert (sums[~having] == sums[~having][0]).all()
    assert sums[~having].max() < sums[having].min()


def test_decoded_tokens_of_any_rows():
    index = made(4, bits=4)
    rows = np.arange(0, index.documents, 3)
    vectors = index.tokens.vectors(rows)
    assert len(vectors) == len(rows)
    for place, row in enumerate(rows):
        np.testing.assert_allclose(vectors[place], decoded(index, row).reshape(-1, 16), atol=1e-6)
    assert len(index.tokens.vectors(np.zeros(0, np.int64))) == 0


def test_the_best_centroids_are_those_of_a_sort():
    rng = np.random.default_rng(0)
    for centroids, terms, count in [(1, 1, 1), (70, 3, 5), (300, 33, 64), (64, 2, 64)]:
        scores = rng.integers(-9, 9, (centroids, terms)).astype(np.float32)  # many are equal
        cells, values = np.empty((terms, count), np.int32), np.empty((terms, count), np.float32)
        best_centroids(scores, cells, values)
        expected = np.argsort(-scores.T, axis=1, kind="stable")[:, :count]
        np.testing.assert_array_equal(cells, expected)
        np.testing.assert_array_equal(values, np.take_along_axis(scores.T, expected, 1))


def test_parameters_by_k():
    """Stanford's searcher.py, as the specification card has it, but for more cells and documents; `ndocs` can always give k documents."""
    assert Stages.of({}, 10) == Stages(4, 0.5, 512, 128, least=10)
    assert Stages.of({}, 11) == Stages(8, 0.45, 2048, 512, least=11)
    assert Stages.of({}, 100) == Stages(8, 0.45, 2048, 512, least=100)
    assert Stages.of({}, 101) == Stages(8, 0.4, 4096, 1024, least=101)
    assert Stages.of({}, 2000) == Stages(8, 0.4, 16000, 4000, least=2000)
    assert Stages.of({"ndocs": 5, "ncells": 7, "threshold": 0}, 50) == Stages(7, 0, 50, 50)
    assert Probing.of({}, 20_000_000, 1 << 16) == Probing(32, 12_000, 128)
    assert Probing.of({}, 2_000, 8) == Probing(8, 4_000, 8)
    assert Probing.of({}, 600_000_000, 1 << 18) == Probing(32, 50_000, 128)
    assert Probing.of({"nprobe": 200, "t_prime": 7}, 2_000, 1 << 10) == Probing(200, 7, 200)


def test_parameters_that_are_refused():
    for mode, given, message in [
        ("plaids", {}, "mode 'plaids' is unknown: did you mean 'plaid'"),
        ("plaid", {"nprobe": 3}, "nprobe has no effect in mode plaid: it is of mode warp"),
        ("warp", {"ndocs": 3}, "ndocs has no effect in mode warp: it is of mode plaid"),
        ("exhaustive", {"t_prime": 3}, "t_prime has no effect in mode exhaustive"),
        ("plaid", {"ncell": 3}, "ncell has no effect in mode plaid: did you mean 'ncells'"),
        ("plaid", {"ncells": 0}, "ncells is 0, expected a whole number, at least 1"),
        ("plaid", {"ndocs": 2.5}, "ndocs is 2.5, expected a whole number"),
        ("plaid", {"threshold": float("nan")}, "threshold is nan, expected a number"),
        ("warp", {"nprobe": True}, "nprobe is True"),
        ("warp", {"t_prime": -1}, "t_prime is -1, expected a whole number, at least 0"),
    ]:
        with pytest.raises(UsageError, match=message):
            checked_parameters(mode, given)
    assert checked_parameters("plaid", {"ncells": None, "ndocs": 3}) == {"ndocs": 3}
