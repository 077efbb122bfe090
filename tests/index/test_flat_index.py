"""Exact search against its definition: float64 sums over the stored vectors, rounded once, ties by id descending."""

from __future__ import annotations

import logging
import os
import resource
import time

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.index.exact import candidates, faiss_nearest, scan_error, torch_nearest
from cribble.index.flat import FlatIndex
from cribble.records import Document
from cribble.vectors import Dense, EncoderSpec

N, DIM = 1500, 24


def make_vectors(seed: int = 0) -> np.ndarray:
    """Random rows, some equal to others, one zero, one tiny and one large."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((N, DIM)).astype(np.float32)
    vectors[100:160] = vectors[5]
    vectors[300:330] = vectors[5] * 2
    vectors[700] = 0
    vectors[701] *= 1e-6
    vectors[702] *= 50
    return vectors


VECTORS = make_vectors()
QUERIES = np.concatenate([VECTORS[[5, 6, 700, 701, 702]], make_vectors(1)[:30]])


def build(path, similarity, storage="float32", vectors=VECTORS, shard_documents=128):
    documents = (Document(f"d{i}", f"text {i}") for i in range(len(vectors)))
    return FlatIndex.build(
        path,
        documents,
        lambda batch: Dense(vectors[[int(d.id[1:]) for d in batch]]),
        spec=EncoderSpec("m", dim=vectors.shape[1]),
        corpus="c",
        shard_documents=shard_documents,
        similarity=similarity,
        storage=storage,
    )


def unit(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    norms = np.sqrt((values * values).sum(1, keepdims=True))
    return (values / np.where(norms == 0, 1, norms)).astype(np.float32)


def brute_force(similarity, vectors, queries, k, rows):
    """The definition, a row at a time."""
    if similarity == "cosine":
        queries = unit(queries)
    answers = []
    for query in queries.astype(np.float64):
        scores = {}
        for row in rows:
            vector = vectors[row].astype(np.float64)
            value = -np.sum((vector - query) ** 2) if similarity == "l2" else np.dot(vector, query)
            scores[f"d{row}"] = float(np.float32(value))
        best = sorted(scores, key=lambda i: (scores[i], i.encode()), reverse=True)[:k]
        answers.append((best, [scores[i] for i in best]))
    return answers


@pytest.fixture(scope="module", params=["dot", "cosine", "l2"])
def similarity(request):
    return request.param


@pytest.fixture(scope="module", params=["float32", "float16"])
def folder(request, similarity, tmp_path_factory):
    path = tmp_path_factory.mktemp("flat") / f"{similarity}-{request.param}"
    build(path, similarity, request.param)
    return path


def stored_vectors(folder) -> np.ndarray:
    return np.concatenate([np.load(p) for p in sorted(folder.glob("shards/*/vectors.npy"))])


@pytest.mark.parametrize("device", ["cpu", "torch:cpu"])
@pytest.mark.parametrize("filtered", [False, True])
def test_equals_brute_force_to_the_bit(folder, similarity, device, filtered):
    """Oracle: numpy float64, row by row. Tolerance: none for ids; scores may round differently by one float32 step,
    as the oracle sums in another order.
    """
    index = FlatIndex.open(folder, device=device)
    assert index.score_kind == similarity
    rows = range(0, N, 7) if filtered else range(N)
    allow = [f"d{i}" for i in rows] if filtered else None
    full = brute_force(similarity, stored_vectors(folder), QUERIES, N, rows)
    for k in (1, 10, 60, 400, N + 5):
        for (ids, scores), (all_ids, all_scores) in zip(
            index.search(Dense(QUERIES), k, allow=allow), full, strict=True
        ):
            assert ids.tolist() == all_ids[:k]
            np.testing.assert_array_max_ulp(scores.astype(np.float32), np.float32(all_scores[:k]), 1)


def test_engines_agree_to_the_bit(folder):
    queries = Dense(QUERIES)
    one, other = (FlatIndex.open(folder, device=device).search(queries, 100) for device in ("cpu", "torch:cpu"))
    for a, b in zip(one, other, strict=True):
        assert a.ids.tolist() == b.ids.tolist()
        assert a.scores.tolist() == b.scores.tolist()


@pytest.mark.parametrize("shard_documents", [13, 300])
def test_shards_do_not_matter(tmp_path, similarity, shard_documents):
    rows = VECTORS[:300]
    a = build(tmp_path / "a", similarity, vectors=rows, shard_documents=shard_documents)
    b = build(tmp_path / "b", similarity, vectors=rows, shard_documents=64)
    for k in (3, 200):
        for x, y in zip(a.search(Dense(QUERIES), k), b.search(Dense(QUERIES), k), strict=True):
            assert x.ids.tolist() == y.ids.tolist()
            assert x.scores.tolist() == y.scores.tolist()


def test_vectors_far_from_the_origin_keep_their_order(tmp_path):
    """FAISS' batched L2 loses all digits here (it adds squared norms of 1e6 and subtracts); the exact pass does not."""
    rng = np.random.default_rng(3)
    vectors = (1000 + 0.01 * rng.standard_normal((600, 16))).astype(np.float32)
    queries = vectors[:25] + np.float32(0.001)
    index = build(tmp_path / "i", "l2", vectors=vectors)
    for (ids, _), (wanted, _) in zip(
        index.search(Dense(queries), 10), brute_force("l2", vectors, queries, 10, range(600)), strict=True
    ):
        assert ids.tolist() == wanted


