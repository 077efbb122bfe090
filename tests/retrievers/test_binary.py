"""The binary retriever: every kind by its options, binarisers found again and refused, several versions, changes, the command line."""

from __future__ import annotations

import json
import shutil
import sys

import numpy as np
import pytest
from cribble.cli import main
from cribble.corpora.dataset import Dataset
from cribble.errors import InputError, SetupError, UsageError
from cribble.index.manifest import read_manifest
from cribble.models.encoders import make_encoder
from cribble.models.recurrent_binarisation import RecurrentBinariser
from cribble.records import Document, Query
from cribble.retrievers.binary import BinaryRetriever
from cribble.retrievers.dense import DenseRetriever
from cribble.retrievers.opening import open_retriever
from cribble.tests.models.conftest import save_encoder
from cribble.tests.retrievers.binarisers import save_binariser
from cribble.tests.retrievers.test_dense_kinds import DOCUMENTS, QUERIES

pytest.importorskip("faiss")


def data_of(documents, name="world"):
    return Dataset(name, QUERIES, open_documents=lambda: iter(documents), num_documents=len(documents))


DATA = data_of(DOCUMENTS)
MORE = data_of([Document(f"n{i}", d.text + " water") for i, d in enumerate(DOCUMENTS[:30])], "more")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("binary")
    model = str(save_encoder(folder / "encoder", "bert", "mean", normalise=True))
    flat = DenseRetriever.build(DATA, folder / "flat", model=model, device="cpu", k=5)
    dim = flat.opened.dim
    binariser = save_binariser(folder / "binariser", dim, width=64)
    return folder, model, binariser, dim, flat


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("sign", {}),
        ("lsh", {"bits": 128}),
        ("itq", {}),
        ("bebr", {}),
        ("bebr", {"structure": "ivf", "nlist": 4}),
        ("sign", {"structure": "hnsw"}),
    ],
)
def test_every_kind_is_built_by_its_options_and_verified_exactly(world, tmp_path, kind, options):
    """Oracle: the dense retriever over a flat index; all documents are verified."""
    _, model, binariser, _, flat = world
    if kind == "bebr":
        options = options | {"binariser": binariser}
    built = BinaryRetriever.build(
        DATA, tmp_path / "i", model=model, device="cpu", kind=kind, verify=120, k=5, **options
    )
    assert read_manifest(tmp_path / "i").kind == kind
    found, exact = built(QUERIES), flat(QUERIES)
    assert found.score_kind == exact.score_kind == "cosine"
    opened = open_retriever(tmp_path / "i", device="cpu", k=5)
    assert isinstance(opened, BinaryRetriever)
    assert opened.key() != built.key()
    if kind != "sign" or not options:
        assert found.to_dict() == exact.to_dict()
    assert opened(QUERIES).score_kind == opened([]).score_kind == "cosine"
    assert len(opened(QUERIES).ids("q1")) == 5


def test_what_does_not_fit_is_refused(world, tmp_path):
    _, model, binariser, dim, _ = world
    for options, message in [
        ({"kind": "sing"}, "kind 'sing' is unknown: did you mean 'sign'"),
        ({"kind": "bebr"}, "bebr index needs the option 'binariser'"),
        ({"kind": "itq", "binariser": binariser}, "itq index has no option 'binariser'"),
        ({"kind": "sign", "nlist": 4}, "sign index of structure flat has no option 'nlist'"),
        ({"kind": "sign", "nlists": 4}, "binary index has no option 'nlists'"),
        ({"structure": "graph"}, "structure 'graph' is unknown"),
    ]:
        with pytest.raises(UsageError, match=message):
            BinaryRetriever.build(DATA, tmp_path / "i", model=model, device="cpu", **options)
    other = save_binariser(tmp_path / "wide", dim + 1)
    assert not (tmp_path / "i").exists()
    with pytest.raises(InputError, match=f"takes \\(n, {dim + 1}\\)"):
        BinaryRetriever.build(DATA, tmp_path / "i", model=model, device="cpu", kind="bebr", binariser=other)
    assert not (tmp_path / "i").exists()
    with pytest.raises(InputError, match=r"holds no binariser\.json"):
        BinaryRetriever.build(DATA, tmp_path / "j", model=model, device="cpu", kind="bebr", binariser=str(tmp_path))
    built = BinaryRetriever.build(DATA, tmp_path / "k", model=model, device="cpu")
    with pytest.raises(SetupError, match="kind: 'itq' asked for, 'sign' recorded"):
        BinaryRetriever.build(DATA, tmp_path / "k", model=model, device="cpu", kind="itq")
    with pytest.raises(UsageError, match=r"binariser has no effect: .* is of the kind sign"):
        open_retriever(tmp_path / "k", device="cpu", binariser=binariser)(QUERIES)
    with pytest.raises(UsageError, match="nprobe has no effect"):
        open_retriever(tmp_path / "k", device="cpu", nprobe=3)(QUERIES)
    with pytest.raises(InputError, match="kind 'flat', expected one of codes"):
        BinaryRetriever(world[0] / "flat", device="cpu")(QUERIES)
    assert built.query_vectors(QUERIES).dim == dim


