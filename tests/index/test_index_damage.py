"""Opening refuses what is not whole: a flipped byte in any file, a missing or cut one, another encoder or layout."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cribble.errors import InputError, SetupError
from cribble.index import manifest as manifest_module
from cribble.index.flat import FlatIndex
from cribble.index.manifest import Plan, read_manifest, write_manifest
from cribble.index.opening import open_index, verify_index
from cribble.tests.index.builds import SPEC, build_flat, make_documents


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("damage") / "index"
    build_flat(path, make_documents(40))
    return path


@pytest.fixture
def copy(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "index"))


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x01
    file.write_bytes(data)


FILES = [
    "manifest.json",
    "shards/00000/vectors.npy",
    "shards/00001/texts.bin",
    "shards/00001/texts.npy",
    "shards/00002/ids.bin",
    "shards/00002/ids.npy",
    "shards/00000/shard.json",
    "whole/ids.bin",
    "whole/ids.npy",
    "whole/ids.hashes.npy",
    "whole/ids.rows.npy",
    "whole/max_norm.npy",
]


def test_the_table_above_names_every_type_of_file(whole):
    names = {p.name for p in whole.rglob("*") if p.is_file()} - {"plan.json"}  # only an unfinished build reads the plan
    assert {Path(name).name for name in FILES} == names


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_is_refused_by_name(copy, name):
    flip(copy / name)
    with pytest.raises(SetupError, match="overwrite") as caught:
        open_index(copy)
    assert str(copy / name) in str(caught.value)
    if name != "manifest.json":
        assert "SHA-256" in str(caught.value)
        recorded = read_manifest(copy).files[name]["sha256"]
        assert recorded in str(caught.value)
        with pytest.raises(SetupError, match="SHA-256"):
            verify_index(copy)


@pytest.mark.parametrize("position", range(0, 2000, 37))
def test_a_flipped_byte_anywhere_in_the_manifest_is_refused(copy, position):
    data = bytearray((copy / "manifest.json").read_bytes())
    data[position] ^= 0x04
    (copy / "manifest.json").write_bytes(data)
    with pytest.raises(SetupError):
        open_index(copy)


def test_a_flipped_byte_in_a_plan_stops_the_resumption(tmp_path):
    path = tmp_path / "index"
    with pytest.raises(ZeroDivisionError):
        build_flat(path, make_documents(40), lambda batch: 1 // 0)
    (path / "plan.json").write_bytes((path / "plan.json").read_bytes()[:-9])
    with pytest.raises(SetupError, match=r"plan\.json: damaged"):
        build_flat(path, make_documents(40))
    build_flat(path, make_documents(40), overwrite=True)


@pytest.mark.parametrize("name", ["shards/00000/vectors.npy", "whole/ids.npy"])
def test_cut_and_missing_files_are_always_refused(copy, name):
    data = (copy / name).read_bytes()
    (copy / name).write_bytes(data[:-1])
    with pytest.raises(SetupError, match=f"{len(data) - 1:,} bytes, expected {len(data):,}"):
        FlatIndex.open(copy, verify=False)
    (copy / name).unlink()
    with pytest.raises(SetupError, match="cannot be read"):
        FlatIndex.open(copy, verify=False)


def test_large_indexes_are_read_through_only_on_demand(copy, monkeypatch):
    flip(copy / "shards/00000/texts.bin")
    monkeypatch.setattr(manifest_module, "VERIFIED_BYTES", 100)
    FlatIndex.open(copy)
    with pytest.raises(SetupError, match="SHA-256"):
        FlatIndex.open(copy, verify=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "other"),
        ("revision", "r2"),
        ("query_prompt", "search: "),
        ("document_prompt", "passage: "),
        ("pooling", "cls"),
        ("dim", 32),
        ("dtype", "bfloat16"),
        ("max_length", 128),
        ("normalised", True),
        ("similarity", "dot"),
        ("extra", {"layers": 3}),
    ],
)
def test_another_encoder_is_refused_with_both_values(whole, field, value):
    other = replace(SPEC, **{field: value})
    if field == "model":
        assert FlatIndex.open(whole, spec=other)  # the same weights under another folder's name
        other = replace(other, revision="")
    with pytest.raises(InputError, match="made by another encoder") as caught:
        FlatIndex.open(whole, spec=other)
    # What has no field of its own is named by itself.
    named = {"layers": (3, None)} if field == "extra" else {field: (value, getattr(SPEC, field))}
    for name, (asked, recorded) in named.items():
        assert f"encoder.{name}: {asked!r} asked for, {recorded!r} recorded" in str(caught.value)


def test_the_recorded_encoder_is_accepted(whole):
    index = FlatIndex.open(whole, spec=SPEC)
    assert index.manifest.encoder == SPEC


def test_an_unknown_layout_version_is_refused(copy):
    data = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**data, "format": 99}))
    with pytest.raises(SetupError, match="layout version 99, this cribble reads 1"):
        open_index(copy)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "shards/../../secret", "link/secret", ""])
def test_file_names_cannot_leave_the_folder(copy, name):
    (copy.parent / "secret").write_text("x")
    (copy / "link").symlink_to(copy.parent)
    manifest = read_manifest(copy)
    write_manifest(copy, replace(manifest, files={**manifest.files, name: {"bytes": 1, "sha256": "0"}}))
    with pytest.raises(InputError, match="lies outside the index"):
        open_index(copy)


def test_unknown_kind_names_the_known_ones(copy):
    manifest = read_manifest(copy)
    write_manifest(copy, replace(manifest, plan=replace(manifest.plan, kind="flatt")))
    with pytest.raises(SetupError, match="did you mean 'flat'"):
        open_index(copy)
    with pytest.raises(InputError, match="kind 'flatt', expected 'flat'"):
        FlatIndex.open(copy)


def test_where_there_is_no_index_the_error_says_what_is_near(whole, tmp_path):
    with pytest.raises(SetupError, match="no such folder: did you mean 'index'"):
        open_index(whole.parent / "indexx")
    with pytest.raises(SetupError, match=r"no index here .*it holds the indexes index"):
        open_index(whole.parent)
    with pytest.raises(SetupError, match="build one with"):
        open_index(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(SetupError, match="a file, not an index folder"):
        open_index(tmp_path / "file")


def test_manifest_and_plan_say_the_same_after_reading(whole):
    manifest = read_manifest(whole)
    assert manifest.plan == Plan(
        "flat", "made", 16, {"similarity": "cosine", "storage": "float32", "codes": False}, SPEC
    )
    assert manifest.documents == 40
    assert manifest.shards == [16, 16, 8]
    assert manifest.counts == {"empty_texts": 0, "zero_vectors": 0}
    assert {"cribble", "numpy"} <= set(manifest.versions)
    assert manifest.bytes == sum(p.stat().st_size for p in whole.rglob("*") if p.is_file()) - sum(
        (whole / name).stat().st_size for name in ("plan.json", "manifest.json")
    )
    assert np.load(whole / "whole" / "max_norm.npy")[0] == pytest.approx(1, abs=1e-6)
