"""Building indexes of codes: the bytes, rotations against raw FAISS, options, changes, other binarisers and layouts refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from cribble.errors import InputError, SetupError, UsageError
from cribble.index import binary_files, binary_lists
from cribble.index.binary_options import BINARY_OPTIONS
from cribble.index.binary_writer import WithCodes
from cribble.index.changes import add_documents, compact_index, delete_documents
from cribble.index.durable import file_entry
from cribble.index.manifest import write_manifest
from cribble.index.opening import find_kind, index_kinds, open_index, verify_index
from cribble.registry import entries, find
from cribble.tests.index.ann_builds import DIM, QUERIES, VECTORS, N, clustered, documents
from cribble.tests.index.binary_builds import Recurrent, build, encoding, spec_of, values_of
from cribble.vectors import Dense

faiss = pytest.importorskip("faiss")

ASKED = Dense(QUERIES)
CODES = Recurrent(DIM, 32, 2)
KINDS = ("sign", "lsh", "itq", "bebr")


@pytest.fixture(autouse=True)
def without_sync(monkeypatch):
    """No test here cuts the power."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def all_codes(index) -> np.ndarray:
    return np.concatenate([run.codes for run in index.runs])


@pytest.mark.parametrize(
    ("kind", "options", "size"),
    [
        ("sign", {}, 4),
        ("lsh", {"bits": 72}, 9),
        ("itq", {"bits": 16}, 2),
        ("bebr", {}, 8),
        ("bebr", {"vectors": False}, 8),
    ],
)
def test_codes_take_exactly_their_bits_on_the_disk(tmp_path, kind, options, size):
    index = build(kind, tmp_path / "i", VECTORS[:600], **options)
    files = list((tmp_path / "i").rglob("binary-0.npy"))
    held = sum(np.load(file).nbytes for file in files)
    assert held == 600 * size
    assert all(file.stat().st_size == 128 + np.load(file).nbytes for file in files)
    assert index.manifest.counts["code_bytes_per_document"] == size
    stored = list((tmp_path / "i").rglob("vectors.npy"))
    assert bool(stored) == options.get("vectors", True)
    assert index.manifest.counts.get("vector_bytes_per_document") == (4 * DIM if stored else None)


def big_endian(codes) -> np.ndarray:
    """FAISS's codes, whose first bit is the lowest of the first byte, as ours."""
    return np.packbits(np.unpackbits(codes, axis=1, bitorder="little"), axis=1)


def test_sign_and_lsh_codes_are_faiss(tmp_path):
    """Oracle: `IndexLSH` without and with its rotation, seeded alike."""
    index = build("lsh", tmp_path / "lsh", bits=48, seed=7)
    raw = faiss.IndexLSH(DIM, 48)
    rotation = faiss.downcast_VectorTransform(raw.rrot)
    rotation.init(7)
    assert (all_codes(index) == big_endian(raw.sa_encode(index.vectors(np.arange(N))))).all()
    plain = faiss.IndexLSH(DIM, DIM, False)
    index = build("sign", tmp_path / "sign")
    assert (all_codes(index) == big_endian(plain.sa_encode(index.vectors(np.arange(N))))).all()


@pytest.mark.parametrize("bits", [16, 32])
def test_itq_codes_are_faiss(tmp_path, bits):
    """Oracle: `ITQTransform` on the same sample, which is all vectors here."""
    index = build("itq", tmp_path / "i", bits=bits, seed=3)
    stored = index.vectors(np.arange(N))
    transform = faiss.ITQTransform(DIM, bits, True)
    transform.itq.seed = 3
    transform.max_train_per_dim = 1000
    transform.train(stored)
    lsh = faiss.IndexLSH(bits, bits, False)
    assert (all_codes(index) == big_endian(lsh.sa_encode(transform.apply(stored)))).all()
    assert index.binarisers == [index.binariser.identity]


