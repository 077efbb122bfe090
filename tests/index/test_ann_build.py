"""Approximate indexes as they are built: FAISS's own result, the rules, and options that have an effect or raise."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.index.ann_rules import BUILD_OPTIONS, recipe
from cribble.index.changes import add_documents, compact_index, delete_documents
from cribble.index.opening import find_kind, open_index
from cribble.records import Document
from cribble.tests.index.ann_builds import DIM, QUERIES, VECTORS, N, build, clustered, rows_of
from cribble.vectors import Dense, EncoderSpec

faiss = pytest.importorskip("faiss")

#: Kind → options of its build, the parameters of its search, and the same for FAISS.
PARITY = {
    "ivf-flat": ({"nlist": 32}, {"nprobe": 3}, lambda: faiss.SearchParametersIVF(nprobe=3)),
    "hnsw": ({"links": 8, "ef_construction": 30}, {"ef": 40}, lambda: faiss.SearchParametersHNSW(efSearch=40)),
    "pq": ({"m": 8, "bits": 6}, {}, lambda: None),
    "ivf-pq": ({"nlist": 16, "m": 16, "bits": 5}, {"nprobe": 4}, lambda: faiss.SearchParametersIVF(nprobe=4)),
    "sq8": ({}, {}, lambda: None),
    "sq4": ({}, {}, lambda: None),
    "fp16": ({}, {}, lambda: None),
    "bf16": ({}, {}, lambda: None),
    "factory": (
        {"factory": "PCA16,IVF16_HNSW8,SQ8"},
        {"nprobe": 4, "ef": 30},
        lambda: faiss.SearchParametersPreTransform(
            index_params=faiss.SearchParametersIVF(nprobe=4, quantizer_params=faiss.SearchParametersHNSW(efSearch=30))
        ),
    ),
}


@pytest.fixture
def blas(monkeypatch):
    """FAISS's usual threshold of BLAS, which our builds set too."""
    installed = faiss.cvar.distance_compute_blas_threshold
    faiss.cvar.distance_compute_blas_threshold = 20
    yield
    faiss.cvar.distance_compute_blas_threshold = installed


@pytest.mark.parametrize(
    ("kind", "similarity"), [*((kind, "dot") for kind in PARITY), ("ivf-flat", "l2"), ("ivf-pq", "l2")]
)
def test_the_same_as_faiss_with_the_same_string_and_vectors(tmp_path, kind, similarity, blas):
    """Oracle: faiss.index_factory, trained on all vectors in order (its own seeds). Tolerance: none for ids, 1e-6 for
    scores, as HNSW sums four distances at a time or one.
    """
    options, parameters, theirs = PARITY[kind]
    index = build(kind, tmp_path / "i", similarity=similarity, **options)
    metric = faiss.METRIC_L2 if similarity == "l2" else faiss.METRIC_INNER_PRODUCT
    raw = faiss.index_factory(DIM, index.description["factory"], metric)
    if kind == "hnsw":
        raw.hnsw.efConstruction = 30
    raw.train(VECTORS)
    raw.add(VECTORS)
    scores, rows = raw.search(QUERIES, 10, params=theirs())
    for (ids, ours), row, score in zip(index.search(Dense(QUERIES), 10, **parameters), rows, scores, strict=True):
        assert rows_of(ids) == row[np.lexsort((-row, -score if similarity == "dot" else score))].tolist()
        assert ours == pytest.approx(np.sort(score if similarity == "dot" else -score)[::-1], abs=1e-6)


def test_codes_and_scores_are_those_of_index_pq(tmp_path, blas):
    """Oracle: faiss.IndexPQ with our centroids: equal codes; scores are the inner products with the decoded ones, 1e-5."""
    index = build("pq", tmp_path / "i", m=8, bits=6)
    mine = faiss.downcast_index(index.proposer.index)
    theirs = faiss.IndexPQ(DIM, 8, 6, faiss.METRIC_INNER_PRODUCT)
    theirs.pq = mine.pq
    theirs.is_trained = True
    theirs.add(VECTORS)
    assert (faiss.vector_to_array(theirs.codes) == mine.sa_encode(VECTORS).ravel()).all()
    decoded = mine.pq.decode(mine.sa_encode(VECTORS))
    assert decoded == pytest.approx(mine.reconstruct_n(0, N), abs=0)
    for query, (ids, scores) in zip(QUERIES, index.search(Dense(QUERIES), 10), strict=True):
        assert scores == pytest.approx(decoded[rows_of(ids)] @ query, abs=1e-5)


