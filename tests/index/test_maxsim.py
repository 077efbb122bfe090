"""MaxSim kernels against a float64 einsum; XTR against sentence-transformers' own."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.index import maxsim_blocks as module
from cribble.index import maxsim_product
from cribble.index.maxsim import maxsim, maxsim_all
from cribble.index.maxsim_torch import maxsim_torch
from cribble.index.maxsim_xtr import xtr
from cribble.vectors import MultiVector

LEAST = {"dot": -1.0, "cosine": -1.0, "l2": -4.0}


def naive(query, tokens, offsets, similarity="dot", query_mask=None, token_mask=None):
    """The definition: a float64 einsum per document, the maximum, the sum."""
    query, tokens = query.astype(np.float64), tokens.astype(np.float64)
    if query_mask is not None:
        query = query[query_mask]
    scores = []
    for start, end in itertools.pairwise(offsets):
        rows = tokens[start:end] if token_mask is None else tokens[start:end][token_mask[start:end]]
        if not len(rows):
            scores.append(LEAST[similarity] * len(query))
            continue
        matches = np.einsum("qd,td->qt", query, rows)
        if similarity == "cosine":
            matches = matches / np.linalg.norm(query, axis=1)[:, None] / np.linalg.norm(rows, axis=1)
        if similarity == "l2":
            matches = -((query[:, None] - rows[None]) ** 2).sum(2)
        scores.append(matches.max(axis=1).sum())
    return np.array(scores)


def unit(rng, *shape):
    values = rng.standard_normal(shape).astype(np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)


def ragged(rng, count, dim, lengths=(0, 0, 1, 1, 2, 9, 40, 200)):
    sizes = rng.choice(lengths, size=count)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    return MultiVector(unit(rng, int(offsets[-1]), dim), offsets)


@pytest.mark.parametrize("block", [1, 7 << 8, 512 << 10])
@pytest.mark.parametrize("query_tokens", [1, 5, 32])
@pytest.mark.parametrize("similarity", ["dot", "cosine", "l2"])
def test_kernel_equals_a_float64_einsum(monkeypatch, block, query_tokens, similarity):
    """At 1e-5 relative to the score's size (float32 products), with empty documents and documents of one token."""
    monkeypatch.setattr(module, "_BLOCK_BYTES", block)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        documents = ragged(rng, 60, 47)
        query = unit(rng, query_tokens, 47) * (3 if similarity == "cosine" else 1)
        expected = naive(query, documents.tokens, documents.offsets, similarity)
        got = maxsim(query, documents.tokens, documents.offsets, similarity=similarity)
        assert got.dtype == np.float32
        assert np.abs(got - expected).max() <= 1e-5 * query_tokens
        means = maxsim(query, documents.tokens, documents.offsets, similarity=similarity, mean=True)
        assert np.abs(means - expected / query_tokens).max() <= 1e-5


@pytest.mark.parametrize("similarity", ["dot", "cosine", "l2"])
def test_masks_and_many_queries(similarity):
    rng = np.random.default_rng(4)
    queries, documents = ragged(rng, 9, 24, (0, 1, 3, 33)), ragged(rng, 40, 24)
    query_mask, token_mask = rng.random(len(queries.tokens)) < 0.7, rng.random(len(documents.tokens)) < 0.5
    for masks in ({}, {"query_mask": query_mask, "token_mask": token_mask}):
        got = maxsim_all(queries, documents, similarity=similarity, **masks)
        for q, (start, end) in enumerate(itertools.pairwise(queries.offsets)):
            own = {"query_mask": query_mask[start:end], "token_mask": token_mask} if masks else {}
            expected = naive(queries[q], documents.tokens, documents.offsets, similarity, **own)
            assert np.abs(got[q] - expected).max() <= 1e-5 * max(1, end - start)


@pytest.mark.parametrize("score", [maxsim_all, lambda q, d: maxsim_torch(q, d, device="cpu")], ids=["cpu", "torch"])
def test_when_all_similarities_are_negative(score):
    """The maximum of negative numbers is negative: no zero from padding may win, an empty document comes last."""
    rng = np.random.default_rng(0)
    query, tokens = np.abs(unit(rng, 4, 16)), -np.abs(unit(rng, 30, 16))
    offsets = np.array([0, 10, 10, 11, 30])
    got = score(MultiVector(query, np.array([0, 4])), MultiVector(tokens, offsets))[0]
    assert (got < 0).all()
    assert got == pytest.approx(naive(query, tokens, offsets), rel=1e-5)
    assert got[1] == got.min() == -4.0


@pytest.mark.parametrize("similarity", ["dot", "cosine", "l2"])
@pytest.mark.parametrize("mean", [False, True])
def test_torch_gives_what_the_compiled_loops_give(monkeypatch, similarity, mean):
    monkeypatch.setattr("cribble.index.maxsim_torch._HELD", 1 << 14)
    rng = np.random.default_rng(1)
    queries, documents = ragged(rng, 5, 20, (0, 1, 7)), ragged(rng, 50, 20)
    one = maxsim_torch(queries, documents, device="cpu", similarity=similarity, mean=mean)
    assert one == pytest.approx(maxsim_all(queries, documents, similarity=similarity, mean=mean), abs=1e-5)


