"""The dense retriever over approximate indexes: building by `kind`, searching with parameters, refusing what has no effect."""

from __future__ import annotations

import pytest
from cribble.corpora.dataset import Dataset
from cribble.errors import SetupError, UsageError
from cribble.index.manifest import read_manifest
from cribble.records import Document, Query
from cribble.retrievers.dense import DenseRetriever
from cribble.retrievers.opening import open_retriever
from cribble.tests.models.conftest import save_encoder

pytest.importorskip("faiss")

WORDS = ["cat", "dog", "fish", "river", "house", "tree", "stone", "bird", "city", "light"]
DOCUMENTS = [
    Document(f"d{i}", " ".join(WORDS[(i * j) % 10] for j in range(1, 8)) + " red" * (i % 3)) for i in range(120)
]
QUERIES = [Query("q1", "cat dog"), Query("q2", "the river house")]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kinds")
    model = str(save_encoder(folder / "encoder", "bert", "mean", normalise=True))
    data = Dataset("world", QUERIES, open_documents=lambda: iter(DOCUMENTS), num_documents=len(DOCUMENTS))
    return folder, model, data


def test_built_by_kind_opened_by_folder_and_searched_with_parameters(world):
    folder, model, data = world
    flat = DenseRetriever.build(data, folder / "flat", model=model, device="cpu", k=5)
    built = DenseRetriever.build(
        data, folder / "ivf", model=model, device="cpu", kind="ivf-flat", nlist=8, nprobe=8, k=5
    )
    assert read_manifest(folder / "ivf").kind == "ivf-flat"
    assert {q: built(QUERIES).ids(q) for q in ("q1", "q2")} == {q: flat(QUERIES).ids(q) for q in ("q1", "q2")}
    opened = open_retriever(folder / "ivf", device="cpu", nprobe=1, verify=True)
    assert isinstance(opened, DenseRetriever)
    few, many = opened(QUERIES), open_retriever(folder / "ivf", device="cpu", nprobe=8)(QUERIES)
    assert 0 < few.num_rows < many.num_rows == 2 * len(DOCUMENTS)
    assert opened.key() != built.key()


def test_two_levels_say_what_their_scores_are(world):
    folder, model, data = world
    weighted = DenseRetriever.build(data, folder / "two", model=model, device="cpu", kind="two-level")
    assert weighted(QUERIES).score_kind == weighted([]).score_kind == "dot"
    assert open_retriever(folder / "two", device="cpu", pq_weight=0)(QUERIES).score_kind == "cosine"


def test_another_kind_in_the_folder_and_wrong_options_are_refused(world):
    folder, model, data = world
    DenseRetriever.build(data, folder / "sq", model=model, device="cpu", kind="sq8")
    with pytest.raises(SetupError, match="kind: 'hnsw' asked for, 'sq8' recorded"):
        DenseRetriever.build(data, folder / "sq", model=model, device="cpu", kind="hnsw")
    for options, message in [
        ({"kind": "hnws"}, "kind 'hnws' is unknown: did you mean 'hnsw'"),
        ({"nlist": 4}, "flat index has no option 'nlist': name an approximate kind"),
        ({"kind": "sq8", "nlist": 4}, "sq8 index has no option 'nlist'"),
        ({"kind": "sq8", "nlists": 4}, "dense index has no option 'nlists'"),
    ]:
        with pytest.raises(UsageError, match=message):
            DenseRetriever.build(data, folder / "other", model=model, device="cpu", **options)
    with pytest.raises(UsageError, match="kind sq8 is not searched with nprobe: known: verify"):
        open_retriever(folder / "sq", device="cpu", nprobe=3)(QUERIES)
