"""What `--dry-run` foretells of late, ColBERTer and sparse indexes, against building them: bytes and tokens to a tenth, seconds
to a factor of 2 in the best of three (other work shares the machine)."""

from __future__ import annotations

import random
import time

import pytest
from cribble import estimate_builds
from cribble.configs.schema import parse_config
from cribble.corpora.dataset import Dataset
from cribble.estimate import config_estimate, index_estimate
from cribble.index.manifest import read_manifest
from cribble.models.checkpoint import EMBEDDED_NAME, is_at_hand
from cribble.records import Document
from cribble.registry import find
from cribble.tests.models.conftest import WORDS, save_encoder
from cribble.tests.models.sparse_models import save_mlm
from cribble.tests.models.tiny_colberter import save_colberter

CASES = {
    "exact": ("late", {}),
    "exact int8": ("late", {"storage": "int8"}),
    "pooled": ("late", {"pool_factor": 2.0, "storage": "float32"}),
    "muvera": ("late", {"kind": "muvera", "projected": 8, "repetitions": 4}),
    "muvera hnsw": ("late", {"kind": "muvera", "projected": 8, "repetitions": 4, "structure": "hnsw"}),
    "plaid": ("late", {"kind": "plaid", "bits": 4}),
    "plaid of 64 centroids": ("late", {"kind": "plaid", "centroids": 64}),
    "inverted": ("sparse", {"document_terms": 40}),
    "inverted float32": ("sparse", {"storage": "float32", "quantise": "naver"}),
    "colberter": ("colberter", {}),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    late = save_encoder(folder / "encoder", "bert", "mean", normalise=True)
    return {
        "late": str(late),
        "sparse": str(save_mlm(folder / "mlm")),
        "colberter": str(save_colberter(folder / "bags")),
    }


@pytest.fixture(scope="module")
def data():
    chance = random.Random(3)
    texts = [" ".join(chance.choices(WORDS, k=chance.randint(3, 50))) for _ in range(1500)]
    documents = [Document(f"d{i}", text) for i, text in enumerate(texts)]
    return Dataset("world", [], open_documents=lambda: iter(documents), num_documents=len(documents))


def built(retriever, data, path, options):
    start = time.perf_counter()
    find("retrievers", retriever).build_index(data, path, overwrite=False, options=dict(options))
    return read_manifest(path), time.perf_counter() - start


@pytest.mark.parametrize("case", CASES)
def test_an_estimate_is_near_the_build(case, models, data, tmp_path, monkeypatch):
    monkeypatch.setattr(estimate_builds, "_MOST", 128)
    retriever, options = CASES[case]
    options = options | {"model": models[retriever], "device": "cpu"}
    told = index_estimate(data, retriever, options).results
    assert told["documents"] == 1500
    assert 16 <= told["sampled"] <= 128
    assert told["seconds"] >= 0
    index, _ = built(retriever, data, tmp_path / "index", options)
    assert told["bytes"] == pytest.approx(index.bytes, rel=0.1)
    counted = {"late": "tokens", "sparse": "postings", "colberter": "word_vectors"}[retriever]
    assert told[counted] == pytest.approx(index.counts[counted], rel=0.1)


def test_seconds_are_those_of_the_build(models, data, tmp_path):
    options = {"model": models["late"], "device": "cpu"}
    ratios = []
    while len(ratios) < 3 and not (ratios and 0.5 <= ratios[-1] <= 2):
        told = index_estimate(data, "late", options).results
        ratios.append(told["seconds"] / built("late", data, tmp_path / f"index{len(ratios)}", options)[1])
        assert told["sampled"] > 128
    assert 0.5 <= ratios[-1] <= 2, ratios


def test_few_documents_are_all_built(models):
    for few in (1, 5, 9):
        documents = [Document(str(i), "the cat " * i) for i in range(few)]
        data = Dataset("few", [], open_documents=lambda found=documents: iter(found), num_documents=few)
        told = index_estimate(data, "late", {"model": models["late"], "device": "cpu"}).results
        assert told["sampled"] == few
        assert told["tokens"] == sum(2 + 2 * i for i in range(few))
    empty = Dataset("empty", [], open_documents=lambda: iter([]))
    assert index_estimate(empty, "late", {}).results == {"step": "index late", "documents": None, "options": {}}


def test_of_a_corpus_without_a_number_the_sample_is_told(models):
    documents = [Document(str(i), "the cat") for i in range(11)]
    data = Dataset("pictures", [], open_documents=lambda: iter(documents))
    told = index_estimate(data, "late", {"model": models["late"], "device": "cpu"}).results
    assert (told["documents"], told["sampled"], told["tokens"]) == (None, 11, 44)
    assert told["note"] == "pictures does not say how many documents it has: told of the 11 that were sampled"


def test_what_is_not_on_the_machine_is_not_fetched(data, models, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    answer = index_estimate(data, "late", {"model": "nobody/no-such-model"})
    note = "nobody/no-such-model is not on this machine: seconds and bytes are told once it is"
    assert answer.results["note"] == note
    assert "seconds" not in answer.results
    assert note in answer.tables[0].notes
    assert [is_at_hand(name) for name in (None, EMBEDDED_NAME, models["late"])] == [True] * 3
    assert [is_at_hand(name) for name in ("nobody/no-such-model", str(tmp_path / "gone"), "a/b/c")] == [False] * 3


def test_the_steps_of_an_experiment(models):
    late = {"use": "late", "model": models["late"], "index": {"kind": "muvera", "projected": 8}, "k": 20}
    sparse = {"use": "sparse", "model": models["sparse"]}
    there = {"use": "late", "index": "some/folder"}
    config = parse_config({"dataset": "sample:stdlib", "pipeline": {"a": [late], "b": [sparse], "c": [there]}})
    steps = config_estimate(config).results["steps"]
    assert [step["step"] for step in steps] == ["index late", "index sparse"]
    assert all(step["bytes"] > 0 and step["seconds"] > 0 and step["sampled"] >= 16 for step in steps)