def test_without_documents_or_tokens():
    query = np.ones((2, 3), np.float32)
    nothing = np.zeros((0, 3), np.float32)
    assert maxsim(query, nothing, np.array([0])).shape == (0,)
    assert maxsim(query, nothing, np.array([0, 0, 0])).tolist() == [-2.0, -2.0]
    assert maxsim(nothing, query, np.array([0, 2])).tolist() == [0.0]


def test_half_precision_tokens_are_accumulated_in_float32():
    """In float16 the sum of 512 matches near 1 would have steps of 0.25."""
    rng = np.random.default_rng(2)
    query, tokens = unit(rng, 512, 32).astype(np.float16), unit(rng, 90, 32).astype(np.float16)
    offsets = np.array([0, 45, 90])
    assert np.abs(maxsim(query, tokens, offsets) - naive(query, tokens, offsets)).max() < 1e-3


@pytest.mark.parametrize("dim", [1, 3, 47, 128])
@pytest.mark.parametrize("columns", [1, 32, 33, 64])
def test_the_narrow_product_is_the_product(dim, columns):
    """Oracle: float64; n terms err by n · 2^-24 of their absolute sum. Rows may be a view with a stride."""
    if not maxsim_product.ROWS:
        pytest.skip("this CPU has no fused multiply-add")
    rng = np.random.default_rng(dim)
    factors = rng.standard_normal((dim, columns)).astype(np.float32)
    for count in (maxsim_product.ROWS, maxsim_product.ROWS + 1, 100):
        wider = rng.standard_normal((count, dim + 5)).astype(np.float32)
        for rows in (wider[:, :dim].copy(), wider[:, :dim]):
            wide = maxsim_product.padded(factors)
            assert maxsim_product.suits(rows, wide)
            got = maxsim_product.narrow_product(rows, wide)[:, :columns]
            bound = (dim + 1) * 2.0**-24 * (np.abs(rows).astype(np.float64) @ np.abs(factors))
            assert (np.abs(got - rows.astype(np.float64) @ factors) <= bound).all()
    assert not maxsim_product.suits(rows[: maxsim_product.ROWS - 1], wide)


def test_wrong_widths_and_names_are_refused():
    with pytest.raises(InputError, match="query tokens have 3 dimensions, document tokens 4"):
        maxsim(np.ones((1, 3), np.float32), np.ones((1, 4), np.float32), np.array([0, 1]))
    with pytest.raises(UsageError, match="similarity 'cosinus' is unknown: did you mean 'cosine'"):
        maxsim(np.ones((1, 3), np.float32), np.ones((1, 3), np.float32), np.array([0, 1]), similarity="cosinus")
    with pytest.raises(UsageError, match="retrieved is 0"):
        xtr(MultiVector.of([], 3), MultiVector.of([], 3), retrieved=0)


@pytest.mark.parametrize("retrieved", [1, 7, 40, 10_000])
def test_xtr_is_that_of_sentence_transformers(retrieved):
    """Oracle: sentence_transformers' xtr_scores, which pads; rtol 1e-5."""
    torch = pytest.importorskip("torch")
    from sentence_transformers.multi_vector_encoder.scoring.xtr import xtr_scores

    rng = np.random.default_rng(retrieved)
    queries = MultiVector(unit(rng, 12, 16), np.array([0, 6, 12]))
    documents = ragged(rng, 10, 16, (1, 3, 20))
    widest = int(np.diff(documents.offsets).max())
    padded = np.zeros((2, 5, widest, 16), np.float32)
    for i in range(10):
        padded[i // 5, i % 5, : len(documents[i])] = documents[i]
    expected = xtr_scores(
        torch.from_numpy(queries.tokens.reshape(2, 6, 16)), torch.from_numpy(padded), top_k=retrieved
    ).numpy()
    assert xtr(queries, documents, retrieved=retrieved) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_xtr_with_imputed_similarities_is_its_definition():
    rng = np.random.default_rng(3)
    query, documents = unit(rng, 4, 8), ragged(rng, 12, 8, (0, 1, 5))
    got = xtr(MultiVector(query, np.array([0, 4])), documents, retrieved=6, imputed=True)[0]
    similarities = query.astype(np.float64) @ documents.tokens.astype(np.float64).T
    limit = np.sort(similarities, axis=1)[:, -6]
    for i in range(12):
        own = similarities[:, documents.offsets[i] : documents.offsets[i + 1]]
        expected = np.maximum(own.max(axis=1), limit).mean() if own.shape[1] else -1.0
        assert got[i] == pytest.approx(expected, abs=1e-6)