def test_training_takes_a_seeded_sample(tmp_path, blas, caplog):
    """Oracle: FAISS trained on those rows. Another seed draws and clusters otherwise."""
    with caplog.at_level(logging.WARNING, "cribble"):
        index = build("ivf-flat", tmp_path / "i", nlist=32, training_vectors=500, seed=7)
    assert "32 centroids are learnt from 500 vectors, FAISS advises 1248 or more" in caplog.text
    assert json.loads((tmp_path / "i" / "whole" / "ann.json").read_text())["trained_on"] == 500
    sample = np.sort(np.random.default_rng(7).choice(N, 500, replace=False, shuffle=False))
    raw = faiss.index_factory(DIM, "IVF32,Flat", faiss.METRIC_INNER_PRODUCT)
    raw.cp.seed = 7
    raw.train(VECTORS[sample])
    mine = faiss.downcast_index(index.proposer.index).quantizer.reconstruct_n(0, 32)
    assert (mine == raw.quantizer.reconstruct_n(0, 32)).all()
    other = build("ivf-flat", tmp_path / "j", nlist=32, training_vectors=500, seed=8)
    assert (mine != faiss.downcast_index(other.proposer.index).quantizer.reconstruct_n(0, 32)).any()


@pytest.mark.parametrize(
    ("kind", "rows", "dim", "given", "factory", "training_vectors"),
    [
        ("ivf-flat", 50, 16, {}, "IVF1,Flat", 65536),
        ("ivf-flat", 5_183, 384, {}, "IVF128,Flat", 65536),
        ("ivf-flat", 60_000, 384, {}, "IVF1024,Flat", 65536),
        ("ivf-flat", 1_000_000, 384, {}, "IVF4096,Flat", 174762),
        ("ivf-flat", 1_000_000, 384, {"nlist": 100}, "IVF100,Flat", 65536),
        ("ivf-flat", 10_000_000, 1024, {}, "IVF1024,Flat", 65536),
        ("hnsw", 10, 384, {}, "HNSW32,Flat", 65536),
        ("pq", 1_400, 384, {}, "PQ96x4np", 65536),
        ("pq", 10_000, 384, {}, "PQ48x8np", 65536),
        ("pq", 10_000, 384, {"m": 96}, "PQ96x8np", 65536),
        ("pq", 10_000, 127, {}, "PQ1x8np", 65536),
        ("ivf-pq", 1_000_000, 384, {}, "IVF4096,PQ48x8np", 174762),
        ("opq-ivf-pq", 1_000_000, 768, {"nlist": 2048}, "OPQ96,IVF2048,PQ96x8np", 87381),
        ("two-level", 1_400, 384, {}, "PQ96x4np", 65536),
        ("two-level", 60_000, 384, {"opq": True}, "OPQ48,PQ48x8np", 65536),
        ("sq8", 60_000, 384, {"training_vectors": 9}, "SQ8", 9),
        ("factory", 60_000, 384, {"factory": "IVF64,SQ8"}, "IVF64,SQ8", 174762),
    ],
)
def test_rules(kind, rows, dim, given, factory, training_vectors):
    made = recipe(find_kind(kind).kind, rows, dim, dict.fromkeys(BUILD_OPTIONS) | {"seed": 1} | given)
    assert made.factory == factory
    assert made.training_vectors == training_vectors


def test_every_option_of_a_build_has_an_effect(tmp_path):
    """But the threads: they make a graph sooner, and another one each time."""
    changed = {"nlist": 5, "m": 4, "bits": 5, "opq": True, "links": 5, "ef_construction": 7, "training_vectors": 300}
    changed |= {"seed": 5, "factory": "SQ4"}
    assert {*changed, "build_threads"} == set(BUILD_OPTIONS)
    rows = VECTORS[:500]
    for kind, options in {
        "ivf-pq": ("nlist", "m", "bits", "training_vectors", "seed"),
        "hnsw": ("links", "ef_construction"),
    }.items():
        plain = build(kind, tmp_path / kind, rows).manifest.files["whole/ann.faiss"]
        for option in options:
            other = build(kind, tmp_path / f"{kind}-{option}", rows, **{option: changed[option]})
            assert other.manifest.files["whole/ann.faiss"] != plain, option
            assert other.manifest.options[option] == changed[option]
        again = build(kind, tmp_path / f"{kind}-again", rows).manifest.files["whole/ann.faiss"]
        assert again == plain  # the same documents and options, the same bytes
    assert build("factory", tmp_path / "f", rows, factory="SQ4").description["factory"] == "SQ4"


