"""The low-precision scan against its proof and its definition: bounds hold, and nothing of the exact answer is lost."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from cribble.errors import UsageError
from cribble.index import codes, exact, scan, scan_loading
from cribble.index.flat import FlatIndex
from cribble.records import Document
from cribble.vectors import Dense, EncoderSpec

pytestmark = pytest.mark.skipif(not scan_loading.available(), reason="the CPU has no AVX2, or numba is off")

SIMILARITIES = ("dot", "cosine", "l2")


def drawn(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    """Vectors of any kind that an encoder or a user might give: ties, zeros, outliers, whole numbers, any norms."""
    vectors = rng.standard_normal((rows, dim)) * rng.choice([1e-6, 0.05, 1, 300])
    if rng.random() < 0.5:
        vectors *= rng.lognormal(0, 1, (rows, 1))
    if rng.random() < 0.4:
        vectors = np.round(vectors)
    if rng.random() < 0.3:
        vectors[:, rng.integers(dim)] *= 40
    if rng.random() < 0.3:
        vectors[rng.random((rows, dim)) < 0.9] = 0
    if rng.random() < 0.5:
        vectors[rng.integers(0, rows, rows // 2)] = vectors[0]
    if rng.random() < 0.5:
        vectors[rng.integers(0, rows, 3)] = 0
    return vectors.astype(np.float32)


def queries_for(rng: np.random.Generator, vectors: np.ndarray) -> np.ndarray:
    dim = vectors.shape[1]
    near = vectors[rng.integers(0, len(vectors), 3)] * np.float32(1.5)
    one_hot = np.eye(dim, dtype=np.float32)[[1, dim - 1]]
    return np.concatenate([near, drawn(rng, int(rng.integers(1, 6)), dim), np.zeros((1, dim), np.float32), one_hot])


def shards_of(vectors: np.ndarray, similarity: str, size: int, *, stored: bool) -> scan.Shards:
    starts = np.append(np.arange(0, len(vectors), size), len(vectors))
    parts = [vectors[a:b].copy() for a, b in itertools.pairwise(starts)]
    coded = [codes.encode(part, similarity) if stored else None for part in parts]
    return scan.Shards(starts, parts.__getitem__, coded.__getitem__, similarity)


def definition(similarity: str, query: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    wide = vectors.astype(np.float64)
    scores = -((wide - query) ** 2).sum(1) if similarity == "l2" else (wide * query.astype(np.float64)).sum(1)
    return scores.astype(np.float32)


@pytest.mark.parametrize("seed", range(30))
def test_finds_what_brute_force_finds(seed):
    """All rows that reach the k-th best score of float64 sums, with those scores: any shape, ties, masks, threads."""
    rng = np.random.default_rng(seed)
    similarity = SIMILARITIES[seed % 3]
    vectors = drawn(rng, int(rng.choice([1, 9, 200, 1500])), int(rng.choice([32, 96, 384])))
    queries = queries_for(rng, vectors)
    if similarity == "cosine":
        vectors, queries = exact.unit_length(vectors)[0], exact.unit_length(queries)[0]
    if rng.random() < 0.5:
        vectors = vectors.astype(np.float16)
    mask = None if rng.random() < 0.4 else rng.random(len(vectors)) < rng.choice([0.01, 0.3, 0.9])
    shards = shards_of(vectors, similarity, int(rng.choice([64, 500, 4096])), stored=rng.random() < 0.5)
    k = int(rng.choice([1, 10, 300]))
    may = np.arange(len(vectors)) if mask is None else np.flatnonzero(mask)
    answers = list(scan.search(shards, queries, min(k, len(vectors)), mask, workers=1 + seed % 2))
    for query, answer in zip(queries, answers, strict=True):
        truth = definition(similarity, query, vectors[may])
        if answer is None:  # handed back: so many rows are equal or nearly so
            best = np.sort(truth)[::-1]
            assert best[min(k, len(may)) - 1] - best[len(may) * 2 // 5] <= 0.1 * max(abs(best[0]), abs(best[-1]))
            continue
        scores, rows = answer
        assert len(set(rows.tolist())) == len(rows)
        assert np.isin(rows, may).all()
        assert np.array_equal(scores, exact.exact_scores(similarity, query, vectors[rows]))  # to the last bit
        assert len(rows) >= min(k, len(may))
        if len(may) > k:
            cut = np.partition(truth, -k)[-k]
            clear = np.spacing(np.abs(cut)) * 2  # `definition` sums in another order: one unit in the last place apart
            assert set(may[truth > cut + clear]) <= set(rows.tolist())
            exactly = exact.exact_scores(similarity, query, vectors[may])
            assert set(may[exactly >= np.partition(exactly, -k)[-k]]) <= set(rows.tolist())


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("seed", range(4))
def test_bounds_hold(similarity, seed):
    """Every score lies between the bounds that the kernel computes, in float64."""
    from cribble.index import scan_kernel as kernel

    rng = np.random.default_rng(100 + seed)
    vectors = drawn(rng, 300, 64)
    queries = queries_for(rng, vectors)
    coded = codes.query_codes(queries, similarity)
    held = scan._Lists(len(coded.codes), 1000, 400)
    kernel.scan(
        *codes.encode(vectors, similarity), 0, np.empty(0, bool), coded.codes, coded.terms, coded.gap, 400,
        held.rows, held.upper, held.lower, held.count, held.limit, held.scratch, held.out,
    )  # fmt: skip
    wide = vectors.astype(np.float64)
    for i, query in enumerate(queries.astype(np.float64)):
        products = wide @ query
        scores = 2 * products - (wide * wide).sum(1) if similarity == "l2" else products
        assert held.count[i] == 300
        assert np.array_equal(held.rows[i, :300], np.arange(300))
        assert (held.lower[i, :300] <= scores).all()
        assert (scores <= held.upper[i, :300]).all()
        if similarity != "l2" and np.linalg.norm(query):
            width = (held.upper[i, :300] - held.lower[i, :300]) / (
                np.linalg.norm(query) * np.maximum(np.linalg.norm(wide, axis=1), 1e-30)
            )
            assert np.median(width[wide.any(axis=1)]) < 0.25  # not vacuous


def test_products_cannot_overflow():
    """The worst documents for a query, all ±127: sums of codes are exact, also where a query's numbers all have one sign."""
    from cribble.index import scan_kernel as kernel

    rng = np.random.default_rng(7)
    queries = np.concatenate([np.ones((1, 64)), -np.ones((1, 64)), rng.standard_normal((6, 64))]).astype(np.float32)
    coded = codes.query_codes(queries, "dot")
    extremes = np.concatenate([np.sign(queries), -np.sign(queries)]).astype(np.float32)
    tiles, bounds = codes.encode(extremes, "dot")
    packed = tiles.transpose(0, 2, 1, 3).reshape(16, 64).astype(np.int64) - kernel.LEVELS
    assert np.abs(packed).min() == kernel.LEVELS
    held = scan._Lists(8, 100, 90)
    kernel.scan(
        tiles, bounds, 0, np.empty(0, bool), coded.codes, coded.terms, coded.gap, 90,
        held.rows, held.upper, held.lower, held.count, held.limit, held.scratch, held.out,
    )  # fmt: skip
    middle = (held.upper[:, :16].astype(np.float64) + held.lower[:, :16]) / 2
    products = coded.codes.astype(np.int64) @ packed.T
    step = coded.terms[:, 1].astype(np.float64)
    assert np.allclose(middle, products * step[:, None] / kernel.LEVELS, rtol=1e-4, atol=1e-3)
    assert (np.abs(coded.codes).max(axis=1) >= 8).all()  # the finest step that is safe, not a useless one


