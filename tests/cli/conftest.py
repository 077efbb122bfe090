"""The console script and small collections and indexes for it."""

import pytest
from cribble.tests.cli.script import DOCUMENTS, Cribble, collection_files, write_files


@pytest.fixture(scope="session")
def cribble(tmp_path_factory):
    cribble = Cribble(tmp_path_factory.mktemp("home"))
    yield cribble
    cribble.close()


@pytest.fixture(scope="session")
def collection(tmp_path_factory):
    """A BEIR folder of twelve documents and four queries. Not to be changed."""
    folder = tmp_path_factory.mktemp("collection") / "animals"
    write_files(folder, collection_files())
    return folder


@pytest.fixture(scope="session")
def bm25_index(cribble, collection, tmp_path_factory):
    path = tmp_path_factory.mktemp("indexes") / "bm25"
    done = cribble("index", f"beir:{collection}", "--retriever", "bm25", "--out", path, "--json", cwd=path.parent)
    assert done.results["documents"] == len(DOCUMENTS)
    return path


@pytest.fixture(scope="session")
def dense_index(cribble, collection, tmp_path_factory):
    path = tmp_path_factory.mktemp("indexes") / "dense"
    done = cribble("index", f"beir:{collection}", "--retriever", "dense", "--out", path, "--json", cwd=path.parent)
    assert done.results["documents"] == len(DOCUMENTS)
    return path
