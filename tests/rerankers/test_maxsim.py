"""MaxSim: the kernel against a float64 einsum, the stage against the formula written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cribble.errors import UsageError
from cribble.records import Document
from cribble.rerankers import maxsim_kernel
from cribble.rerankers.maxsim import MaxSim, TokenCache
from cribble.rerankers.maxsim_kernel import maxsim


def naive(query, tokens, offsets):
    scores = []
    for start, end in itertools.pairwise(offsets):
        similarities = np.einsum("qd,td->qt", query.astype(np.float64), tokens[start:end].astype(np.float64))
        scores.append(similarities.max(axis=1).sum() if end > start else -float(len(query)))
    return np.array(scores)


def unit(rng, *shape):
    values = rng.standard_normal(shape).astype(np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)


@pytest.mark.parametrize("block", [1, 7, 64, 4096])
@pytest.mark.parametrize("query_tokens", [1, 5, 32])
@pytest.mark.parametrize("seed", range(4))
def test_kernel_equals_a_float64_einsum(monkeypatch, block, query_tokens, seed):
    """At 1e-5 relative to the score's size (float32 products), with empty documents and documents of one token."""
    monkeypatch.setattr(maxsim_kernel, "_BLOCK", block)
    rng = np.random.default_rng(seed)
    lengths = rng.choice([0, 0, 1, 1, 2, 9, 40, 200], size=60)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    query, tokens = unit(rng, query_tokens, 48), unit(rng, int(offsets[-1]), 48)
    expected = naive(query, tokens, offsets)
    got = maxsim(query, tokens, offsets)
    assert got.dtype == np.float32
    assert np.abs(got - expected).max() <= 1e-5 * query_tokens


def test_kernel_when_all_similarities_are_negative():
    """The maximum of negative numbers is negative: no zero from padding may win."""
    rng = np.random.default_rng(0)
    query = np.abs(unit(rng, 4, 16))
    tokens = -np.abs(unit(rng, 30, 16))
    offsets = np.array([0, 10, 10, 11, 30])
    got = maxsim(query, tokens, offsets)
    assert (got < 0).all()
    assert got == pytest.approx(naive(query, tokens, offsets), rel=1e-5)
    assert got[1] == -4.0
    assert got[1] == got.min()


def test_kernel_without_documents_or_tokens():
    query = np.ones((2, 3), np.float32)
    assert maxsim(query, np.zeros((0, 3), np.float32), np.array([0])).shape == (0,)
    assert maxsim(query, np.zeros((0, 3), np.float32), np.array([0, 0, 0])).tolist() == [-2.0, -2.0]


@pytest.fixture(scope="module")
def stage():
    return MaxSim(device="cpu")


def test_stage_is_the_formula(stage, queries, candidates, texts):
    run = stage(queries, candidates, texts=texts).to_dict()
    for query in queries:
        for doc_id, score in run[query.id].items():
            if doc_id in ("gone", "d6"):
                continue
            q = stage.encoder.query_tokens([query.text])[0].astype(np.float64)
            d = stage.encoder.document_tokens([texts.documents[doc_id]])[0].astype(np.float64)
            assert score == pytest.approx((q @ d.T).max(axis=1).sum(), abs=1e-4)


def test_an_exact_copy_of_the_query_comes_first(stage, texts):
    from cribble.records import Query, Run

    run = Run.from_dict({"q": {"d8": 3.0, "d2": 2.0, "d7": 1.0}})
    assert stage([Query("q", "bird")], run, texts=texts).ids("q")[0] == "d7"


def test_cached_tokens_give_the_same_run(stage, queries, candidates, texts):
    uncached = MaxSim(device="cpu", cache_mb=0)
    assert uncached(queries, candidates, texts=texts) == stage(queries, candidates, texts=texts)
    assert uncached._cache.size == 0
    assert 0 < stage._cache.size <= 1 << 30


def test_token_cache_forgets_the_oldest_and_knows_a_changed_text():
    matrix = np.zeros((10, 10), np.float32)
    cache = TokenCache(3 * matrix.nbytes)
    documents = [Document(str(i), "text") for i in range(4)]
    for document in documents[:3]:
        cache.put(document, matrix)
    assert cache.get(documents[0]) is not None  # used last, so number 1 goes first
    cache.put(documents[3], matrix)
    assert [cache.get(document) is not None for document in documents] == [True, False, True, True]
    assert cache.get(Document("0", "another text")) is None
    assert cache.size == 3 * matrix.nbytes
    cache.put(Document("big", "x"), np.zeros((100, 100), np.float32))
    assert cache.size == 3 * matrix.nbytes


def test_options_are_part_of_the_key():
    assert MaxSim(depth=10).key() != MaxSim(depth=20).key()
    assert MaxSim(dtype="bfloat16").key() != MaxSim().key()


def test_negative_cache_is_refused():
    with pytest.raises(UsageError, match="cache_mb is -1"):
        MaxSim(cache_mb=-1)