def test_bebr_codes_are_the_binarisers(tmp_path):
    for vectors in (True, False):
        index = build("bebr", tmp_path / str(vectors), VECTORS, vectors=vectors)
        assert (all_codes(index) == CODES.codes(VECTORS)).all()
    with pytest.raises(UsageError, match="verify needs the vectors, which this index was built without"):
        index.search(ASKED, 3, verify=True)
    with pytest.raises(UsageError, match="built without its vectors"):
        index.vectors(np.arange(3))
    assert [len(ids) for ids, _ in index.search(ASKED, 5, allow=["d00003", "d00004"])] == [2] * len(QUERIES)


def test_every_option_of_a_build_has_an_effect(tmp_path):
    """What it changes: a file, or a count; `structure` and `vectors` are in other tests."""
    rows = VECTORS[:500]
    changed = {"bits": 16, "seed": 5, "training_vectors": 100, "nlist": 3, "links": 5, "ef_construction": 7}
    assert {*changed, "structure", "vectors"} == set(BINARY_OPTIONS)
    for kind, structure, options in [
        ("itq", "flat", ("bits", "seed", "training_vectors")),
        ("lsh", "flat", ("bits", "seed")),
        ("sign", "ivf", ("nlist", "training_vectors", "seed")),
        ("sign", "hnsw", ("links", "ef_construction")),
    ]:
        given = {"nlist": 8} if structure == "ivf" else {}
        plain = build(kind, tmp_path / f"{kind}{structure}", rows, structure=structure, **given).manifest
        again = build(kind, tmp_path / f"{kind}{structure}-again", rows, structure=structure, **given).manifest
        assert plain.files == again.files  # the same documents and options, the same bytes
        for option in options:
            path = tmp_path / f"{kind}{structure}-{option}"
            other = build(kind, path, rows, structure=structure, **(given | {option: changed[option]})).manifest
            assert other.files != plain.files, option
            assert other.options[option] == changed[option]


def test_options_that_do_not_fit_are_refused_before_encoding(tmp_path):
    for kind, options, message in [
        ("sign", {"bits": 64}, "sign index of structure flat has no option 'bits'"),
        ("sign", {"nlist": 4}, "sign index of structure flat has no option 'nlist'"),
        ("lsh", {"structure": "ivf", "links": 4}, "lsh index of structure ivf has no option 'links'"),
        ("lsh", {"structure": "ivff"}, "structure 'ivff' is unknown: did you mean 'ivf'"),
        ("lsh", {"bits": 12}, "a code's width is 12, expected a multiple of 8"),
        ("lsh", {"bits": 0}, "bits is 0, expected at least 1"),
        ("itq", {"bits": 64}, "bits is 64, expected at most the 32 dimensions"),
        ("itq", {"vectors": False}, "learnt from the stored vectors"),
        ("bebr", {}, "nothing says how vectors become codes: name a binariser"),
        ("sign", {"similarity": "l2"}, "compared by dot or cosine, not by l2"),
        ("sign", {"storage": "int8"}, "storage 'int8' is unknown"),
    ]:
        with pytest.raises(UsageError, match=message):
            find_kind(kind).build(
                tmp_path / "i", iter(lambda: 1 / 0, 1), None, **{"corpus": "c", "spec": spec_of(VECTORS)} | options
            )
    with pytest.raises(UsageError, match="a graph takes 1 bit a coordinate, these codes have 2"):
        build("bebr", tmp_path / "i", structure="hnsw")
    assert not (tmp_path / "i").exists()


def test_every_kind_is_searched_by_a_retriever():
    searched = {kind for name in entries("retrievers") for kind in getattr(find("retrievers", name), "index_kinds", ())}
    assert set(index_kinds()) <= searched


