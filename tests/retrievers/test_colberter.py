"""The colberter retriever: scores are upstream's, options and modes, changes, the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cribble.corpora.dataset import Dataset
from cribble.errors import InputError, SetupError, UsageError
from cribble.index.colberter_options import MODES
from cribble.index.manifest import read_manifest
from cribble.records import Document, Query
from cribble.retrievers.colberter import ColberterRetriever
from cribble.retrievers.dense import DenseRetriever
from cribble.retrievers.late import LateRetriever
from cribble.retrievers.opening import open_retriever
from cribble.tests.models.conftest import save_encoder
from cribble.tests.models.tiny_colberter import PASSAGES, QUERY, save_backbone, save_colberter

WORDS = ["cat", "dog", "fish", "river", "house", "tree", "stone", "bird", "city", "light"]
DOCUMENTS = [Document(f"p{i}", text) for i, text in enumerate(PASSAGES)] + [
    Document(f"d{i}", " ".join(WORDS[(i * j) % 10] for j in range(1, 2 + i % 9)) + ", the library." * (i % 3))
    for i in range(60)
]
QUERIES = [Query("q1", QUERY), Query("q2", "the river, house"), Query("q3", "")]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("colberter")
    models = {"dim32": {}, "uni": {"second": 1, "exact": True}}
    models = {name: str(save_colberter(folder / name, **options)) for name, options in models.items()}
    data = Dataset("world", QUERIES, open_documents=lambda: iter(DOCUMENTS), num_documents=len(DOCUMENTS))
    return folder, models, data


#: Totals of upstream's `forward_aggregation` for QUERY and PASSAGES (tests/models/test_colberter.py says how); of the third,
#: whose words are all gated out, that of its pairwise `forward`, where such words count 0.
UPSTREAM = {"dim32": (27.236149, 19.566195, 5.8606853), "uni": (6.7086191, 8.4713268, 5.8606853)}


@pytest.mark.parametrize("name", UPSTREAM)
@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_the_index_scores_as_upstream(world, name, storage):
    """1e-5 over float32, 1e-3 over float16, 2 % over int8."""
    folder, models, data = world
    found = ColberterRetriever.build(
        data, folder / f"{name}-{storage}", model=models[name], device="cpu", storage=storage
    )(data)
    assert found.score_kind == "dot"
    scores = found.to_dict()["q1"]
    tolerance = {"float32": 1e-5, "float16": 1e-3, "int8": 2e-2}[storage]
    assert [scores[f"p{i}"] for i in range(3)] == pytest.approx(list(UPSTREAM[name]), rel=tolerance)
    assert len(scores) == len(DOCUMENTS)


@pytest.mark.parametrize("name", UPSTREAM)
def test_every_mode_and_its_candidates(world, name):
    folder, models, data = world
    path = folder / f"{name}-modes"
    ColberterRetriever.build(data, path, model=models[name], device="cpu")
    whole = open_retriever(path, device="cpu")(data)
    for mode in MODES:
        found = open_retriever(path, device="cpu", mode=mode, k=5)(data)
        assert (found.ids("q1") == whole.ids("q1")[:5]) or mode != "hybrid"
        if mode in ("cls-bow", "hybrid"):  # all documents are candidates
            assert found.to_dict()["q2"] == {i: whole.to_dict()["q2"][i] for i in whole.ids("q2")[:5]}
    few = open_retriever(path, device="cpu", mode="cls-bow", k=5, candidates=5)(data)
    by_vector = open_retriever(path, device="cpu", mode="cls", k=5)(data)
    assert set(few.ids("q1")) == set(by_vector.ids("q1"))
    assert len(open_retriever(path, device="cpu", mode="bow")(data).ids("q3")) == 0  # a query without words


def test_options_are_recorded_and_another_model_is_refused(world):
    folder, models, data = world
    path = folder / "recorded"
    options = {"model": models["dim32"], "words": "stem", "document_length": 12, "query_length": 9, "device": "cpu"}
    made = ColberterRetriever.build(data, path, **options, shard_documents=16)
    manifest = read_manifest(path)
    assert (manifest.kind, manifest.plan.shard_documents, manifest.options) == ("colberter", 16, {"storage": "float16"})
    extra = manifest.encoder.extra
    assert (extra["words"], extra["document_length"], extra["query_length"]) == ("stem", 12, 9)
    assert manifest.counts["truncated_texts"] > 0
    opened = open_retriever(path, device="cpu", k=5)
    assert isinstance(opened, ColberterRetriever)
    assert opened(data).ids("q1") == made(data).ids("q1")[:5]
    assert ColberterRetriever.build(data, path, **options)(data) == made(data)
    with pytest.raises(SetupError, match="words: 'surface' asked for, 'stem' recorded"):
        ColberterRetriever.build(data, path, model=models["dim32"], words="surface")
    with pytest.raises(InputError, match="made by another encoder"):
        open_retriever(path, device="cpu", model=models["uni"])(data)


def test_a_changed_index_is_searched_at_once(world):
    folder, models, data = world
    path = folder / "changed"
    retriever = ColberterRetriever.build(data, path, model=models["uni"], device="cpu")
    retriever.add(Dataset("more", [], open_documents=lambda: iter([Document("new", f"{QUERY} {QUERY}")])))
    assert "new" in retriever(data).ids("q1")
    retriever.delete(["new", "p0"])
    assert not {"new", "p0"} & set(retriever(data).ids("q1"))
    retriever.compact()
    assert len(retriever(data).ids("q1")) == len(DOCUMENTS) - 1


def test_a_moved_backbone_is_named_at_the_search(world):
    folder, models, data = world
    moved = Path(shutil.copytree(models["dim32"], folder / "moved"))
    config = json.loads((moved / "config.json").read_text())
    backbone = shutil.copytree(config["bert_model"], folder / "its-backbone")
    (moved / "config.json").write_text(json.dumps(config | {"bert_model": "/gone/away"}))
    path = folder / "moved-index"
    with pytest.raises(SetupError, match="give a folder that holds them as backbone"):
        ColberterRetriever.build(data, path, model=str(moved), device="cpu")
    made = ColberterRetriever.build(data, path, model=str(moved), backbone=str(backbone), device="cpu")
    expected = made(data)
    assert open_retriever(path, device="cpu")(data) == expected
    elsewhere = shutil.move(backbone, folder / "its-backbone-elsewhere")
    with pytest.raises((SetupError, UsageError), match="its-backbone"):
        open_retriever(path, device="cpu")(data)
    assert open_retriever(path, device="cpu", backbone=str(elsewhere))(data) == expected


def test_what_makes_no_sense_is_refused(world):
    folder, models, data = world
    for options, message in [
        ({}, "no model is named: name a ColBERTer checkpoint"),
        ({"kind": "plaid", "model": models["uni"]}, "kind 'plaid' is unknown"),
        ({"pool_factor": 2.0, "model": models["uni"]}, "colberter index has no option 'pool_factor'"),
        ({"storage": "float8", "model": models["uni"]}, "storage 'float8' is unknown"),
        ({"words": "stemed", "model": models["uni"]}, "did you mean 'stem'"),
    ]:
        with pytest.raises(UsageError, match=message):
            ColberterRetriever.build(data, folder / "refused", device="cpu", **options)
    plain = str(save_encoder(folder / "plain", "bert", "mean"))
    with pytest.raises(InputError, match="the model plain is no ColBERTer model"):
        ColberterRetriever.build(data, folder / "refused", model=plain, device="cpu")
    with pytest.raises(InputError, match="uni is a ColBERTer model: it goes with the colberter retriever"):
        LateRetriever.build(data, folder / "refused", model=models["uni"], device="cpu")
    dense = DenseRetriever.build(data, folder / "dense", model=plain, device="cpu")
    with pytest.raises(InputError, match="an index of kind 'flat', expected colberter"):
        ColberterRetriever(dense.index)(data)
    index = ColberterRetriever.build(data, folder / "searched", model=models["uni"], device="cpu").index
    for options, message in [
        ({"mode": "clsbow"}, "mode 'clsbow' is unknown: did you mean 'cls-bow'"),
        ({"mode": "cls", "candidates": 5}, "candidates has no effect: mode cls"),
    ]:
        with pytest.raises(UsageError, match=message):
            open_retriever(index, **options)([])
    assert not (folder / "refused").exists()


def test_on_the_command_line(world):
    from cribble.cli import app
    from typer.testing import CliRunner

    folder, models, _ = world
    corpus = Path(folder / "beir")
    (corpus / "qrels").mkdir(parents=True)
    rows = [json.dumps({"_id": d.id, "title": "", "text": d.text}) for d in DOCUMENTS]
    (corpus / "corpus.jsonl").write_text("\n".join(rows) + "\n")
    (corpus / "queries.jsonl").write_text(json.dumps({"_id": "q1", "text": QUERY}) + "\n")
    (corpus / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tp0\t1\n")
    index = str(folder / "by-command")
    command = ["index", f"beir:{corpus}", "--retriever", "colberter", "--model", models["uni"]]
    done = CliRunner().invoke(app, [*command, "--set", "storage=int8", "--out", index, "--json"])
    assert done.exit_code == 0, done.output
    assert read_manifest(index).options["storage"] == "int8"
    out = str(folder / "run.trec")
    asked = ["retrieve", index, "--dataset", f"beir:{corpus}", "--out", out, "--set", "mode=bow-cls", "--k", "5"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert len(Path(out).read_text().splitlines()) == 5
    done = CliRunner().invoke(app, ["search", index, QUERY, "--k", "3", "--json"])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(app, [*command[:-1], str(save_backbone(folder / "bare")), "--out", index + "2"])
    assert isinstance(done.exception, InputError)
    assert "the model bare is no ColBERTer model" in str(done.exception)


@pytest.mark.parametrize("name", UPSTREAM)
def test_a_score_is_explained_by_words(world, name):
    """The contributions sum to the index's score: 1e-5, as it keeps float32."""
    folder, models, data = world
    path = folder / f"{name}-float32"
    ColberterRetriever.build(data, path, model=models[name], device="cpu", storage="float32")
    for mode in MODES:
        retriever = open_retriever(path, device="cpu", mode=mode)
        for document in DOCUMENTS[:6]:
            explanation = retriever.explain_match(QUERY, document)
            if explanation.stage_score is None:
                assert mode in ("bow", "bow-cls")  # it shares no word, or has none
                continue
            assert explanation.score == pytest.approx(explanation.stage_score, rel=1e-5)
    explanation = open_retriever(path, device="cpu").explain_match(QUERY, DOCUMENTS[0])
    assert [match.query.token for match in explanation.matches] == ["[CLS]", *QUERY.split()]
    shown = {match.query.token: match.document.token for match in explanation.matches if match.document}
    assert shown["library"] == "library" or name == "dim32"
    assert explanation.notes == ("the gate let 7 of the document's 14 words pass",)
    emptied = open_retriever(path, device="cpu").explain_match(QUERY, DOCUMENTS[2])
    assert [match.document is None for match in emptied.matches] == [False, True, True, True, True, True]
