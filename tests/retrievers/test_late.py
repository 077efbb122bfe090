"""The late retriever: the exact index ranks as the reranker does, kinds and options of builds, the command line."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
from cribble.corpora.dataset import Dataset
from cribble.errors import InputError, SetupError, UsageError
from cribble.index.manifest import read_manifest
from cribble.records import Document, Query, Run
from cribble.rerankers.maxsim import MaxSim
from cribble.retrievers.dense import DenseRetriever
from cribble.retrievers.late import LateRetriever
from cribble.retrievers.opening import open_retriever
from cribble.tests.models.conftest import save_encoder
from cribble.tests.models.tiny_late_models import save_stanford

WORDS = ["cat", "dog", "fish", "river", "house", "tree", "stone", "bird", "city", "light"]
DOCUMENTS = [
    Document(f"d{i}", " ".join(WORDS[(i * j) % 10] for j in range(1, 2 + i % 9)) + ", the end." * (i % 3))
    for i in range(60)
]
QUERIES = [Query("q1", "cat dog"), Query("q2", "the river, house"), Query("q3", "")]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("late")
    model = str(save_encoder(folder / "encoder", "bert", "mean", normalise=True))
    data = Dataset("world", QUERIES, open_documents=lambda: iter(DOCUMENTS), num_documents=len(DOCUMENTS))
    return folder, model, data


def test_the_index_ranks_as_the_reranker_of_all_documents(world):
    """Over float32 token states both are the same sums, but for the order of additions: 1e-5."""
    folder, model, data = world
    late = LateRetriever.build(data, folder / "exact", model=model, device="cpu", storage="float32")
    everything = Run.from_dict({q.id: {d.id: 1.0 for d in DOCUMENTS} for q in QUERIES})
    expected = MaxSim(model, depth=60, device="cpu")(data, everything).to_dict()
    found = late(data)
    assert found.score_kind == "maxsim"
    for query in QUERIES:
        assert found.to_dict()[query.id] == pytest.approx(expected[query.id], abs=1e-5)


@pytest.mark.parametrize("storage", ["float16", "bfloat16", "int8"])
def test_smaller_numbers_rank_almost_alike(world, storage):
    folder, model, data = world
    exact = LateRetriever.build(data, folder / "float32", model=model, device="cpu", storage="float32", k=10)
    small = LateRetriever.build(data, folder / storage, model=model, device="cpu", storage=storage, k=10)
    same = [set(exact(data).ids(q.id)) & set(small(data).ids(q.id)) for q in QUERIES]
    assert sum(map(len, same)) >= 25
    for query in QUERIES:
        best = exact(data).to_dict()[query.id]
        assert all(abs(s - best[d]) < 0.3 for d, s in small(data).to_dict()[query.id].items() if d in best)


def test_a_late_interaction_checkpoint_and_its_settings(world):
    folder, _, data = world
    model = str(save_stanford(folder / "colbert"))
    late = LateRetriever.build(data, folder / "colbert-index", model=model, device="cpu", document_length=12)
    spec = read_manifest(folder / "colbert-index").encoder
    assert (spec.pooling, spec.dim, spec.similarity) == ("multi-vector", 12, "dot")
    assert {name: spec.extra[name] for name in ("expansion", "query_length", "document_length", "skip")} == {
        "expansion": "masked",
        "query_length": 16,
        "document_length": 12,
        "skip": "punctuation",
    }
    opened = open_retriever(folder / "colbert-index", device="cpu", k=5)
    assert isinstance(opened, LateRetriever)
    assert opened(data).ids("q1") == late(data).ids("q1")[:5]
    with pytest.raises(SetupError, match="document_length: 30 asked for, 12 recorded"):
        LateRetriever.build(data, folder / "colbert-index", model=model, document_length=30)
    with pytest.raises(InputError, match="was not trained for late interaction"):
        open_retriever(folder / "colbert-index", device="cpu", model=world[1])(data)
    added = Dataset("more", [], open_documents=lambda: iter([Document("new", "cat dog cat dog")]))
    late.add(added)
    assert "new" in late(data).ids("q1")


def test_muvera_by_the_retriever(world):
    folder, model, data = world
    options = {"partition_bits": 2, "projected": 8, "repetitions": 4, "structure": "hnsw", "links": 8}
    late = LateRetriever.build(data, folder / "muvera", model=model, device="cpu", kind="muvera", **options)
    assert read_manifest(folder / "muvera").options["links"] == 8
    exact = LateRetriever.build(data, folder / "muvera-exact", model=model, device="cpu", k=10)
    few = open_retriever(folder / "muvera", device="cpu", k=10, candidates=20, ef=50)
    both = [len(set(few(data).ids(q.id)) & set(exact(data).ids(q.id))) for q in QUERIES]
    assert sum(both) >= 15
    assert few.key() != late.key()
    assert late(data).num_rows == 3 * len(DOCUMENTS)
    with pytest.raises(UsageError, match=r"candidates has no effect: .* is an index of kind multivector-exact"):
        open_retriever(folder / "muvera-exact", candidates=3)(data)


def test_plaid_by_the_retriever(world):
    folder, model, data = world
    late = LateRetriever.build(data, folder / "plaid", model=model, device="cpu", kind="plaid", bits=4, centroids=16)
    manifest = read_manifest(folder / "plaid")
    assert (manifest.kind, manifest.options["bits"], manifest.options["centroids"]) == ("plaid", 4, 16)
    exact = LateRetriever.build(data, folder / "plaid-exact", model=model, device="cpu", k=10)
    open_plaid = partial(open_retriever, folder / "plaid", device="cpu", k=10)
    both = [len(set(open_plaid()(data).ids(q.id)) & set(exact(data).ids(q.id))) for q in QUERIES]
    assert sum(both) >= 24
    few = open_plaid(ncells=1, threshold=0.6, ndocs=20)
    assert few(data).to_dict() != open_plaid()(data).to_dict()
    assert few(data).score_kind == "maxsim"
    runs = [open_plaid(**given)(data).to_dict() for given in ({}, {"mode": "warp"}, {"mode": "warp", "nprobe": 1})]
    assert runs[0] != runs[1] != runs[2]
    assert few.key() != late.key()
    assert late(data).num_rows == 3 * len(DOCUMENTS)  # k is 1000
    for given, message in [
        ({"candidates": 3}, "candidates has no effect: .* is an index of kind plaid"),
        ({"nprobe": 3}, "nprobe has no effect in mode plaid: it is of mode warp"),
        ({"mode": "warp", "ncells": 3}, "ncells has no effect in mode warp"),
        ({"mode": "wrap"}, "mode 'wrap' is unknown: did you mean 'warp'"),
        ({"ncells": 0}, "ncells is 0, expected a whole number, at least 1"),
    ]:
        with pytest.raises(UsageError, match=message):
            open_plaid(**given)(data)
    with pytest.raises(UsageError, match=r"ncells has no effect: .* is an index of kind multivector-exact"):
        open_retriever(folder / "plaid-exact", ncells=3)(data)
    with pytest.raises(UsageError, match="storage"):
        LateRetriever.build(data, folder / "refused", model=model, device="cpu", kind="plaid", storage="int8")
    late.add(Dataset("more", [], open_documents=lambda: iter([Document("new", "cat dog cat dog")])))
    assert "new" in late(data).ids("q1")


def test_wrong_options_are_refused(world):
    folder, model, data = world
    for options, message in [
        ({"kind": "plaids"}, "kind 'plaids' is unknown: did you mean 'plaid'"),
        ({"kind": "plaid", "bits": 3}, "bits is 3, expected 1, 2, 4 or 8"),
        ({"kind": "plaid", "links": 3}, "plaid index has no option 'links'"),
        ({"bits": 2}, "multivector-exact index has no option 'bits'"),
        ({"links": 3}, "multivector-exact index has no option 'links'"),
        ({"pooling": "mean"}, "late index has no option 'pooling'"),
        ({"storage": "float8"}, "storage 'float8' is unknown"),
        ({"expansion": "masked"}, "no option 'expansion'"),
        ({"storage": 3}, "late index: storage is 3, expected a text"),
    ]:
        with pytest.raises(UsageError, match=message):
            LateRetriever.build(data, folder / "refused", model=model, device="cpu", **options)
    dense = DenseRetriever.build(data, folder / "dense", model=model, device="cpu")
    with pytest.raises(InputError, match="expected one of token vectors"):
        LateRetriever(dense.index)(data)


def test_on_the_command_line(world):
    from cribble.cli import app
    from typer.testing import CliRunner

    folder, model, _ = world
    corpus = Path(folder / "beir")
    (corpus / "qrels").mkdir(parents=True)
    rows = [json.dumps({"_id": d.id, "title": "", "text": d.text}) for d in DOCUMENTS]
    (corpus / "corpus.jsonl").write_text("\n".join(rows) + "\n")
    (corpus / "queries.jsonl").write_text(json.dumps({"_id": "q1", "text": "cat dog"}) + "\n")
    (corpus / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    command = ["index", f"beir:{corpus}", "--retriever", "late", "--index", "muvera", "--model", model]
    command += ["--set", "storage=int8", "--set", "projected=8", "--out", str(folder / "by-command"), "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    manifest = read_manifest(folder / "by-command")
    assert (manifest.kind, manifest.options["storage"], manifest.options["projected"]) == ("muvera", "int8", 8)
    asked = CliRunner().invoke(app, ["search", str(folder / "by-command"), "cat dog", "--k", "3", "--json"])
    assert asked.exit_code == 0, asked.output
