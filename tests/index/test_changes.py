"""A changed index equals one that is built of what remains; and what a change refuses."""

from __future__ import annotations

import gc
import json
import logging
import os
import random
from dataclasses import replace

import numpy as np
import pytest
from cribble.errors import InputError, SetupError, UsageError
from cribble.index import shards as shards_module
from cribble.index.changes import compact_index, delete_documents, tidy
from cribble.index.flat import FlatIndex
from cribble.index.manifest import write_manifest
from cribble.index.opening import open_index, verify_index
from cribble.records import DescribedDocument, Document, metadata_of
from cribble.tests.index.builds import SPEC, build_flat, encode, encode_texts, make_documents
from cribble.tests.index.changing import add, tree

DOCUMENTS = make_documents(40)


@pytest.fixture(autouse=True)
def without_sync(monkeypatch):
    """No test here cuts the power, and syncing takes most of the time."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


QUERIES = encode_texts([d.full_text for d in DOCUMENTS[:6]] + ["sea", "木 moss"])


def described(documents):
    return [
        DescribedDocument.of(d, {"year": 1990 + len(d.text) % 30, "even": i % 2 == 0}) for i, d in enumerate(documents)
    ]


def same(one, other, **filters):
    """Documents, texts, metadata and rankings to the last bit."""
    assert list(one.texts) == list(other.texts)
    assert (one.manifest.documents, one.manifest.fingerprint) == (other.manifest.documents, other.manifest.fingerprint)
    for k in (1, 7, 200):
        for a, b in zip(one.search(QUERIES, k, **filters), other.search(QUERIES, k, **filters), strict=True):
            assert a.ids.tolist() == b.ids.tolist()
            assert a.scores.tolist() == b.scores.tolist()


@pytest.mark.parametrize("seed", range(4))
def test_random_changes_equal_a_build_of_what_remains(tmp_path, seed):
    """Oracle: a build from scratch; no tolerance."""
    rng = random.Random(seed)
    now = described(DOCUMENTS)
    build_flat(tmp_path / "i", now, shard_documents=8)
    for step in range(7):
        operation = rng.choice(["add", "add", "replace", "delete", "delete", "compact"])
        if operation == "delete" and len(now) > 12:
            gone = {d.id for d in rng.sample(now, rng.randint(1, 10))}
            assert delete_documents(tmp_path / "i", gone).deleted == len(gone)
            now = [d for d in now if d.id not in gone]
        elif operation == "compact":
            assert compact_index(tmp_path / "i").manifest.rows == len(now)
        else:
            new = described(d._replace(id=f"{step} {d.id}") for d in make_documents(rng.randint(1, 20)))
            if operation == "replace":
                again = rng.sample(now, 3)
                new += [d._replace(text=f"{d.text} again") for d in again]
                now = [d for d in now if d not in again]
            change = add(tmp_path / "i", new, corpus=f"corpus {step}", replacing=operation == "replace")
            assert (change.added, change.replaced) == (len(new), 3 if operation == "replace" else 0)
            now = now + new
    index = open_index(tmp_path / "i", verify=True)
    scratch = build_flat(tmp_path / "scratch", now, shard_documents=8)
    same(index, scratch)
    same(index, scratch, where="year > 2005 or even", deny=[now[0].id])
    assert index.manifest.counts == scratch.manifest.counts
    assert {d.id for d in index.texts} == {d.id for d in now}
    assert index.texts.get_many([d.id for d in now]) == {d.id: d for d in now}
    assert not any(d.id in index.texts for d in DOCUMENTS if d.id not in {d.id for d in now})
    verify_index(tmp_path / "i")
    compacted = compact_index(tmp_path / "i").manifest
    assert compacted.rows == compacted.documents == len(now)
    same(open_index(tmp_path / "i"), scratch)


def test_a_build_and_each_change_is_a_generation(tmp_path):
    first = build_flat(tmp_path / "i", DOCUMENTS).manifest
    assert json.loads((tmp_path / "i" / "manifest.json").read_text())["format"] == 1
    changed = delete_documents(tmp_path / "i", ["d1"]).manifest
    assert (changed.generation, changed.documents, changed.rows) == (1, 39, 40)
    assert changed.plan == first.plan
    assert json.loads((tmp_path / "i" / "manifest.json").read_text())["format"] == 2
    assert open_index(tmp_path / "i").manifest == changed
    again = add(tmp_path / "i", DOCUMENTS[1:2], corpus="again").manifest
    assert (again.generation, again.added) == (2, ["again"])
    assert sum(entry["bytes"] for entry in again.files.values()) == again.bytes
    assert compact_index(tmp_path / "i").manifest.generation == 3
    assert compact_index(tmp_path / "i").manifest.generation == 3  # nothing to gain


def test_readers_keep_their_generation_also_in_files_that_they_have_not_opened(tmp_path):
    build_flat(tmp_path / "i", DOCUMENTS, shard_documents=4)
    reader = open_index(tmp_path / "i")
    texts = open_index(tmp_path / "i").texts  # the store alone holds it as well
    delete_documents(tmp_path / "i", [f"d{i}" for i in range(0, 40, 3)])
    compact_index(tmp_path / "i")
    gc.collect()
    tidy(tmp_path / "i")
    assert len(open_index(tmp_path / "i")) == 26
    assert len(reader.search(QUERIES, 100)[0].ids) == 40
    assert list(reader.texts) == list(texts) == DOCUMENTS
    assert (tmp_path / "i" / "shards" / "00000").exists()
    del reader, texts
    gc.collect()
    tidy(tmp_path / "i")
    assert not (tmp_path / "i" / "shards").exists()
    assert {name.partition("/")[0] for name in tree(tmp_path / "i")} == {
        *("manifest.json", "plan.json", "shards-00002", "whole-00002")
    }


def test_what_changes_refuse(tmp_path):
    path = tmp_path / "i"
    build_flat(path, DOCUMENTS)
    with pytest.raises(InputError, match=r"2 of 3 documents have ids that are in the index already \('d3', 'd4'\)"):
        add(path, [*DOCUMENTS[3:5], Document("x", "sea")])
    with pytest.raises(InputError, match="'x' occurs more than once"):
        add(path, [Document("x", "sea"), Document("x", "moss")])
    with pytest.raises(InputError, match="no documents"):
        add(path, [])
    with pytest.raises(InputError, match=r"another encoder .*encoder.revision: 'r2' asked for, 'r1' recorded"):
        add(path, DOCUMENTS, spec=replace(SPEC, revision="r2"))
    with pytest.raises(InputError, match=r"2 of 3 ids are not in the index \('x', 'y'\)"):
        delete_documents(path, ["d1", "x", "y"])
    change = delete_documents(path, ["d1", "x", "y", "d1"], ignore_unknown=True)
    assert (change.deleted, change.unknown) == (1, 2)
    with pytest.raises(InputError, match="1 of 1 ids are not in the index"):
        delete_documents(path, ["d1"])
    assert delete_documents(path, ["d1"], ignore_unknown=True).manifest.generation == 1
    with pytest.raises(SetupError, match="no such folder"):
        compact_index(tmp_path / "nothing")
    assert len(open_index(path)) == 39


def test_everything_can_be_deleted_and_added_again(tmp_path):
    path = tmp_path / "i"
    build_flat(path, DOCUMENTS[:5])
    delete_documents(path, [d.id for d in DOCUMENTS[:5]])
    empty = open_index(path)
    assert len(empty) == len(empty.texts) == 0
    assert [len(ids) for ids, _ in empty.search(QUERIES, 5)] == [0] * len(QUERIES)
    with pytest.raises(UsageError, match="all documents are deleted"):
        compact_index(path)
    add(path, DOCUMENTS[:5])
    compact_index(path)
    same(open_index(path), build_flat(tmp_path / "j", DOCUMENTS[:5]))


def test_a_changed_index_is_built_over_without_a_trace(tmp_path):
    path = tmp_path / "i"
    build_flat(path, DOCUMENTS)
    delete_documents(path, ["d1"])
    add(path, [Document("x", "sea")])
    with pytest.raises(SetupError, match="an index is here already"):
        build_flat(path, DOCUMENTS)
    build_flat(path, DOCUMENTS, overwrite=True)
    build_flat(tmp_path / "j", DOCUMENTS)
    assert tree(path) == tree(tmp_path / "j")
    same(open_index(path), open_index(tmp_path / "j"))


def test_dry_runs_change_nothing(tmp_path):
    path = tmp_path / "i"
    build_flat(path, DOCUMENTS)
    delete_documents(path, ["d1"])
    before = tree(path), (path / "manifest.json").read_bytes()
    assert delete_documents(path, ["d2", "d3"], dry_run=True).deleted == 2
    assert compact_index(path, dry_run=True).deleted == 1
    assert (tree(path), (path / "manifest.json").read_bytes()) == before


def test_counts_are_those_of_the_documents_that_are_left(tmp_path, caplog):
    path = tmp_path / "i"
    with caplog.at_level(logging.WARNING, "cribble"):
        build_flat(path, [*DOCUMENTS[:10], Document("e1", ""), Document("e2", " "), Document("e3", "")])
    counts = delete_documents(path, ["e1", "d1", "e3"]).manifest.counts
    assert counts == {"empty_texts": 1, "zero_vectors": 1}
    assert compact_index(path).manifest.counts == counts


def test_truncated_texts_are_counted_for_what_is_stored(tmp_path):
    """Which documents were truncated is not recorded, so deleting one does not lower the count."""
    cut = [3]
    build_flat(
        tmp_path / "i",
        DOCUMENTS,
        lambda batch: cut.__setitem__(0, cut[0] + 1) or encode(batch),
        truncated=lambda: cut[0],
    )
    assert verify_index(tmp_path / "i").counts["truncated_texts"] == 3
    assert delete_documents(tmp_path / "i", ["d1", "d20"]).manifest.counts["truncated_texts"] == 3
    assert compact_index(tmp_path / "i").manifest.counts["truncated_texts"] == 3


def test_compacting_keeps_full_shards_and_joins_small_ones(tmp_path, monkeypatch):
    path = tmp_path / "i"
    build_flat(path, DOCUMENTS, shard_documents=10)
    for i in range(4):
        add(path, [Document(f"n{i}", "sea")], corpus=f"c{i}")
    delete_documents(path, ["d25"])
    manifest = compact_index(path).manifest
    assert manifest.folders[:2] == ["shards/00000", "shards/00001"]
    assert manifest.shards == [10, 10, 9, 10, 4]
    assert compact_index(path).manifest == manifest
    monkeypatch.setattr(shards_module, "SHARD_CHARACTERS", 300)  # bytes here: long documents close a shard early
    delete_documents(path, ["d0"])
    assert max(compact_index(path).manifest.shards) <= 10
    verify_index(path)


def test_tampered_tombstones_are_refused(tmp_path):
    path = tmp_path / "i"
    build_flat(path, DOCUMENTS)
    delete_documents(path, ["d1", "d2"])
    file = path / "deleted-00001.npy"
    np.save(file, np.array([1, 3], np.int64))
    with pytest.raises(SetupError, match="deleted-00001"):
        open_index(path)
    manifest = verify_index(build_flat(tmp_path / "j", DOCUMENTS).path)
    write_manifest(tmp_path / "j", replace(manifest, documents=39))
    with pytest.raises(SetupError, match="40 rows and 0 deleted ones do not make 39 documents"):
        FlatIndex.open(tmp_path / "j")
    write_manifest(tmp_path / "j", replace(manifest, generation=1, folders=["../x"]))
    with pytest.raises(InputError, match="lies outside the index"):
        FlatIndex.open(tmp_path / "j")


def test_metadata_goes_along(tmp_path):
    path = tmp_path / "i"
    build_flat(path, DOCUMENTS)  # without any
    with pytest.raises(UsageError, match="no document of the index has metadata"):
        open_index(path).search(QUERIES, 5, where="year > 2000")
    new = [DescribedDocument.of(Document(f"n{i}", "sea"), {"year": 2000 + i}) for i in range(5)]
    add(path, new)
    delete_documents(path, ["n3"])
    compact_index(path)
    index = open_index(path)
    assert set(index.search(QUERIES, 50, where="year >= 2002")[0].ids) == {"n2", "n4"}
    assert len(index.search(QUERIES, 50, where="year is null")[0].ids) == 40
    assert metadata_of(next(iter(index.texts))) == {}


def test_a_lucene_index_can_not_be_changed(tmp_path):
    pytest.importorskip("pyserini")
    from cribble.index.lucene import LuceneIndex

    LuceneIndex.build(tmp_path / "i", DOCUMENTS, corpus="c")
    with pytest.raises(UsageError, match="an index of the kind 'lucene' can't be changed: build it again"):
        delete_documents(tmp_path / "i", ["d1"])
