"""Building where a whole index is: used when it is the one asked for, refused when it is another."""

import pytest
from cribble import BM25, DenseRetriever
from cribble.corpora.dataset import Dataset
from cribble.errors import SetupError
from cribble.records import Document, Query


def dataset(*texts):
    documents = [Document(f"d{i}", text) for i, text in enumerate(texts)]
    return Dataset("test:set", [Query("q", "heat")], open_documents=lambda: iter(documents))


def test_the_same_is_used_and_another_is_refused(tmp_path):
    path = tmp_path / "bm25"
    data = dataset("heat transfer", "cold water")
    first = BM25.build(data, path)(data)
    manifest = (path / "manifest.json").read_bytes()
    assert BM25.build(data, path)(data) == first
    assert (path / "manifest.json").read_bytes() == manifest
    with pytest.raises(SetupError, match=r"its documents are others.*overwrite"):
        BM25.build(dataset("heat transfer", "hot water"), path)
    with pytest.raises(SetupError, match=r"language: 'de' asked for, 'en' recorded"):
        BM25.build(data, path, language="de")
    assert BM25.build(dataset("heat", "heat"), path, overwrite=True)(data).num_rows == 2


def test_a_similarity_that_is_not_the_encoders_is_the_builds(tmp_path):
    data = dataset("heat transfer", "cold water")
    first = DenseRetriever.build(data, tmp_path / "l2", similarity="l2")(data)
    assert DenseRetriever.build(data, tmp_path / "l2", similarity="l2")(data) == first
    with pytest.raises(SetupError, match=r"similarity: 'cosine' asked for, 'l2' recorded"):
        DenseRetriever.build(data, tmp_path / "l2", similarity="cosine")