GIVEN = {"corpus": "c", "spec": EncoderSpec("m", dim=DIM, similarity="dot")}


def test_options_that_a_kind_lacks_or_faiss_refuses_are_refused_before_encoding(tmp_path):
    for kind, options, message in [
        ("hnsw", {"nlist": 3}, "hnsw index has no option 'nlist': did you mean 'links'"),
        ("ivf-flat", {"nlist": 0}, "nlist is 0, expected at least 1"),
        ("pq", {"bits": 17}, "bits is 17, expected 1 to 16"),
        ("pq", {"m": 5}, "FAISS does not make 'PQ5x4np' for vectors of 32 dimensions"),
        ("factory", {}, "factory index needs the option 'factory'"),
        ("factory", {"factory": "IVX"}, "FAISS does not make 'IVX'"),
        ("factory", {"factory": "IDMap,Flat"}, "leave IDMap out"),
        ("sq8", {"similarity": "cos"}, "similarity 'cos' is unknown"),
        ("sq8", {"storage": "int8"}, "storage 'int8' is unknown"),
    ]:
        with pytest.raises(UsageError, match=message):
            find_kind(kind).build(tmp_path / "i", iter(lambda: 1 / 0, 1), None, **GIVEN | options)
    assert not (tmp_path / "i").exists()


def test_bytes_per_document_are_counted(tmp_path):
    counts = build("two-level", tmp_path / "i", m=8, bits=8, storage="float16").manifest.counts
    assert counts["ann_bytes_per_document"] == pytest.approx(8 + 256 * DIM * 4 / N, abs=2)
    assert counts["vector_bytes_per_document"] == 2 * DIM


def test_another_encoder_is_refused_with_both_values(tmp_path):
    index = build("pq", tmp_path / "i", VECTORS[:100])
    for call in (lambda spec: open_index(index.path, spec=spec), index.refuse_other_encoder):
        with pytest.raises(InputError, match=r"encoder\.pooling: 'cls' asked for, '' recorded"):
            call(replace(index.manifest.encoder, pooling="cls"))


@pytest.mark.parametrize("kind", ["ivf-pq", "hnsw"])
def test_added_documents_are_found_without_training_again_and_deleted_ones_are_not(tmp_path, kind):
    more = clustered(300, seed=5)
    index = build(kind, tmp_path / "i")
    codes = faiss.downcast_index(index.proposer.index)
    learnt = codes.quantizer.reconstruct_n(0, codes.nlist) if kind == "ivf-pq" else None
    added = [Document(f"n{i:05d}", "new") for i in range(300)]
    add_documents(
        tmp_path / "i",
        lambda: iter(added),
        lambda batch: Dense(more[[int(d.id[1:]) for d in batch]]),
        spec=index.manifest.encoder,
        corpus="more",
    )
    changed = open_index(tmp_path / "i")
    assert changed.proposer.index.ntotal == N + 300
    if learnt is not None:
        after = faiss.downcast_index(changed.proposer.index)
        assert (after.quantizer.reconstruct_n(0, after.nlist) == learnt).all()
    for i, (ids, _) in enumerate(changed.search(Dense(more[:20]), 3, verify=True)):
        assert ids[0] == f"n{i:05d}"
    gone = [f"n{i:05d}" for i in range(10)]
    delete_documents(tmp_path / "i", gone)
    after = open_index(tmp_path / "i")
    assert not {d for ids, _ in after.search(Dense(more[:20]), 50, verify=True) for d in ids} & set(gone)
    assert index.search(Dense(more[:1]), 3)  # who has it open keeps the old one
    compact_index(tmp_path / "i")
    compacted = open_index(tmp_path / "i")
    assert compacted.proposer.index.ntotal == N + 290
    assert [ids[0] for ids, _ in compacted.search(Dense(more[10:20]), 3, verify=True)] == [
        f"n{i:05d}" for i in range(10, 20)
    ]


def test_a_build_from_float16_vectors(tmp_path):
    index = build("sq8", tmp_path / "i", storage="float16")
    ids, scores = index.search(Dense(QUERIES[:1]), 3, verify=True)[0]
    stored = index.vectors(np.array(rows_of(ids))).astype(np.float64)
    assert scores == pytest.approx(stored @ QUERIES[0].astype(np.float64), abs=1e-6)
