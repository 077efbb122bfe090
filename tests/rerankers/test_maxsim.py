"""MaxSim: the stage against the formula written out. The kernel is tested in tests/index/test_maxsim.py."""

from __future__ import annotations

import numpy as np
import pytest
from cribble.errors import UsageError
from cribble.index.maxsim_torch import maxsim_torch
from cribble.records import Document
from cribble.rerankers.maxsim import MaxSim, TokenCache


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


def test_torch_scores_on_the_encoders_device(monkeypatch, stage, queries, candidates, texts):
    """By torch on the CPU, as no GPU is at hand: 1e-5 relative to what the compiled loops give."""
    devices = []

    def on_cpu(queries, documents, *, device):
        devices.append(device)
        return maxsim_torch(queries, documents, device="cpu")

    on_torch = MaxSim(device="cpu")
    assert on_torch._torch_device is None
    monkeypatch.setattr("cribble.index.maxsim_torch.maxsim_torch", on_cpu)
    monkeypatch.setattr(on_torch, "_torch_device", "cuda:1")
    expected, found = (one(queries, candidates, texts=texts).to_dict() for one in (stage, on_torch))
    assert set(devices) == {"cuda:1"}
    assert found.keys() == expected.keys()
    for query, scores in expected.items():
        assert found[query] == pytest.approx(scores, rel=1e-5)


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
