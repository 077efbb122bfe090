"""Distances of packed codes: exactly the inner products of their values, and the best of them exactly, ties by id."""

from __future__ import annotations

import numpy as np
import pytest
from cribble.errors import UsageError
from cribble.index import sdc, sdc_torch
from cribble.index.binary_codes import decode, pack, unpack
from cribble.tests.index.binary_builds import best_rows, values_of
from hypothesis import given, settings
from hypothesis import strategies as st


def drawn(rng, count, width, planes):
    return pack(rng.integers(0, 1 << planes, (count, width)), planes)


def found(tiles, asked, k, rows=None, **options):
    """Rows of the best k in the order of the definition, and their scores."""
    answers = list(sdc.search(tiles, asked, k, ranks=lambda: np.arange(rows), **options))
    ordered = []
    for scores, numbers in answers:
        order = np.lexsort((-numbers, -scores))[:k]
        ordered.append((numbers[order].tolist(), scores[order]))
    return ordered


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 33).map(lambda n: 8 * n), st.integers(1, 4), st.integers(1, 9), st.integers(1, 30), st.integers(0, 99)
)  # fmt: skip
def test_the_distance_is_the_inner_product_of_the_values(width, planes, queries, count, seed):
    """Oracles: the float64 product of decoded values, and the identity in whole numbers of research card 1; no tolerance."""
    rng = np.random.default_rng(seed)
    asked, there = drawn(rng, queries, width, planes), drawn(rng, count, width, planes)
    products = sdc.inner_products(asked, there, width, planes)
    assert (products == values_of(asked, width, planes) @ values_of(there, width, planes).T).all()
    n, m = (unpack(codes, width, planes).astype(np.int64) for codes in (asked, there))
    top = 2**planes - 1
    whole = 4 * n @ m.T - 2 * top * (n.sum(1)[:, None] + m.sum(1)) + width * top**2
    assert (products == whole / 4 ** (planes - 1)).all()
    norms = np.linalg.norm(values_of(there, width, planes), axis=1)
    assert sdc.norms(there, width, planes) == pytest.approx(norms, rel=1e-14)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20).map(lambda n: 8 * n), st.integers(1, 8), st.integers(1, 4), st.integers(0, 99))
def test_queries_may_be_finer_than_documents(width, finer, planes, seed):
    rng = np.random.default_rng(seed)
    asked, there = drawn(rng, 5, width, finer), drawn(rng, 21, width, planes)
    tiles = sdc.make_tiles(there, np.arange(21), width, planes, cosine=False)
    scores = values_of(asked, width, finer) @ values_of(there, width, planes).T
    for (rows, mine), line, wanted in zip(
        found([tiles], sdc.Queries(asked, width, finer, np.ones(5)), 7, 21), scores, best_rows(scores, 7), strict=True
    ):
        assert rows == wanted
        assert mine.tolist() == line[wanted].tolist()


@pytest.mark.parametrize(("width", "planes"), [(64, 1), (72, 2), (40, 4)])
@pytest.mark.parametrize("cosine", [False, True])
def test_the_best_are_those_of_the_definition(width, planes, cosine):
    """Oracle: all scores in numpy; ties, filters, threads, several segments, torch on the CPU."""
    rng = np.random.default_rng(width)
    asked, there = drawn(rng, 13, width, planes), drawn(rng, 3001, width, planes)
    there[1000:1100] = there[0]
    norms = sdc.norms(there, width, planes) if cosine else np.ones(len(there))
    factors = 1 / sdc.norms(asked, width, planes) if cosine else np.ones(13)
    scores = values_of(asked, width, planes) @ values_of(there, width, planes).T / norms * factors[:, None]
    scores = scores.astype(np.float32)
    mask = rng.random(len(there)) < 0.3
    queries = sdc.Queries(asked, width, planes, factors)
    rows = np.arange(len(there))
    one = [sdc.make_tiles(there, rows, width, planes, cosine=cosine)]
    two = [sdc.make_tiles(there[s], rows[s], width, planes, cosine=cosine) for s in (slice(0, 1501), slice(1501, None))]
    segments = [(0, there, width, planes)]
    for k in (1, 10, 150, 4000):
        for filtered in (None, mask):
            wanted = best_rows(scores, k, filtered)
            plain = found(one, queries, k, len(there), mask=filtered)
            assert [numbers for numbers, _ in plain] == wanted
            for other in (
                found(two, queries, k, len(there), mask=filtered),
                found(one, queries, k, len(there), mask=filtered, workers=3),
            ):
                assert [(n, s.tolist()) for n, s in other] == [(n, s.tolist()) for n, s in plain]
            by_torch = sdc_torch.search(segments, queries, k, mask=filtered, cosine=cosine, device="cpu")
            for (mine, numbers), (wanted_rows, wanted_scores) in zip(by_torch, plain, strict=True):
                order = np.lexsort((-numbers, -mine))[:k]
                assert numbers[order].tolist() == wanted_rows
                assert mine[order].tolist() == wanted_scores.tolist()


