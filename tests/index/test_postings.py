"""The lists under an inverted index against brute force: sums of products over the stored weights, and BM25's definition.

The oracle of impacts adds whole columns of a dense matrix in float64, terms ascending: scores must be equal, not close.
That of counts is Lucene's formula in numpy, in float32 as Lucene has it; scores must be equal as well.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.index.block_max import Bm25, search
from cribble.index.inversion import invert
from cribble.index.lucene_lengths import LENGTHS, length_bytes
from cribble.index.postings import RANGE, Postings
from cribble.vectors import Sparse
from hypothesis import given, settings
from hypothesis import strategies as st


def draw(rng, rows: int, terms: int, mean: float, weights, skew: int = 3) -> Sparse:
    """Bags whose terms are skewed, every 17th empty; `weights(n)` makes them."""
    bags = []
    for i in range(rows):
        wanted = min(terms, int(rng.poisson(mean))) if i % 17 else 0
        ids = np.unique((terms * rng.random(wanted) ** skew).astype(np.int32))
        bags.append((ids, weights(len(ids)).astype(np.float32)))
    return Sparse.of(bags, terms)


def blocks(vectors: Sparse, rows: int):
    for start in range(0, len(vectors), rows):
        indptr = vectors.indptr[start : start + rows + 1]
        span = slice(indptr[0], indptr[-1])
        yield Sparse(indptr - indptr[0], vectors.ids[span], vectors.weights[span], vectors.terms)


def inverted(folder: Path, vectors: Sparse, **options) -> Postings:
    folder.mkdir(exist_ok=True)
    invert(folder, blocks(vectors, 97), len(vectors), vectors.terms, **options)
    return Postings.open(folder)


def stored(vectors: Sparse, postings: Postings) -> np.ndarray:
    """The matrix (rows, terms) float64 of the weights as the index is documented to keep them."""
    weights = vectors.weights.astype(np.float64)
    if postings.storage != "float32":
        weights = np.maximum(1, np.rint(weights / postings.step)) * postings.step
    matrix = np.zeros((len(vectors), vectors.terms))
    matrix[np.repeat(np.arange(len(vectors)), np.diff(vectors.indptr)), vectors.ids] = weights
    return matrix


def best(scores: np.ndarray, k: int, ranks: np.ndarray, mask: np.ndarray | None = None):
    order = np.lexsort((-ranks, -scores))
    order = order[(scores[order] > 0) & (True if mask is None else mask[order])][:k]
    return scores[order], order


def dot(matrix: np.ndarray, ids: np.ndarray, weights: np.ndarray) -> np.ndarray:
    total = np.zeros(len(matrix))
    for term, weight in zip(ids.tolist(), weights.astype(np.float64).tolist(), strict=True):
        total += weight * matrix[:, term]
    return total


def assert_equal_to_dot(postings, matrix, queries, k, ranks, mask=None):
    found = search(postings, queries, k, ranks=ranks, mask=mask)
    for i, (scores, rows) in enumerate(found):
        expected, order = best(dot(matrix, *queries.row(i)), k, ranks, mask)
        assert rows.tolist() == order.tolist()
        assert scores.tolist() == expected.tolist()


WEIGHTS = {
    "real": lambda rng: lambda n: rng.gamma(2, 0.4, n) + 1e-3,
    "few values, so ties": lambda rng: lambda n: rng.integers(1, 3, n),
    "whole": lambda rng: lambda n: rng.integers(1, 400, n),
}


@pytest.mark.parametrize("kind", WEIGHTS)
@pytest.mark.parametrize("storage", ["uint8", "uint16", "float32"])
def test_a_thousand_queries_equal_the_dot_product(tmp_path, kind, storage):
    """9 · 120 queries, over lists of both forms, several ranges, documents and queries without terms, ties at the cut."""
    rng = np.random.default_rng(len(kind))
    documents = draw(rng, 2 * RANGE + 300, 600, 12, WEIGHTS[kind](rng), skew=12)
    postings = inverted(tmp_path / "p", documents, payload="impact", storage=storage)
    assert len(postings.lists.frequent_starts) > 9
    assert len(postings.lists.rare_blocks) > 9
    matrix, ranks = stored(documents, postings), rng.permutation(len(documents)).astype(np.int32)
    mask = rng.random(len(documents)) < 0.3
    for k, allowed in itertools.product((1, 10, 700, len(documents) + 5), (None, mask)):
        queries = draw(rng, 15, 600, 6, WEIGHTS["real"](rng), skew=6)
        assert_equal_to_dot(postings, matrix, queries, k, ranks, allowed)


_bag = st.dictionaries(st.integers(0, 11), st.sampled_from([1, 2, 0.5, 3.25, 0.1, 250]), max_size=6)


def _sparse(bags) -> Sparse:
    rows = [(np.array(sorted(bag), np.int32), np.array([bag[t] for t in sorted(bag)], np.float32)) for bag in bags]
    return Sparse.of(rows, 12)


@settings(max_examples=60, deadline=None)
@given(st.lists(_bag, min_size=1, max_size=30), st.lists(_bag, max_size=4), st.integers(1, 40))
def test_small_cases_equal_the_dot_product(documents, queries, k):
    with TemporaryDirectory() as folder:
        bags = _sparse(documents)
        postings = inverted(Path(folder), bags, payload="impact")
        assert_equal_to_dot(
            postings, stored(bags, postings), _sparse(queries), k, np.arange(len(bags)).astype(np.int32)
        )


def test_long_gaps_and_full_lists(tmp_path):
    """Distances over 255 within a range, over 65,535 in a rare list, a term in every document, one in the last only."""
    rows = 70_000
    terms = [[] for _ in range(rows)]
    for term, places in enumerate((range(rows), range(0, rows, 300), [0, rows - 1], [rows - 1], [4095, 4096, 8191])):
        for row in places:
            terms[row].append(term)
    sizes = np.array([len(t) for t in terms])
    ids = np.array(list(itertools.chain(*terms)), np.int32)
    rng = np.random.default_rng(3)
    documents = Sparse(np.concatenate([[0], np.cumsum(sizes)]), ids, rng.random(len(ids), np.float32) + 0.1, 6)
    postings = inverted(tmp_path / "p", documents, payload="impact")
    queries = _over(6, [[0], [1], [2], [3], [4], [5], [1, 2, 3, 4], [0, 1, 2, 3, 4, 5]])
    matrix = stored(documents, postings)
    for k in (5, rows):
        assert_equal_to_dot(postings, matrix, queries, k, np.arange(rows).astype(np.int32))


def _over(terms: int, rows: list[list[int]]) -> Sparse:
    return Sparse.of([(np.array(row, np.int32), np.linspace(0.3, 2, len(row))) for row in rows], terms)


def test_a_query_of_five_thousand_terms(tmp_path):
    rng = np.random.default_rng(5)
    documents = draw(rng, 300, 6000, 150, lambda n: rng.random(n) + 0.1)
    postings = inverted(tmp_path / "p", documents, payload="impact")
    queries = _over(6000, [sorted(rng.choice(6000, 5000, replace=False).tolist())])
    assert_equal_to_dot(postings, stored(documents, postings), queries, 50, np.arange(300).astype(np.int32))


def test_runs_in_files_give_the_same_bytes(tmp_path):
    """However little memory inversion may use."""
    rng = np.random.default_rng(6)
    documents = draw(rng, 5000, 80, 8, lambda n: rng.integers(1, 300, n))
    for payload in ("impact", "count"):
        whole = inverted(tmp_path / "whole", documents, payload=payload)
        parts = inverted(tmp_path / "parts", documents, payload=payload, held=3000)
        names = sorted(p.name for p in whole.folder.iterdir())
        assert names == sorted(p.name for p in parts.folder.iterdir())
        for name in names:
            assert (whole.folder / name).read_bytes() == (parts.folder / name).read_bytes()


def test_whole_weights_are_kept_exactly_and_others_to_half_a_step(tmp_path):
    rng = np.random.default_rng(7)
    for i, (weights, storage, step) in enumerate(
        [
            (rng.integers(1, 256, 500), "uint8", 1),
            (rng.integers(1, 999, 500), "uint16", 1),
            (rng.random(500), "uint8", 0),
        ]
    ):
        documents = Sparse.of([(np.array([0]), np.array([w])) for w in weights], 1)
        postings = inverted(tmp_path / f"{i}", documents, payload="impact", storage=storage)
        ((scores, rows),) = search(postings, _over(1, [[0]]), 500)
        kept = scores / np.float32(0.3)
        assert np.abs(kept - weights[rows]).max() <= (1e-12 if step else postings.step)
        assert not step or postings.step == step


def test_a_step_makes_float32_numbers(tmp_path):
    documents = Sparse.of([(np.array([0]), np.array([w])) for w in (0.003, 1.7, 3.3333)], 1)
    for storage, levels in (("uint8", 255), ("uint16", 65535)):
        step = inverted(tmp_path / storage, documents, payload="impact", storage=storage).step
        values = step * np.arange(levels + 1.0)
        assert (values.astype(np.float32) == values).all()
        assert 3.3333 / levels <= step <= 1.01 * 3.3333 / levels


# ---- counts ---------------------------------------------------------------------------------------------------------


def bm25(documents: Sparse, query, k1: float, b: float) -> np.ndarray:
    """Lucene's BM25Similarity, float32 where it has float."""
    f4 = np.float32
    lengths = np.array([int(documents.row(i)[1].sum(dtype=np.float64)) for i in range(len(documents))])
    filled, frequencies = int((lengths > 0).sum()), np.bincount(documents.ids, minlength=documents.terms)
    kept = LENGTHS[np.searchsorted(LENGTHS, lengths, side="right") - 1].astype(f4)
    with np.errstate(divide="ignore"):
        inverse = f4(1) / (f4(k1) * ((f4(1) - f4(b)) + f4(b) * kept / f4(lengths.sum() / filled)))
    row = np.repeat(np.arange(len(documents)), np.diff(documents.indptr))
    total = np.zeros(len(documents))
    for term, boost in zip(*query, strict=True):
        df = frequencies[term]
        weight = f4(boost) * f4(np.log(1 + (filled - df + 0.5) / (df + 0.5)))
        mine = documents.ids == term
        total[row[mine]] += weight - weight / (f4(1) + documents.weights[mine] * inverse[row[mine]])
    return total.astype(f4).astype(np.float64)


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    rng = np.random.default_rng(8)
    documents = draw(rng, RANGE + 900, 400, 25, lambda n: np.minimum(rng.geometric(0.5, n), 40))
    large = np.flatnonzero(rng.random(len(documents.weights)) < 0.003)
    documents.weights[large] = rng.choice([254, 255, 256, 3000, 1_000_000], len(large))
    return documents, inverted(tmp_path_factory.mktemp("counts") / "p", documents, payload="count")


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.2, 0.75), (0, 0.4), (2, 0), (0.5, 1)])
def test_bm25_equals_its_definition(counted, k1, b):
    documents, postings = counted
    assert len(postings.lists.large_places) > 20
    rng = np.random.default_rng(9)
    queries = draw(rng, 20, 400, 5, lambda n: rng.integers(1, 3, n))
    ranks = rng.permutation(len(documents)).astype(np.int32)
    expected_of = [bm25(documents, queries.row(i), k1, b) for i in range(len(queries))]
    for k in (10, 1000):
        for i, (scores, rows) in enumerate(search(postings, queries, k, weighting=Bm25(k1, b), ranks=ranks)):
            expected, order = best(expected_of[i], k, ranks)
            assert scores.tolist() == expected.tolist()
            assert rows.tolist() == order.tolist()