def test_the_binariser_is_found_again_and_another_refused(world, tmp_path):
    _, model, _, dim, _ = world
    first = save_binariser(tmp_path / "first", dim)
    BinaryRetriever.build(DATA, tmp_path / "i", model=model, device="cpu", kind="bebr", binariser=first)
    found = open_retriever(tmp_path / "i", device="cpu")(QUERIES)
    again = BinaryRetriever.build(DATA, tmp_path / "i", model=model, device="cpu", kind="bebr", binariser=first)
    assert again(QUERIES).to_dict() == found.to_dict()
    other = save_binariser(tmp_path / "other", dim, seed=1)
    with pytest.raises(InputError, match=r"another binariser \(binariser.sha256: '.*' asked for, '.*' recorded\)"):
        open_retriever(tmp_path / "i", device="cpu", binariser=other)(QUERIES)
    with pytest.raises(SetupError, match=r"another index is here already \(binariser: "):
        BinaryRetriever.build(DATA, tmp_path / "i", model=model, device="cpu", kind="bebr", binariser=other)
    moved = shutil.move(first, tmp_path / "moved")
    with pytest.raises(SetupError, match="which is not there: name its folder as binariser"):
        open_retriever(tmp_path / "i", device="cpu")(QUERIES)
    assert open_retriever(tmp_path / "i", device="cpu", binariser=str(moved))(QUERIES).to_dict() == found.to_dict()


@pytest.mark.parametrize("structure", ["flat", "ivf"])
def test_documents_of_a_newer_binariser_are_added_and_all_are_searched(world, tmp_path, structure):
    """Oracle: cosines of the decoded codes, old documents' by the old binariser, the rest by the new."""
    _, model, _, dim, _ = world
    old = save_binariser(tmp_path / "old", dim)
    older = RecurrentBinariser.load(old)
    new = save_binariser(tmp_path / "new", dim, steps=2, seed=1, compatible_with=[older.sha256])
    strange = save_binariser(tmp_path / "strange", dim, seed=2)
    newer = RecurrentBinariser.load(new)
    options = {"structure": structure} | ({"nlist": 2} if structure == "ivf" else {})
    BinaryRetriever.build(DATA, tmp_path / "i", model=model, device="cpu", kind="bebr", binariser=old, **options)
    with pytest.raises(InputError, match="another binariser"):
        open_retriever(tmp_path / "i", device="cpu", binariser=strange).add(MORE)
    adding = open_retriever(tmp_path / "i", device="cpu", binariser=new)
    adding(QUERIES)  # new queries search the old codes
    assert adding.add(MORE).added == 30
    with pytest.raises(InputError, match="another binariser"):
        open_retriever(tmp_path / "i", device="cpu", binariser=old)(QUERIES)
    retriever = open_retriever(tmp_path / "i", device="cpu")  # the newest one's folder is recorded
    assert retriever.delete(["d3", "n4"]).deleted == 2
    assert retriever.compact().manifest.documents == 148
    run = retriever(QUERIES)
    vectors = retriever.query_vectors(QUERIES).values
    asked = newer.values(vectors).astype(np.float64)
    encoder = retriever.encoder
    parts = [(older, DOCUMENTS), (newer, list(MORE.documents()))]
    there = {}
    for binariser, documents in parts:
        values = binariser.values(encoder.encode_documents(documents).values).astype(np.float64)
        there |= {d.id: row / np.linalg.norm(row) for d, row in zip(documents, values, strict=True)}
    for query, mine in zip(QUERIES, asked / np.linalg.norm(asked, axis=1, keepdims=True), strict=True):
        found = run.to_dict()[query.id]
        assert set(found) == set(there) - {"d3", "n4"}
        assert found == pytest.approx({doc_id: there[doc_id] @ mine for doc_id in found}, abs=1e-6)


