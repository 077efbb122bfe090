"""The dense retriever over encoders that are cut: what the index records, refuses, and finds."""

from __future__ import annotations

import numpy as np
import pytest
from cribble.corpora.dataset import Dataset
from cribble.errors import InputError, SetupError
from cribble.models.encoder import Encoder
from cribble.records import Document, Query
from cribble.retrievers.dense import DenseRetriever

WORDS = ("river", "mountain", "the cat and the dog", "a bird", "neural search over passages", "fire and water")
OPTIONS = {"layer": 1, "dim": 8, "pooling": "mean"}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from cribble.tests.models.conftest import save_encoder

    return save_encoder(tmp_path_factory.mktemp("models") / "small", "bert", "cls", normalise=True)


@pytest.fixture(scope="module")
def data():
    documents = [Document(str(i), text) for i, text in enumerate(WORDS)]
    return Dataset("test", [Query("q", "the dog")], open_documents=lambda: iter(documents))


@pytest.fixture(scope="module")
def index(tmp_path_factory, model, data):
    path = tmp_path_factory.mktemp("index") / "cut"
    DenseRetriever.build(data, path, model=str(model), **OPTIONS)
    return path


def test_a_cut_index_is_searched_by_its_cut_encoder(index, data, model):
    """Scores against the encoder's own vectors, by numpy."""
    dense = DenseRetriever(index, device="cpu")
    run = dense(data)
    encoder = Encoder(model, device="cpu", **OPTIONS)
    documents = encoder.encode_documents(list(data.documents())).values
    scores = documents @ encoder.encode_queries(["the dog"]).values[0]
    assert np.allclose(run["q"].scores, scores[[int(i) for i in run["q"].ids]], atol=1e-6)
    assert dense.opened.manifest.encoder.dim == 8
    assert {name: dense.opened.manifest.encoder.extra[name] for name in OPTIONS} == OPTIONS


@pytest.mark.parametrize(
    ("options", "message"),
    [({"layer": 2}, "layer: 2 asked for, 1 recorded"), ({"normalise": False}, "normalise: False")],
)
def test_another_setting_of_a_whole_index_is_refused(index, data, model, options, message):
    with pytest.raises(SetupError, match=message):
        DenseRetriever.build(data, index, model=str(model), **{**OPTIONS, **options})
    DenseRetriever.build(data, index, model=str(model), **OPTIONS)  # the same is used


def test_another_encoders_vectors_are_refused(index, model):
    from cribble.index.flat import FlatIndex

    whole = Encoder(model, device="cpu", dim=8, pooling="mean")
    with pytest.raises(InputError, match="layer"):
        FlatIndex.open(index, spec=whole.spec)