def test_near_ties_beyond_a_list_are_handed_back():
    """More equal rows than a list holds: None, and the index answers another way."""
    vectors = np.tile(np.linspace(-1, 1, 32, dtype=np.float32), (4000, 1))
    [answer] = scan.search(shards_of(vectors, "dot", 512, stored=True), vectors[:1], 3)
    assert answer is None


def test_kth_largest():
    from cribble.index.scan_kernel import kth_largest

    rng = np.random.default_rng(0)
    for _ in range(200):
        values = rng.integers(0, rng.choice([2, 10, 1000]), int(rng.integers(1, 60))).astype(np.float32)
        k = int(rng.integers(1, len(values) + 1))
        assert kth_largest(np.append(values, np.float32(9999)), len(values), k) == np.sort(values)[-k]


# ---- through the index -----------------------------------------------------------------------------------------------

VECTORS = np.random.default_rng(5).standard_normal((900, 64)).astype(np.float32)
VECTORS[200:260] = VECTORS[7]
VECTORS[300:310] *= 3
VECTORS[400] = 0


def build(path, vectors=VECTORS, **options):
    return FlatIndex.build(
        path,
        (Document(f"d{i}", f"text {i}") for i in range(len(vectors))),
        lambda batch: Dense(vectors[[int(d.id[1:]) for d in batch]]),
        spec=EncoderSpec("m", dim=vectors.shape[1]),
        corpus="c",
        shard_documents=400,
        **options,
    )


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("with_codes", [True, False])
def test_an_index_answers_alike_whatever_it_scans(tmp_path, similarity, with_codes):
    index = build(tmp_path / "i", similarity=similarity, codes=with_codes)
    queries = Dense(queries_for(np.random.default_rng(1), VECTORS))
    for filters in ({}, {"allow": [f"d{i}" for i in range(0, 900, 7)]}, {"deny": [f"d{i}" for i in range(300)]}):
        for k in (1, 10, 2000):
            index.scan = "plain"
            plain = index.search(queries, k, **filters)
            index.scan = "int8"
            for one, other in zip(plain, index.search(queries, k, **filters), strict=True):
                assert list(one.ids) == list(other.ids)
                assert np.array_equal(one.scores, other.scores)