def test_a_newer_encoder_searches_old_codes_and_joins_where_no_vectors_are_stored(world, tmp_path):
    """Oracle: cosines of the decoded codes, of each document by its own encoder and binariser."""
    _, model, _, dim, _ = world
    newer_model = str(save_encoder(tmp_path / "newer", "bert", "mean", dense=24, normalise=True))
    newer_encoder = make_encoder(newer_model, device="cpu")
    assert newer_encoder.spec.dim == 24 != dim
    old = save_binariser(tmp_path / "old", dim)
    facts = {"encoder": {"model": newer_model, "revision": newer_encoder.spec.revision}}
    sums = [RecurrentBinariser.load(old).sha256]
    new = save_binariser(tmp_path / "new", 24, seed=1, compatible_with=sums, training={"facts": facts})
    values = RecurrentBinariser.load(new).values(newer_encoder.encode_queries([q.text for q in QUERIES]).values)
    for vectors in (False, True):
        path = tmp_path / str(vectors)
        BinaryRetriever.build(
            DATA, path, model=model, device="cpu", kind="bebr", binariser=old, vectors=vectors, shard_documents=50
        )
        newer = open_retriever(path, device="cpu", binariser=new)
        there = RecurrentBinariser.load(old).values(
            open_retriever(path, device="cpu").encoder.encode_documents(DOCUMENTS).values
        )
        there = dict(zip([d.id for d in DOCUMENTS], there, strict=True))
        if vectors:
            with pytest.raises(InputError, match=r"made by another encoder"):
                newer.add(MORE)
            with pytest.raises(UsageError, match="verify compares with vectors of"):
                open_retriever(path, device="cpu", binariser=new, verify=True)(QUERIES)
        else:
            newer(QUERIES)
            assert newer.add(MORE).added == 30
            more = list(MORE.documents())
            there |= dict(
                zip(
                    [d.id for d in more],
                    RecurrentBinariser.load(new).values(newer_encoder.encode_documents(more).values),
                    strict=True,
                )
            )
        for query, mine in zip(QUERIES, values, strict=True):
            found = newer(QUERIES).to_dict()[query.id]
            assert set(found) == set(there)
            exact = {i: there[i] @ mine / np.linalg.norm(there[i]) / np.linalg.norm(mine) for i in found}
            assert found == pytest.approx(exact, abs=1e-6)
    with pytest.raises(InputError, match=r"encoder.revision: '.*' asked for, '.*' recorded"):
        open_retriever(tmp_path / "False", device="cpu", binariser=new, model=model)(QUERIES)


def test_filters_and_a_condition(world, tmp_path):
    _, model, *_ = world
    built = BinaryRetriever.build(DATA, tmp_path / "i", model=model, device="cpu", k=200)
    everything = built(QUERIES).to_dict()
    allowed = open_retriever(tmp_path / "i", device="cpu", allow=["d1", "d7", "d9"])(QUERIES).to_dict()
    denied = open_retriever(tmp_path / "i", device="cpu", deny=["d1", "d7", "d9"])(QUERIES).to_dict()
    for query in everything:
        assert allowed[query] == {d: s for d, s in everything[query].items() if d in ("d1", "d7", "d9")}
        assert denied[query] == {d: s for d, s in everything[query].items() if d not in ("d1", "d7", "d9")}
    with pytest.raises(UsageError, match="no document of the index has metadata"):
        open_retriever(tmp_path / "i", device="cpu", where="year > 2000")(QUERIES)


def test_the_command_line_builds_searches_and_changes(world, tmp_path, capsys, monkeypatch):
    _, model, binariser, *_ = world
    corpus = tmp_path / "data"
    corpus.mkdir()
    rows = [{"_id": d.id, "text": d.text, "title": ""} for d in DOCUMENTS]
    (corpus / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (corpus / "queries.jsonl").write_text("".join(json.dumps({"_id": q.id, "text": q.text}) + "\n" for q in QUERIES))
    (corpus / "qrels").mkdir()
    (corpus / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td2\t1\n")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["cribble", *map(str, arguments), "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code, capsys.readouterr()
        return json.loads(capsys.readouterr().out)["results"]

    index = tmp_path / "i"
    built = run(
        *("index", f"beir:{corpus}", "--retriever", "binary", "--index", "bebr", "--model", model, "--out", index),
        *("--set", f"binariser={binariser}", "--set", "structure=ivf", "--set", "nlist=4", "--set", "device=cpu"),
    )
    assert (built["kind"], built["documents"], built["counts"]["code_bytes_per_document"]) == ("bebr", 120, 16)
    run(
        *("retrieve", index, "--dataset", f"beir:{corpus}", "--out", tmp_path / "run.trec", "--k", "10"),
        *("--set", "verify=50", "--set", "nprobe=4", "--set", "device=cpu"),
    )
    assert len((tmp_path / "run.trec").read_text().splitlines()) == 20
    assert run("delete", index, "d1", "d2")["documents"] == 118
    assert run("compact", index)["rows"] == 118


def test_queries_alone_and_a_query_without_words(world, tmp_path):
    _, model, *_ = world
    built = BinaryRetriever.build(DATA, tmp_path / "i", model=model, device="cpu", kind="itq", bits=16, k=7)
    run = built([*QUERIES, Query("q0", "")])
    assert [len(run.ids(q)) for q in run] == [7, 7, 7]
    assert run.ids("q1") == built(QUERIES[:1]).ids("q1")
