"""Searching indexes of codes: scores by the definition, filters by brute force, verification, structures, parameters."""

from __future__ import annotations

import numpy as np
import pytest
from cribble.errors import InputError, SetupError, UsageError
from cribble.index import faiss_search, scan_loading, verification
from cribble.index.opening import open_index
from cribble.tests.index import ann_builds
from cribble.tests.index.ann_builds import QUERIES, VECTORS, N, documents, exact_rows, recall, rows_of
from cribble.tests.index.binary_builds import best_rows, build, values_of
from cribble.vectors import Dense

pytest.importorskip("faiss")

ASKED = Dense(QUERIES)
ALL_IDS = np.array([d.id for d in documents(N)])
BUILDS = {
    "sign": ("sign", {}),
    "lsh": ("lsh", {"bits": 64}),
    "itq": ("itq", {"bits": 32}),
    "bebr": ("bebr", {}),
    "sign ivf": ("sign", {"structure": "ivf", "nlist": 32}),
    "bebr ivf": ("bebr", {"structure": "ivf", "nlist": 32}),
    "lsh hnsw": ("lsh", {"bits": 64, "structure": "hnsw"}),
}
EXHAUSTIVE = ("sign", "lsh", "itq", "bebr")


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("binary")
    return {name: build(kind, folder / name, **options) for name, (kind, options) in BUILDS.items()}


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    index = ann_builds.build("flat", tmp_path_factory.mktemp("flat") / "i", similarity="cosine")
    index.device = "cpu"
    return index


def defined(index, similarity="cosine") -> np.ndarray:
    """Scores (b, n) float32 of all documents: products of the codes' values, divided by their norms for cosines."""
    identity = index.binariser.identity
    shape = identity["width"], identity["planes"]
    asked, there = (values_of(index.binariser.codes(v), *shape) for v in (QUERIES, VECTORS))
    scores = asked @ there.T
    if similarity == "cosine":
        scores = scores / np.linalg.norm(there, axis=1) * (1 / np.linalg.norm(asked, axis=1))[:, None]
    return scores.astype(np.float32)


@pytest.mark.parametrize("name", EXHAUSTIVE)
@pytest.mark.parametrize("share", [None, 0.0005, 0.08, 0.5])
def test_exhaustive_search_is_the_definition_under_every_filter(indexes, name, share):
    index = indexes[name]
    mask = None if share is None else np.zeros(N, bool)
    if mask is not None:
        mask[np.random.default_rng(1).choice(N, max(1, round(share * N)), replace=False)] = True
    scores = defined(index)
    allow = None if mask is None else ALL_IDS[mask].tolist()
    for k in (1, 25):
        for (ids, mine), line, wanted in zip(
            index.search(ASKED, k, allow=allow), scores, best_rows(scores, k, mask), strict=True
        ):
            assert rows_of(ids) == wanted
            assert mine == pytest.approx(line[wanted], abs=1e-6)


def test_products_where_vectors_are_compared_by_them(tmp_path):
    for kind in ("sign", "bebr"):
        index = build(kind, tmp_path / kind, similarity="dot")
        scores = defined(index, "dot")
        for (ids, mine), line, wanted in zip(index.search(ASKED, 20), scores, best_rows(scores, 20), strict=True):
            assert rows_of(ids) == wanted
            assert mine.tolist() == line[wanted].tolist()


@pytest.mark.parametrize("name", BUILDS)
def test_verified_lists_have_flats_scores_and_order(indexes, flat, name):
    found, exact = indexes[name].search(ASKED, 10, verify=400), flat.search(ASKED, N)
    assert recall(found, exact_rows(VECTORS, QUERIES, 10)) >= 0.95
    assert recall(found, exact_rows(VECTORS, QUERIES, 10)) > recall(
        indexes[name].search(ASKED, 10), exact_rows(VECTORS, QUERIES, 10)
    )
    for (ids, scores), (all_ids, all_scores) in zip(found, exact, strict=True):
        places = [np.flatnonzero(all_ids == doc_id)[0] for doc_id in ids]
        assert places == sorted(places)
        assert scores.tolist() == all_scores[places].tolist()


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_compiled_verification_gives_the_same_bits(tmp_path, monkeypatch, similarity):
    if not scan_loading.available():
        pytest.skip("the compiled loops don't run on this CPU")
    scan_loading.start().thread.join()
    for storage in ("float32", "float16"):
        index = build("sign", tmp_path / storage, similarity=similarity, storage=storage)
        plain, compiled = [], []
        for found, least in ((plain, 1 << 60), (compiled, 1)):
            monkeypatch.setattr(verification, "COMPILED_CANDIDATES", least)
            found += index.search(ASKED, 10, verify=300)
        assert [(a.ids.tolist(), a.scores.tolist()) for a in compiled] == [
            (a.ids.tolist(), a.scores.tolist()) for a in plain
        ]


@pytest.mark.parametrize("name", BUILDS)
@pytest.mark.parametrize("share", [0.0005, 0.08, 0.15, 0.6])
def test_filtered_and_verified_results_are_those_of_brute_force(indexes, flat, name, share):
    rng = np.random.default_rng(int(share * 1e4))
    mask = np.zeros(N, bool)
    mask[rng.choice(N, max(1, round(share * N)), replace=False)] = True
    allow = ALL_IDS[mask].tolist()
    found = indexes[name].search(ASKED, 10, allow=allow, verify=400)
    exact = exact_rows(VECTORS, QUERIES, min(10, mask.sum()), mask)
    assert all(mask[rows_of(ids)].all() and len(ids) == exact.shape[1] for ids, _ in found)
    if share < faiss_search.NARROW:
        for a, b in zip(found, flat.search(ASKED, 10, allow=allow), strict=True):
            assert a.ids.tolist() == b.ids.tolist()
            assert a.scores.tolist() == b.scores.tolist()
    assert recall(found, exact) >= 0.95
    denied = indexes[name].search(ASKED, 10, deny=ALL_IDS[~mask].tolist(), verify=400)
    assert [ids.tolist() for ids, _ in denied] == [ids.tolist() for ids, _ in found]