# ---- who made the codes, and how they lie -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (replace(CODES, seed=1), "binariser.sha256: 'weights 1' asked for, 'weights 0' recorded"),
        (replace(CODES, width=24), "binariser.width: 24 asked for, 32 recorded"),
        (replace(CODES, planes=3), "binariser.planes: 3 asked for, 2 recorded"),
    ],
)
def test_another_binariser_is_refused_with_both_values(tmp_path, other, said):
    index = build("bebr", tmp_path / "i", VECTORS[:100])
    for call in (
        partial(open_index, index.path, binariser=other),
        partial(index.use, other),
        lambda: add(index, other),
    ):
        with pytest.raises(InputError, match=r"made by another binariser \(.*" + said):
            call()
    with pytest.raises(UsageError, match="queries need the binariser that made the codes"):
        open_index(index.path).search(ASKED, 3)
    assert len(open_index(index.path, binariser=CODES).search(ASKED, 3)) == len(QUERIES)


def test_an_interrupted_build_goes_on_with_its_binariser_only(tmp_path):
    def broken(batch):
        if batch[0].id == "d00512":
            raise OSError("away")
        return Dense(VECTORS[[int(d.id[1:]) for d in batch]])

    with pytest.raises(OSError, match="away"):
        find_kind("bebr").build(
            tmp_path / "i",
            documents(N),
            WithCodes(broken, CODES),
            spec=spec_of(VECTORS),
            corpus="c",
            shard_documents=512,
        )
    with pytest.raises(SetupError, match=r"options.binariser: .*'weights 1'.* asked for, .*'weights 0'.* recorded"):
        build("bebr", tmp_path / "i", binariser=replace(CODES, seed=1))
    assert (all_codes(build("bebr", tmp_path / "i")) == CODES.codes(VECTORS)).all()


def rewritten(index, change):
    """The index with its descriptions of codes changed, and a manifest that fits."""
    files = dict(index.manifest.files)
    for name in [name for name in files if name.endswith(binary_files.DESCRIPTION)]:
        file = index.path / name
        said = json.loads(file.read_text())
        change(said)
        file.write_text(json.dumps(said))
        files[name] = file_entry(file)
    write_manifest(index.path, replace(index.manifest, files=files))
    return open_index(index.path)


def test_another_layout_is_refused_with_both_values(tmp_path):
    for kind in ("sign", "itq"):
        index = build(kind, tmp_path / kind, VECTORS[:100])
        with pytest.raises(SetupError, match=r"'.* little-endian', expected 'planes, most .*; bits big-endian'"):
            rewritten(index, lambda said: said.update(layout="planes; bits little-endian")).search(ASKED, 3)
    index = build("sign", tmp_path / "size", VECTORS[:100])
    with pytest.raises(SetupError, match=r"uint8 of shape \(100, 4\), expected uint8 of \(100, 8\)"):
        rewritten(index, lambda said: said["runs"][0].update(planes=2)).search(ASKED, 3)
    index = build("sign", tmp_path / "rows", VECTORS[:100])
    with pytest.raises(InputError, match="codes of 0 documents, expected 100"):
        rewritten(index, lambda said: said.update(runs=[])).search(ASKED, 3)


# ---- changes ----------------------------------------------------------------------------------------------------------


def add(index, binariser=None, vectors=VECTORS[:1]):
    more = [d._replace(id=f"n{i:05d}") for i, d in enumerate(documents(len(vectors)))]
    encode = encoding(vectors, binariser)
    return add_documents(index.path, lambda: iter(more), encode, spec=index.manifest.encoder, corpus="more")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("sign", {}),
        ("lsh", {"bits": 48, "vectors": False}),
        ("itq", {"bits": 24}),
        ("bebr", {}),
        ("bebr", {"structure": "ivf", "nlist": 16, "vectors": False}),
        ("sign", {"structure": "hnsw"}),
    ],
)
def test_changes_equal_a_build_of_what_remains(tmp_path, kind, options):
    """Oracle: after all changes, every code is what the binariser says of that document, and so is every result."""
    more = clustered(300, seed=5)
    index = build(kind, tmp_path / "i", **options)
    binariser = index.binariser
    everywhere = {"nprobe": 16} if "nlist" in options else {}
    own = {"binariser": binariser} if kind == "bebr" else {}
    add(index, binariser if kind == "bebr" else None, more)
    vectors = np.concatenate([VECTORS, more])
    assert (all_codes(open_index(index.path)) == binariser.codes(vectors)).all()
    gone = [f"d{i:05d}" for i in range(0, N, 3)] + [f"n{i:05d}" for i in range(5)]
    kept = np.array([i % 3 > 0 for i in range(N)] + [i >= 5 for i in range(300)])
    delete_documents(index.path, gone)
    for compacted in (False, True):
        if compacted:
            compact_index(index.path)
        changed = open_index(index.path, **own)
        verify_index(index.path)
        if compacted:  # itq has learnt anew from what remains
            assert (all_codes(changed) == changed.binariser.codes(vectors[kept])).all()
        found = changed.search(Dense(more[:20]), 5, **everywhere)
        assert not {doc_id for ids, _ in found for doc_id in ids} & set(gone)
        assert [scores[0] for _, scores in found[5:]] == pytest.approx([1.0] * 15)  # itself, or one of the same code