def test_more_ties_than_a_list_takes():
    """All documents are alike: the answer is the last ids, whichever rows have them."""
    code = drawn(np.random.default_rng(0), 1, 64, 2)
    there = np.repeat(code, 20_000, axis=0)
    there[7] = ~code
    tiles = sdc.make_tiles(there, np.arange(len(there)), 64, 2, cosine=True)
    ranks = np.random.default_rng(1).permutation(len(there))
    asked = sdc.Queries(np.repeat(code, 3, axis=0), 64, 2, np.ones(3))
    for scores, rows in sdc.search([tiles], asked, 10, ranks=lambda: ranks):
        best = rows[np.lexsort((-ranks[rows], -scores))][:10]
        assert ranks[best].tolist() == np.sort(np.delete(ranks, 7))[::-1][:10].tolist()


def test_one_bit_is_faiss_hamming():
    """Oracle: `IndexBinaryFlat`: the same distances, and the same documents where they don't tie with the last."""
    faiss = pytest.importorskip("faiss")
    rng = np.random.default_rng(5)
    asked, there = drawn(rng, 20, 96, 1), drawn(rng, 5000, 96, 1)
    flat = faiss.IndexBinaryFlat(96)
    flat.add(there)
    distances, numbers = flat.search(asked, 50)
    tiles = sdc.make_tiles(there, np.arange(5000), 96, 1, cosine=False)
    mine = found([tiles], sdc.Queries(asked, 96, 1, np.ones(20)), 50, 5000)
    for (rows, scores), theirs, of_theirs in zip(mine, distances, numbers, strict=True):
        assert ((96 - scores) / 2).tolist() == theirs.tolist()
        sure = theirs < theirs[-1]
        assert set(np.array(rows)[sure]) == set(of_theirs[sure])


def test_inverted_lists_that_are_all_looked_at_find_the_same():
    rng = np.random.default_rng(6)
    asked, there = drawn(rng, 6, 64, 2), drawn(rng, 500, 64, 2)
    tiles = sdc.make_tiles(there, np.arange(500), 64, 2, cosine=True)
    queries = sdc.Queries(asked, 64, 2, np.ones(6))
    starts = np.array([0, 10, 10, 40, len(tiles.rows)], np.int64)
    probed = sdc.Probed([starts], np.tile(np.array([2, 0, -1, 3, 1], np.int64), (6, 1)))
    same = found([tiles], queries, 20, 500)
    looked = found([tiles], queries, 20, 500, probed=probed)
    assert [(n, s.tolist()) for n, s in looked] == [(n, s.tolist()) for n, s in same]
    part = found([tiles], queries, 500, 500, probed=sdc.Probed([starts], np.full((6, 1), 2, np.int64)))
    assert {row for rows, _ in part for row in rows} == set(range(80, 320))


def test_codes_of_another_shape_are_refused():
    with pytest.raises(UsageError, match=r"codes are uint8 of shape \(3, 9\), expected uint8 \(n, 8\)"):
        sdc.plane_words(np.zeros((3, 9), np.uint8), 32, 2)
    assert decode(np.array([[0, 3]]), 2).tolist() == [[-1.5, 1.5]]
