"""fit, tune, depth, and retrievers around an index's own, from the command line with the embedded encoder."""

import json

import pytest
from cribble.cli import app
from cribble.corpora import load_dataset
from cribble.records import Run
from cribble.retrievers.dense import DenseRetriever
from cribble.tests.cli.script import DOCUMENTS, QUERIES
from typer.testing import CliRunner


@pytest.fixture(scope="module")
def index(collection, tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "dense"
    return DenseRetriever.build(load_dataset(f"beir:{collection}"), path, device="cpu").index


@pytest.fixture
def results():
    """The command's results; its failure is raised."""

    def run(*arguments):
        done = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
        return json.loads(done.stdout)["results"]

    return run


def test_an_adapter_is_fitted_and_used(results, index, collection, tmp_path):
    where = ("--dataset", f"beir:{collection}")
    options = ("--set", "folds=2", "--set", "epochs=5", "--set", "depth=12")
    fitted = results("fit", "cosine-adapter", index, *where, "--out", tmp_path / "adapter", *options)
    assert (fitted["queries"], fitted["pairs"]) == (len(QUERIES), len(QUERIES) * len(DOCUMENTS))
    assert set(fitted["measures"]) == {"cosine", "adapter"}
    around = ("--retriever", "cosine-adapter", "--set", f"adapter={tmp_path / 'adapter'}")
    for threshold, expected in ((0.0, len(QUERIES) * len(DOCUMENTS)), (1.0, 0)):
        out = tmp_path / f"{threshold}.trec"
        results("retrieve", index, *where, "--out", out, *around, "--set", f"threshold={threshold}")
        assert Run.read(out).num_rows == expected
    plain, kept = tmp_path / "plain.trec", Run.read(tmp_path / "0.0.trec")
    results("retrieve", index, *where, "--out", plain)
    assert all(Run.read(plain).ids(query) == kept.ids(query) for query in kept)


def test_feedback_around_an_index(results, index):
    text = "an animal that swims"
    plain = results("search", index, text)
    around = ("--retriever", "dense-prf", "--set", "depth=2", "--set", "of.device=cpu")
    moved = results("search", index, text, *around)
    assert [hit["score"] for hit in moved] != [hit["score"] for hit in plain]
    assert moved[0]["text"]


def test_tuning_names_a_setting_that_the_retriever_takes(results, collection, tmp_path):
    data = load_dataset(f"beir:{collection}")
    DenseRetriever.build(data, tmp_path / "hnsw", kind="hnsw", device="cpu")
    tuned = results("tune", tmp_path / "hnsw", "--dataset", f"beir:{collection}", "--k", "3")
    assert tuned["chosen"]["recall"] >= 0.95
    assert len(DenseRetriever(tmp_path / "hnsw", device="cpu", **tuned["chosen"]["parameters"])(data)) == len(QUERIES)


def test_the_deepest_document(results, index):
    shown = results("depth", index, "--top", "2")
    assert shown["documents"] == len(DOCUMENTS)
    assert shown["central"][0]["depth"] > shown["outlying"][0]["depth"]
