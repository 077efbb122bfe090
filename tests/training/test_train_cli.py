"""`cribble train bebr` over a real index folder, and the index that its binariser makes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from cribble.cli import app
from cribble.commands.training import train_bebr_model
from cribble.corpora import load_dataset
from cribble.errors import InputError, SetupError, UsageError
from cribble.index.binary_writer import WithCodes
from cribble.index.flat import FlatIndex
from cribble.index.opening import find_kind
from cribble.records import Document
from cribble.tests.training.test_bebr import clustered, overlap
from cribble.vectors import Dense, EncoderSpec
from typer.testing import CliRunner


def flat(folder: Path, vectors: np.ndarray, spec: EncoderSpec | None = None, **options: object) -> FlatIndex:
    documents = [Document(f"d{i}", f"text {i}") for i in range(len(vectors))]
    spec = spec or EncoderSpec(model="given", dim=vectors.shape[1], normalised=True)

    def encode(batch: list[Document]) -> Dense:
        return Dense(vectors[[int(document.id[1:]) for document in batch]])

    return FlatIndex.build(folder, documents, encode, spec=spec, corpus="test", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train") / "flat"
    flat(folder, clustered(600))
    return folder


def train(vectors: Path, out: Path, queries: str | None = None, **options: object) -> dict[str, object]:
    given = {"bits": 64, "epochs": 1, **options}
    return train_bebr_model(vectors, out, given, queries=queries, overwrite=False, dry_run=False).results


def test_the_command_trains_and_the_index_searches(index: Path, tmp_path: Path) -> None:
    command = ["train", "bebr", "--vectors", str(index), "--out", str(tmp_path / "m"), "--set", "bits=96"]
    planned = CliRunner().invoke(app, [*command, "--set", "epochs=2", "--dry-run", "--json"])
    assert json.loads(planned.stdout)["results"]["bytes"] == 12
    assert not (tmp_path / "m").exists()
    done = CliRunner().invoke(app, [*command, "--set", "epochs=2", "--json"])
    results = json.loads(done.stdout)["results"]
    assert (results["width"], results["planes"], results["vectors"]) == (32, 3, 600)
    assert results["fidelity"] > 0.5
    from cribble.models.recurrent_binarisation import RecurrentBinariser

    made = RecurrentBinariser.load(tmp_path / "m")
    vectors = clustered(600)
    documents = [Document(f"d{i}", f"text {i}") for i in range(600)]
    rows = {document.id: row for row, document in enumerate(documents)}
    encode = WithCodes(lambda batch: Dense(vectors[[rows[d.id] for d in batch]]), made)
    spec = EncoderSpec(model="given", dim=48, normalised=True)
    codes = find_kind("bebr").build(tmp_path / "codes", documents, encode, spec=spec, corpus="test")
    found = codes.search(Dense(vectors[:20]), 10)
    values = made.values(vectors)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    for row, ranking in enumerate(found):
        np.testing.assert_allclose(ranking.scores, -np.sort(-(unit[row] @ unit.T))[:10], rtol=1e-6)


def test_deleted_documents_are_left_out_and_samples_drawn(index: Path, tmp_path: Path) -> None:
    from cribble.index.changes import delete_documents

    flat(tmp_path / "some", clustered(600))
    delete_documents(tmp_path / "some", ["d3", "d77"])
    assert train(tmp_path / "some", tmp_path / "a")["vectors"] == 598
    assert train(index, tmp_path / "b", sample=300)["vectors"] == 300


def test_a_compatible_binariser_of_another_index(index: Path, tmp_path: Path) -> None:
    """The new index has other vectors, and one document more and in another order."""
    train(index, tmp_path / "old")
    rng = np.random.default_rng(0)
    turned = clustered(600) @ np.linalg.qr(rng.standard_normal((48, 48)))[0].astype(np.float32)
    flat(tmp_path / "new", np.concatenate([turned, turned[:1]]))
    options = {"compatible_with": str(tmp_path / "old"), "old_vectors": str(index), "bits": None, "width": 32}
    found = train(tmp_path / "new", tmp_path / "m", **options)
    assert found["vectors"] == 600
    assert len(found["compatible_with"]) == 1  # type: ignore[arg-type]
    from cribble.models.recurrent_binarisation import RecurrentBinariser

    old, new = (RecurrentBinariser.load(tmp_path / name) for name in ("old", "m"))
    true = clustered(600) @ clustered(600).T
    here = overlap(new.values(turned), old.values(clustered(600)), true)
    assert here > overlap(old.values(clustered(600)), old.values(clustered(600)), true) - 0.05


def test_wrong_folders_and_options_are_refused(index: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no option 'bit'"):
        train(index, tmp_path / "m", bit=3)
    with pytest.raises(UsageError, match="epochs"):
        train(index, tmp_path / "m", epochs="many")
    with pytest.raises(UsageError, match="old_vectors has no effect"):
        train(index, tmp_path / "m", old_vectors=str(index))
    with pytest.raises(InputError, match=r"no binariser.json"):
        train(index, tmp_path / "m", compatible_with=str(tmp_path))
    flat(tmp_path / "l2", clustered(100), similarity="l2")
    with pytest.raises(UsageError, match="compared by l2"):
        train(tmp_path / "l2", tmp_path / "m")
    with pytest.raises(SetupError, match=r"no manifest.json"):
        train(tmp_path, tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.real
@pytest.mark.skipif("CRIBBLE_DATA" not in os.environ, reason="CRIBBLE_DATA names no folder of collections")
def test_codes_of_real_vectors_rank_nearer_to_them_than_signs(tmp_path: Path) -> None:
    """MiniLM's vectors of 1,000 captions and 150 other captions that ask, at a sign code's bytes; oracle: the float ranking."""
    from cribble.models.encoder import Encoder
    from cribble.models.recurrent_binarisation import RecurrentBinariser

    data = load_dataset(f"beir:{os.environ['CRIBBLE_DATA']}/flickr8k-captions")
    encoder = Encoder()
    vectors = encoder.encode_documents(list(data.documents())[:1000]).values
    queries = encoder.encode_queries([query.text for query in data.queries[:150]]).values
    flat(tmp_path / "flat", vectors, encoder.spec)
    train(tmp_path / "flat", tmp_path / "m", bits=384, epochs=3)
    made, true = RecurrentBinariser.load(tmp_path / "m"), queries @ vectors.T
    signs = overlap(np.sign(queries), np.sign(vectors), true)
    assert overlap(made.values(queries), made.values(vectors), true) > signs + 0.03
    train(tmp_path / "flat", tmp_path / "q", queries="sample:stdlib", bits=384, epochs=1)
    asked = RecurrentBinariser.load(tmp_path / "q")
    assert asked.training["facts"]["queries"] == "sample:stdlib"
    assert asked.sha256 != made.sha256