def test_ties_are_cut_by_id_even_when_all_documents_tie(tmp_path):
    index = build(tmp_path / "i", "dot", vectors=np.ones((1000, 8), np.float32))
    ids, scores = index.search(Dense(np.ones((1, 8), np.float32)), 5)[0]
    assert ids.tolist() == sorted((f"d{i}" for i in range(1000)), reverse=True)[:5]
    assert scores.tolist() == [8.0] * 5


@pytest.mark.parametrize("dim", [3, 384, 1024])
def test_the_error_bound_of_the_scan_holds(similarity, dim):
    """Oracle: float64. Both engines stay within `scan_error`, which decides when an exact pass is due."""
    rng = np.random.default_rng(dim)
    vectors = (rng.standard_normal((2000, dim)) + 1).astype(np.float32)
    queries = (rng.standard_normal((40, dim)) + 1).astype(np.float32)
    if similarity == "cosine":
        vectors, queries = unit(vectors), unit(queries)
    raised, asked = vectors.astype(np.float64), queries.astype(np.float64)
    exact = asked @ raised.T
    if similarity == "l2":
        exact = 2 * exact - (raised**2).sum(1) - (asked**2).sum(1)[:, None]
    largest = float(np.linalg.norm(raised, axis=1).max())
    for nearest in (faiss_nearest(similarity), torch_nearest(similarity, "cpu")):
        scores, rows = candidates(nearest, queries, [(0, vectors[:900]), (900, vectors[900:])], 100)
        for query, row, found, true in zip(queries, rows, scores, exact, strict=True):
            assert np.abs(found - true[row]).max() <= scan_error(similarity, query, largest)


def test_batches_are_faster_than_by_faiss_as_installed():
    """Measured: 8 times with 64 queries on one thread; the wheel's own setting never uses BLAS."""
    import faiss

    rng = np.random.default_rng(0)
    vectors, queries = (rng.standard_normal((n, 384), np.float32) for n in (30_000, 64))
    installed = faiss.cvar.distance_compute_blas_threshold
    nearest = faiss_nearest("dot")

    def seconds(call) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        return min(times)

    ours = seconds(lambda: nearest(queries, vectors, 10))
    theirs = seconds(lambda: faiss.knn(queries, vectors, 10, faiss.METRIC_INNER_PRODUCT))
    assert faiss.cvar.distance_compute_blas_threshold == installed
    assert ours < theirs * (0.7 if installed > 1000 else 1.5)


def test_zero_queries_and_unknown_allowed_ids_are_said(tmp_path, caplog):
    index = build(tmp_path / "i", "cosine", vectors=VECTORS[:200])
    with caplog.at_level(logging.WARNING, "cribble"):
        found = index.search(Dense(np.zeros((2, DIM), np.float32)), 3, allow=["d1", "d10", "x", "y"])
    assert [ids.tolist() for ids, _ in found] == [["d10", "d1"]] * 2
    assert all(scores.tolist() == [0.0, 0.0] for _, scores in found)
    assert "2 queries have a zero vector" in caplog.text
    assert "2 of the 4 allowed document ids are not in the index" in caplog.text


def test_queries_of_another_width_are_refused(tmp_path):
    index = build(tmp_path / "i", "dot", vectors=VECTORS[:20])
    with pytest.raises(InputError, match="queries have 8 dimensions, the index 24"):
        index.search(Dense(np.zeros((1, 8), np.float32)), 3)


def test_more_shards_than_open_files_are_searched(tmp_path):
    index = build(tmp_path / "i", "dot", vectors=VECTORS[:150], shard_documents=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 300, hard))
    try:
        assert [len(ids) for ids, _ in index.search(Dense(QUERIES[:3]), 150)] == [150] * 3
        assert len(index.texts.get_many([f"d{i}" for i in range(150)])) == 150
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu(folder):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    one, other = (FlatIndex.open(folder, device=device).search(Dense(QUERIES), 100) for device in ("cpu", "cuda"))
    for a, b in zip(one, other, strict=True):
        assert a.ids.tolist() == b.ids.tolist()
        assert a.scores.tolist() == b.scores.tolist()


@pytest.mark.parametrize("similarity", ["dot", "cosine", "l2"])
def test_a_truncated_view_is_the_index_of_the_cut_vectors(tmp_path, similarity):
    """Oracle: an index built of the cut vectors, of unit length again for cosines; ids and scores are equal."""
    stored = unit(VECTORS) if similarity == "cosine" else VECTORS
    cut = build(tmp_path / "cut", similarity, vectors=np.ascontiguousarray(stored[:, :8]))
    build(tmp_path / "whole", similarity)
    view = FlatIndex.open(tmp_path / "whole", truncate_dim=8)
    for k in (1, 10, 200):
        expected = cut.search(Dense(np.ascontiguousarray(QUERIES[:, :8])), k)
        for (ids, scores), (other_ids, other_scores) in zip(view.search(Dense(QUERIES), k), expected, strict=True):
            assert ids.tolist() == other_ids.tolist()
            assert scores.tolist() == other_scores.tolist()
    assert np.array_equal(view.vectors(np.array([5, 2])), stored[[5, 2]]), "stored vectors stay whole"
    with pytest.raises(UsageError, match="truncate_dim is 24, expected 1 to 23 of its 24 dimensions"):
        FlatIndex.open(tmp_path / "whole", truncate_dim=DIM)