def test_codes_are_files_of_stated_size_that_are_read(tmp_path):
    plain, coded = build(tmp_path / "p", similarity="dot"), build(tmp_path / "c", similarity="dot", codes=True)
    assert coded.manifest.options["codes"] is True
    assert plain.manifest.options["codes"] is False
    more = sum(f["bytes"] for f in coded.manifest.files.values()) - sum(
        f["bytes"] for f in plain.manifest.files.values()
    )
    padded = sum(-(-rows // 8) * 8 for rows in coded.manifest.shards)
    added = [f for name, f in coded.manifest.files.items() if name.endswith(("codes.npy", "bounds.npy"))]
    assert sum(f["bytes"] for f in added) == padded * (64 + 16) + 128 * len(added)
    assert abs(more - sum(f["bytes"] for f in added)) < 1000  # shard.json lists them
    stored = coded._codes(0)
    made = codes.encode(VECTORS[:400], "dot")
    assert all(np.array_equal(one, other) for one, other in zip(stored, made, strict=True))


def test_codes_need_whole_registers(tmp_path):
    with pytest.raises(UsageError, match="a dimension that 32 divides, the encoder has 24: build without"):
        build(tmp_path / "i", VECTORS[:, :24].copy(), codes=True)


def test_the_rule(tmp_path, monkeypatch):
    """Codes are scanned where that pays: not for a little work, a few queries without files, narrow filters, odd numbers."""
    plain, coded = build(tmp_path / "p"), build(tmp_path / "c", codes=True)
    many, one = np.zeros((64, 64), np.float32), np.zeros((1, 64), np.float32)
    assert not coded._low_precision(many, 2, None)  # little work so far
    while not scan_loading.ready():
        time.sleep(0.1)
    for index in (plain, coded):
        index._work = scan.LOADING_WORK
    assert coded._low_precision(many, 2, None)
    assert plain._low_precision(many, 2, None)
    assert coded._low_precision(one, 2, None)
    assert not plain._low_precision(one, 2, None)
    narrow = np.arange(900) < 300
    assert coded._low_precision(many, 2, narrow)
    assert not plain._low_precision(many, 2, narrow)
    assert not coded._low_precision(many, 2, np.arange(900) < 9)
    assert not coded._low_precision(many + np.float32(1e16), 2, None)  # squares would leave float32's range
    assert not scan.suits(24, 1.0, many[:, :24])
    assert not coded._low_precision(many, 20, None)  # lists too long for so few rows
    monkeypatch.setattr(scan_loading, "ready", lambda: False)
    assert not coded._low_precision(many, 2, None)


def test_nobody_waits_long_for_the_compiler(tmp_path):
    """With an empty cache a search is told after two seconds to take the plain scan, and later ones use the compiled one."""
    program = """
import time
from cribble.index import scan_loading
scan_loading.available()  # imports numba
begun = time.monotonic()
scan_loading.ready()
waited = time.monotonic() - begun
while not scan_loading.ready():
    time.sleep(0.05)
begun = time.monotonic()
assert scan_loading.ready()
print(waited, time.monotonic() - begun)
"""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    first, later = map(float, done.stdout.split())
    assert first < scan_loading.LONGEST_WAIT + 10  # the rest is the machine's other work
    assert later < 0.5
    assert list((tmp_path / "cache").rglob("*.nbc"))  # the next process finds the machine code