def test_lengths_are_kept_to_four_significant_bits():
    lengths = np.unique(np.concatenate([np.arange(5000), 2 ** np.arange(31) - 1, [2**31 - 1]]))
    kept = LENGTHS[length_bytes(lengths)]
    assert (kept[lengths < 40] == lengths[lengths < 40]).all()
    assert (kept <= lengths).all()
    assert ((lengths - kept) * 8 <= np.maximum(lengths, 1)).all()
    assert (np.diff(LENGTHS) > 0).all()
    assert LENGTHS[255] == 2_013_265_944  # SmallFloat.byte4ToInt((byte) 255)


# ---- what is refused ------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused(tmp_path, counted):
    bags = _over(5, [[0, 2], [1]])
    folder = tmp_path / "p"
    folder.mkdir()
    with pytest.raises(InputError, match="2 documents were given, 3 announced"):
        invert(folder, [bags], 3, 5, payload="impact")
    with pytest.raises(InputError, match="of 5 terms, expected 2 rows of 6"):
        invert(folder, [bags], 2, 6, payload="impact")
    with pytest.raises(InputError, match="not all whole numbers"):
        invert(folder, [bags], 2, 5, payload="count")
    with pytest.raises(UsageError, match="storage is 'uint7'"):
        invert(folder, [bags], 2, 5, payload="impact", storage="uint7")
    with pytest.raises(UsageError, match="payload is 'counts'"):
        invert(folder, [bags], 2, 5, payload="counts")
    assert not list(folder.iterdir())
    postings = inverted(folder, bags, payload="impact")
    for asked, options, error in (
        (_over(6, [[0]]), {}, "vocabulary of 6 terms, the index 5"),
        (bags, {"weighting": Bm25()}, "postings of impacts"),
        (bags, {"k": 0}, "k is 0"),
        (bags, {"approx": 1.0}, "approx is 1.0"),
    ):
        with pytest.raises((InputError, UsageError), match=error):
            search(postings, asked, options.pop("k", 3), **options)
    with pytest.raises(UsageError, match="postings of counts"):
        search(counted[1], _over(400, [[0]]), 3)
    for k1, b in ((-1, 0.4), (float("inf"), 0.4), (0.9, 1.1)):
        with pytest.raises(UsageError, match="expected a number"):
            Bm25(k1, b)


def test_nothing_in_nothing_out(tmp_path):
    empty = Sparse.of([(np.zeros(0), np.zeros(0))] * 3, 4)
    for payload, weighting in (("impact", None), ("count", Bm25())):
        postings = inverted(tmp_path / payload, empty, payload=payload)
        assert [len(rows) for _, rows in search(postings, _over(4, [[0], [], [1, 2]]), 5, weighting=weighting)] == [
            0
        ] * 3
        assert list(search(postings, _over(4, []), 5, weighting=weighting)) == []


def test_approx_leaves_out_the_weakest_terms(tmp_path):
    """A term that makes at most the share `approx` of what a score can be goes; scores are then sums over the others."""
    documents = Sparse.of([(np.array([0, 1, 2]), np.array([1.0, 2.0, 4.0]))], 3)
    postings = inverted(tmp_path / "p", documents, payload="impact")
    queries = Sparse.of([(np.array([0, 1, 2]), np.array([1, 1, 1]))], 3)  # shares 1/7, 2/7, 4/7
    for approx, score in ((0, 7), (0.14, 7), (0.15, 6), (0.42, 6), (0.43, 4), (0.9, 4)):
        ((scores, _),) = search(postings, queries, 1, approx=approx)
        assert scores.tolist() == [score]
