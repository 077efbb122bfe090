"""What holds for every reranker: the same candidates in another order, nothing lost, the rest beneath."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.records import Query, Run
from cribble.rerankers.candidates import place_beneath
from cribble.rerankers.cross_encoder import CrossEncoder
from cribble.rerankers.maxsim import MaxSim


@pytest.fixture(params=["maxsim", "cross-encoder", "language model"], scope="module")
def make(request, classifier, language_model):
    """Builds the reranker with options."""
    if request.param == "maxsim":
        return lambda **options: MaxSim(device="cpu", **options)
    model = classifier if request.param == "cross-encoder" else language_model
    return lambda **options: CrossEncoder(str(model), device="cpu", **options)


def test_same_candidates_another_order(make, queries, candidates, texts):
    run = make()(queries, candidates, texts=texts)
    assert list(run) == list(candidates)
    for query_id in candidates:
        assert sorted(run.ids(query_id)) == sorted(candidates.ids(query_id))
        assert np.isfinite(run[query_id].scores).all()
    assert run.ids("3") == ["d7"]
    assert run.ids("5") == []


def test_without_text_stays_beneath_and_is_counted(make, queries, candidates, texts, caplog):
    stage = make()
    with caplog.at_level(logging.WARNING, "cribble"):
        run = stage(queries, candidates, texts=texts)
        again = stage(queries, candidates, texts=texts)
    assert run == again
    for query_id in ("1", "2", "四"):
        assert run.ids(query_id)[-2:] == [d for d in candidates.ids(query_id) if d in ("gone", "d6")]
    assert run.provenance["without_text"] == 6
    assert run.provenance["reranked"] == 22
    assert run.provenance["made"] == "by hand"
    said = [record.getMessage() for record in caplog.records if "no text" in record.getMessage()]
    assert len(said) == 1
    assert "6 candidates" in said[0]


def test_below_the_depth_the_order_stays(make, queries, candidates, texts):
    full, cut = make()(queries, candidates, texts=texts), make(depth=4)(queries, candidates, texts=texts)
    for query_id in ("1", "2", "四"):
        given = candidates.ids(query_id)
        head = [doc_id for doc_id in given[:4] if doc_id not in ("gone", "d6")]
        ids = cut.ids(query_id)
        assert ids[len(head) :] == [doc_id for doc_id in given if doc_id not in head]
        assert ids[: len(head)] == [doc_id for doc_id in full.ids(query_id) if doc_id in head]
        single = cut[query_id].scores.astype(np.float32)
        assert (np.diff(single[len(head) - 1 :]) < 0).all()  # strictly falling, even where float32 is compared
    assert cut.provenance["without_text"] == 2


def test_equal_texts_get_equal_scores(make, queries, candidates, texts):
    scores = make()(queries, candidates, texts=texts).to_dict()
    for query_id in ("1", "2", "四"):
        assert scores[query_id]["d1"] == pytest.approx(scores[query_id]["d3"], abs=1e-5)


def test_order_of_input_and_company_do_not_matter(make, queries, candidates, texts):
    """Each query alone, in small batches, scores as it does among the others (max |Δ| 1e-5)."""
    whole = make()(queries, candidates, texts=texts).to_dict()
    for query in reversed(queries):
        alone = make(token_budget=60)([query], candidates, texts=texts).to_dict()[query.id]
        scored = [doc_id for doc_id in alone if doc_id not in ("gone", "d6")]
        for doc_id in scored:
            assert alone[doc_id] == pytest.approx(whole[query.id][doc_id], abs=1e-5)


def test_cut_pairs_are_counted(make, queries, candidates, texts):
    run = make(max_length=20)(queries, candidates, texts=texts)
    assert run.provenance["truncated"] >= 1


def test_no_queries_give_an_empty_run(make):
    assert len(make()([], Run.from_dict({}))) == 0


def test_misuse_is_named(make, queries, candidates, texts):
    with pytest.raises(UsageError, match="depth is 0"):
        make(depth=0)
    with pytest.raises(UsageError, match="dtype 'float8'"):
        make(dtype="float8")
    with pytest.raises(UsageError, match="put a retriever before it"):
        make()(queries, None, texts=texts)
    with pytest.raises(InputError, match=r"needs .*texts"):
        make()(queries, candidates)


def test_a_query_without_candidates_is_kept(make, candidates, texts):
    run = make()([Query("unknown", "cat")], candidates, texts=texts)
    assert list(run) == ["unknown"]
    assert run.ids("unknown") == []


def test_wrong_model_fails_before_any_work():
    for stage in (MaxSim("./no/such/folder"), CrossEncoder("./no/such/folder")):
        with pytest.raises(UsageError, match=r"'./no/such/folder' does not exist"):
            stage([], Run.from_dict({}))


@pytest.mark.parametrize("lowest", [0.0, -3.25, 1e-12, 17.5, 123456.7, -9e6, 3e9])
@pytest.mark.parametrize("rest", [0, 1, 900, 20000])
def test_place_beneath_is_strict_in_float32(lowest, rest):
    scores = np.array([lowest + 1, lowest], np.float32).astype(np.float64)
    placed = place_beneath(scores, rest)
    assert placed.shape == (2 + rest,)
    assert np.array_equal(placed[:2], scores)
    assert (np.diff(placed[1:].astype(np.float32)) < 0).all()
    assert place_beneath(np.zeros(0), 3).tolist() == [-1.0, -2.0, -3.0]