def test_lists_that_are_all_scanned_and_a_wide_graph_find_what_exhaustive_search_finds(indexes):
    for name, parameters in [("sign ivf", {"nprobe": 32}), ("bebr ivf", {"nprobe": 32}), ("lsh hnsw", {"ef": 2000})]:
        whole = indexes[name.split()[0]]
        for a, b in zip(indexes[name].search(ASKED, 10, **parameters), whole.search(ASKED, 10), strict=True):
            assert a.scores.tolist() == b.scores.tolist()
            sure = a.scores > a.scores[-1]  # the graph may miss documents that tie with the last
            assert a.ids[sure].tolist() == b.ids[sure].tolist()


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("sign ivf", {"nprobe": 1, "verify": 400}, {"nprobe": 32, "verify": 400}),
        ("bebr ivf", {"nprobe": 1}, {"nprobe": 32}),
        ("lsh hnsw", {"ef": 1, "verify": 20}, {"ef": 500, "verify": 500}),
        ("lsh", {}, {"query_bits": 6}),
        ("itq", {}, {"query_bits": 4}),
        ("sign", {"verify": 30}, {"verify": 400}),
    ],
)
def test_every_parameter_buys_recall(indexes, name, low, high):
    exact = exact_rows(VECTORS, QUERIES, 10)
    few, many = (recall(indexes[name].search(ASKED, 10, **parameters), exact) for parameters in (low, high))
    assert few < many


def test_finer_queries_approach_the_product_with_the_vector_itself(indexes):
    """Oracle: float64 cosine of the rotated query and the documents' signs; its steps are 2/255 of the largest value."""
    index = indexes["lsh"]
    rotated = index.binariser.rotated(QUERIES)
    signs = np.where(index.binariser.rotated(VECTORS) >= 0, 1.0, -1.0)
    scores = rotated @ signs.T / np.linalg.norm(rotated, axis=1, keepdims=True) / 8
    for (ids, mine), line in zip(index.search(ASKED, 10, query_bits=8), scores, strict=True):
        assert mine == pytest.approx(line[rows_of(ids)], abs=4e-3)


def test_parameters_that_have_no_effect_are_refused(indexes):
    for name, parameters, message in [
        ("sign", {"nprobe": 3}, "nprobe has no effect: .* has the structure flat"),
        ("sign ivf", {"ef": 3}, "ef has no effect: .* has the structure ivf"),
        ("lsh hnsw", {"nprobe": 3}, "nprobe has no effect"),
        ("lsh hnsw", {"query_bits": 3}, "query_bits has no effect: .* has the structure hnsw"),
        ("bebr", {"query_bits": 3}, "query_bits has no effect: bebr codes of queries are as their model makes them"),
        ("sign", {"query_bits": 9}, "query_bits is 9, expected 1 to 8"),
        ("sign", {"candidates": 30}, "kind sign is not searched with candidates"),
        ("sign", {"verify": -1}, "verify is -1, expected at least 0"),
        ("sign ivf", {"nprobe": 0}, "nprobe is 0, expected at least 1"),
    ]:
        with pytest.raises(UsageError, match=message):
            indexes[name].search(ASKED, 3, **parameters)
    with pytest.raises(InputError, match="queries have 8 dimensions, the index 32"):
        indexes["sign"].search(Dense(np.zeros((1, 8), np.float32)), 3)
    with pytest.raises(UsageError, match="truncate_dim needs a flat index"):
        open_index(indexes["sign"].path, truncate_dim=8)


def test_torch_gives_the_same(indexes):
    import torch

    for name in ("lsh", "bebr"):
        index, other = indexes[name], open_index(indexes[name].path, device="torch:cpu")
        other._binariser = indexes[name].binariser
        for a, b in zip(index.search(ASKED, 30), other.search(ASKED, 30), strict=True):
            assert a.ids.tolist() == b.ids.tolist()
            assert a.scores.tolist() == b.scores.tolist()
    if not torch.cuda.is_available():
        with pytest.raises(SetupError, match="torch finds no CUDA device"):
            open_index(indexes["lsh"].path, device="cuda").search(ASKED, 3)


@pytest.mark.gpu
def test_a_gpu_gives_the_same(indexes):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    for name in EXHAUSTIVE:
        other = open_index(indexes[name].path, device="cuda")
        other._binariser = indexes[name].binariser
        for a, b in zip(indexes[name].search(ASKED, 30), other.search(ASKED, 30), strict=True):
            assert a.ids.tolist() == b.ids.tolist()
            assert a.scores.tolist() == b.scores.tolist()


def test_zero_vectors_and_none_allowed(tmp_path):
    vectors = VECTORS[:50].copy()
    vectors[3] = 0
    for kind in ("sign", "bebr"):
        index = build(kind, tmp_path / kind, vectors)
        assert index.manifest.counts["zero_vectors"] == 1
        assert [len(ids) for ids, _ in index.search(Dense(np.zeros((2, 32), np.float32)), 50)] == [50, 50]
        assert [len(ids) for ids, _ in index.search(ASKED, 5, allow=[])] == [0] * len(QUERIES)