def test_rows_of_several_binarisers_are_searched_together(tmp_path):
    """A newer binariser that is compatible, of more bits; oracle: the products of the values in numpy."""
    new = replace(CODES, planes=3, compatible_with=(CODES.identity["sha256"],))
    newer = Newer(new)
    more = clustered(700, seed=5)
    for structure in ("flat", "ivf"):
        options = {"structure": structure} | ({"nlist": 4} if structure == "ivf" else {})
        index = build("bebr", tmp_path / structure, VECTORS[:900], shard_documents=200, **options)
        with pytest.raises(InputError, match="another binariser"):
            index.use(replace(new, compatible_with=()))
        add(index, newer, more)
        delete_documents(index.path, [f"d{i:05d}" for i in range(0, 900, 7)] + ["n00003"])
        for compacted in (False, True):
            if compacted:
                compact_index(index.path)
            changed = open_index(index.path, binariser=newer)
            assert [b["planes"] for b in changed.binarisers] == [2, 3]
            with pytest.raises(InputError, match=r"binariser.planes: 2 asked for, 3 recorded"):
                changed.use(CODES)
            asked = values_of(newer.codes(QUERIES), 32, 3)
            there = np.concatenate(
                [values_of(CODES.codes(VECTORS[:900]), 32, 2), values_of(newer.codes(more), 32, 3)]
            )  # fmt: skip
            scores = (asked @ there.T) / np.linalg.norm(there, axis=1) / np.linalg.norm(asked, axis=1)[:, None]
            ids = np.array([f"d{i:05d}" for i in range(900)] + [f"n{i:05d}" for i in range(700)])
            gone = np.isin(ids, [f"d{i:05d}" for i in range(0, 900, 7)] + ["n00003"])
            scores[:, gone] = -np.inf
            for (found, mine), line in zip(
                changed.search(ASKED, 30, **({"nprobe": 4} if structure == "ivf" else {})), scores, strict=True
            ):
                assert mine == pytest.approx(np.sort(line)[::-1][:30], abs=1e-6)
                assert mine == pytest.approx(line[np.searchsorted(ids, found)], abs=1e-6)


class Newer:
    """A binariser under another sum of its weights."""

    def __init__(self, codes):
        self.codes = codes.codes
        self.compatible_with = codes.compatible_with
        self.identity = {**codes.identity, "sha256": "newer weights"}


def test_lists_and_graphs_go_by_stated_rules(tmp_path):
    index = build("sign", tmp_path / "i", structure="ivf")
    centroids = np.load(index.whole / binary_lists.CENTROIDS)
    assert len(centroids) == 32  # 4 · sqrt(2000) is 179, but 39 codes a list leave 51
    assert np.linalg.norm(centroids, axis=1) == pytest.approx(np.ones(32), abs=1e-6)
    probed = index._lists.probed(centroids, 10, 1.0, None)
    assert probed.lists.shape == (32, 15)  # 2.5 · sqrt(32)
    assert probed.lists[:, 0].tolist() == list(range(32))
    assert index._lists.probed(centroids, 10, 0.5, None).lists.shape == (32, 30)
