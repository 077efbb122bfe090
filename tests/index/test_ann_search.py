"""Searching approximate indexes: parameters, verification against the definition, two levels, filters against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.index import faiss_search
from cribble.index.opening import open_index
from cribble.tests.index.ann_builds import DIM, QUERIES, VECTORS, N, build, documents, exact_rows, recall, rows_of
from cribble.vectors import Dense

pytest.importorskip("faiss")

ASKED = Dense(QUERIES)
ALL_IDS = np.array([d.id for d in documents(N)])
KINDS = {
    "ivf-flat": {"nlist": 32},
    "hnsw": {"links": 4, "ef_construction": 20},
    "ivf-pq": {"nlist": 16, "m": 16},
    "pq": {"m": 16},
    "sq8": {},
    "two-level": {"m": 16},
    "factory": {"factory": "PQ16x4fs"},
}


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ann")
    return {kind: build(kind, folder / kind, **options) for kind, options in KINDS.items()}


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    index = build("flat", tmp_path_factory.mktemp("flat") / "i")
    index.device = "cpu"
    return index


def verified(kind) -> dict:
    return {"pq_weight": 0} if kind == "two-level" else {"verify": True}


@pytest.mark.parametrize("kind", KINDS)
def test_verified_lists_have_flats_scores_and_order(indexes, flat, kind):
    """Oracle: flat, whose scores are exact. Recall@10 is at least .95 with parameters by rule."""
    found, exact = indexes[kind].search(ASKED, 10, **verified(kind)), flat.search(ASKED, N)
    assert recall(found, exact_rows(VECTORS, QUERIES, 10)) >= 0.95
    for (ids, scores), (all_ids, all_scores) in zip(found, exact, strict=True):
        places = [np.flatnonzero(all_ids == doc_id)[0] for doc_id in ids]
        assert places == sorted(places)
        assert scores.tolist() == all_scores[places].tolist()


def test_verification_of_all_is_exact_in_every_similarity(tmp_path):
    for similarity in ("dot", "cosine", "l2"):
        index = build("sq4", tmp_path / similarity, VECTORS[:600] * 3, similarity=similarity)
        exact = build("flat", tmp_path / f"flat-{similarity}", VECTORS[:600] * 3, similarity=similarity)
        assert index.score_kind == similarity
        for a, b in zip(index.search(ASKED, 20, verify=600), exact.search(ASKED, 20), strict=True):
            assert a.ids.tolist() == b.ids.tolist()
            assert a.scores.tolist() == b.scores.tolist()


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("ivf-flat", {"nprobe": 1}, {"nprobe": 32}),
        ("ivf-pq", {"nprobe": 1, "verify": True}, {"nprobe": 16, "verify": True}),
        ("hnsw", {"ef": 1}, {"ef": 500}),
        ("pq", {}, {"verify": True}),
        ("pq", {"verify": 30}, {"verify": 400}),
        ("two-level", {"candidates": 1, "pq_weight": 0}, {"candidates": 500, "pq_weight": 0}),
    ],
)
def test_every_parameter_buys_recall(indexes, kind, low, high):
    exact = exact_rows(VECTORS, QUERIES, 10)
    few, many = (recall(indexes[kind].search(ASKED, 10, **parameters), exact) for parameters in (low, high))
    assert few < many
    assert many >= 0.95


def test_by_rule_lists_hold_what_is_asked_for(indexes):
    for kind in ("ivf-flat", "ivf-pq", "hnsw"):
        assert [len(ids) for ids, _ in indexes[kind].search(ASKED, 400)] == [400] * len(QUERIES)
        assert all(0 < len(ids) <= N for ids, _ in indexes[kind].search(ASKED, 10 * N))


def test_parameters_that_a_kind_lacks_are_refused(indexes):
    for kind, parameters, message in [
        ("ivf-flat", {"ef": 3}, "kind ivf-flat is not searched with ef"),
        ("hnsw", {"nprobe": 3}, "kind hnsw is not searched with nprobe"),
        ("pq", {"candidates": 30}, "kind pq is not searched with candidates"),
        ("two-level", {"verify": True}, "kind two-level is not searched with verify: known: candidates, pq_weight"),
        ("factory", {"nprobe": 3}, "nprobe has no effect: the FAISS index has no inverted lists"),
        ("factory", {"ef": 3}, "ef has no effect: the FAISS index has no HNSW graph"),
        ("ivf-flat", {"nprobe": 0}, "nprobe is 0, expected at least 1"),
        ("pq", {"verify": -1}, "verify is -1, expected at least 0"),
        ("two-level", {"pq_weight": float("nan")}, "pq_weight is nan, expected at least 0"),
    ]:
        with pytest.raises(UsageError, match=message):
            indexes[kind].search(ASKED, 3, **parameters)
    with pytest.raises(InputError, match="queries have 8 dimensions, the index 32"):
        indexes["pq"].search(Dense(np.zeros((1, 8), np.float32)), 3)


# ---- two levels -----------------------------------------------------------------------------------------------------


def test_two_levels_add_the_weighted_score_of_the_code(indexes):
    """Oracle: the definition in float64 over all documents, with the decoded codes; 1e-5."""
    index = indexes["two-level"]
    decoded = index.proposer.index.reconstruct_n(0, N).astype(np.float64)
    for weight in (None, 0.0, 1.5):
        chosen = 0.3 if weight is None else weight
        scores = QUERIES @ VECTORS.T.astype(np.float64) + chosen * (QUERIES @ decoded.T)
        for (ids, found), row in zip(index.search(ASKED, 10, candidates=N, pq_weight=weight), scores, strict=True):
            assert found == pytest.approx(np.sort(row)[::-1][:10], abs=1e-5)
            assert found == pytest.approx(row[rows_of(ids)], abs=1e-5)


def test_two_levels_of_three_documents(tmp_path):
    """By hand: codes of one centroid a document decode to the documents themselves, so scores are 1 + weight times."""
    vectors = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0.6, 0.8, 0, 0]], np.float32)
    index = build("two-level", tmp_path / "i", vectors, m=1)
    query = Dense(np.array([[0.5, 0.1, 0, 0]], np.float32))
    for weight in (0, 0.3):
        ids, scores = index.search(query, 3, pq_weight=weight)[0]
        assert rows_of(ids) == [0, 2, 1]
        assert scores == pytest.approx((1 + weight) * np.array([0.5, 0.38, 0.1]), abs=1e-4)


def test_what_the_scores_of_two_levels_are(tmp_path):
    index = build("two-level", tmp_path / "i", VECTORS[:100], similarity="cosine")
    assert index.scores_are("cosine", pq_weight=0) == "cosine"
    assert index.scores_are("cosine") == "dot"  # a cosine and three tenths of another
    plain, weighted = (index.search(ASKED, 1, pq_weight=weight)[0].scores[0] for weight in (0, None))
    assert 1.2 * plain < weighted < 1.31


# ---- filters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0005, 0.08, 0.15, 0.6, 1.0])
def test_filtered_results_are_those_of_brute_force(indexes, flat, kind, share):
    """Oracle: numpy over the allowed rows. Few are searched exactly; among many the recall is as without a filter."""
    rng = np.random.default_rng(int(share * 1e4))
    mask = np.zeros(N, bool)
    mask[rng.choice(N, max(1, round(share * N)), replace=False)] = True
    found = indexes[kind].search(ASKED, 10, allow=ALL_IDS[mask].tolist(), **verified(kind))
    exact = exact_rows(VECTORS, QUERIES, min(10, mask.sum()), mask)
    assert all(mask[rows_of(ids)].all() and len(ids) == exact.shape[1] for ids, _ in found)
    if share < faiss_search.NARROW:
        for a, b in zip(found, flat.search(ASKED, 10, allow=ALL_IDS[mask].tolist()), strict=True):
            assert a.ids.tolist() == b.ids.tolist()
            assert a.scores.tolist() == b.scores.tolist()
    plain = recall(indexes[kind].search(ASKED, 10, **verified(kind)), exact_rows(VECTORS, QUERIES, 10))
    assert recall(found, exact) >= plain - 0.02


@pytest.mark.parametrize("share", [0.02, 0.4])
def test_two_levels_weigh_codes_under_filters_too(indexes, share):
    index = indexes["two-level"]
    mask = np.random.default_rng(3).random(N) < share
    decoded = index.proposer.index.reconstruct_n(0, N).astype(np.float64)
    scores = QUERIES @ VECTORS.T.astype(np.float64) + 0.3 * (QUERIES @ decoded.T)
    scores[:, ~mask] = -np.inf
    for (_, found), row in zip(index.search(ASKED, 10, allow=ALL_IDS[mask].tolist()), scores, strict=True):
        assert found == pytest.approx(np.sort(row)[::-1][:10], abs=1e-5)


def test_denied_documents_and_none_allowed(indexes):
    for index in indexes.values():
        best = {doc_id for ids, _ in index.search(ASKED, 2) for doc_id in ids}
        assert not best & {doc_id for ids, _ in index.search(ASKED, 5, deny=best) for doc_id in ids}
        assert [len(ids) for ids, _ in index.search(ASKED, 5, allow=[])] == [0] * len(QUERIES)


def test_what_faiss_holds_is_mapped(indexes):
    """An index that is opened again reads nothing of its file but the head (FAISS's IO_FLAG_MMAP_IFC)."""
    for kind in ("ivf-flat", "hnsw", "pq"):
        index = open_index(indexes[kind].path)
        file = str(index.manifest.whole_folder(index.path) / "ann.faiss")
        assert index.proposer.index.ntotal == N
        with open("/proc/self/maps") as stream:
            assert any(line.rstrip().endswith(file) for line in stream)


def test_a_file_that_does_not_belong_to_the_index_is_refused(indexes, tmp_path):
    other = build("pq", tmp_path / "i", VECTORS[:100], m=16)
    index = open_index(indexes["pq"].path)
    file = other.manifest.whole_folder(other.path) / "ann.faiss"
    index.manifest = other.manifest
    index.path = other.path
    index.dim = DIM + 1
    assert file.exists()
    with pytest.raises(InputError, match=r"holds 100 vectors of 32 dimensions, expected 100 of 33"):
        index.search(Dense(np.ones((1, DIM + 1), np.float32)), 1)
