"""A pipeline evaluated by the real mteb package, on a task made of a part of SciFact.

Oracles: mteb's own encoder path with the same model (nDCG@10, MRR and recall to 5 decimals), and our measures of the same run.
"""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

mteb = pytest.importorskip("mteb", reason="mteb is not installed (it comes with the dev packages)")

from cribble.configs.mteb_model import mteb_model  # noqa: E402
from cribble.corpora import load_dataset  # noqa: E402
from cribble.corpora.dataset import Dataset  # noqa: E402
from cribble.errors import UsageError  # noqa: E402
from cribble.eval import evaluate  # noqa: E402
from cribble.eval.exports import mteb_result  # noqa: E402
from cribble.eval.mteb_adapter import MtebSearch  # noqa: E402
from cribble.eval.mteb_tasks import task_dataset  # noqa: E402
from cribble.eval.results_store import Result  # noqa: E402
from cribble.models.checkpoint import embedded_checkpoint  # noqa: E402
from cribble.records import Qrels  # noqa: E402
from datasets import Dataset as Rows  # noqa: E402
from mteb.abstasks.retrieval import AbsTaskRetrieval  # noqa: E402
from mteb.abstasks.task_metadata import TaskMetadata  # noqa: E402
from mteb.results import TaskResult  # noqa: E402

DATA = os.environ.get("CRIBBLE_DATA")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not DATA, reason="CRIBBLE_DATA names no folder with SciFact"),
]


def metadata(name, kind):
    return TaskMetadata(
        name=name,
        description="a part of SciFact",
        dataset={"path": "local/scifact-part", "revision": "1"},
        reference=None,
        type=kind,
        category="t2t",
        modalities=["text"],
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        main_score="ndcg_at_10",
        date=("2020-01-01", "2020-12-31"),
        domains=["Academic"],
        task_subtypes=[],
        license="cc-by-4.0",
        annotations_creators="expert-annotated",
        dialect=[],
        sample_creation="found",
        bibtex_citation="",
    )


@pytest.fixture(scope="module")
def part():
    """Twelve queries of SciFact, their relevant documents and twenty others."""
    data = load_dataset(f"beir:{DATA}/scifact")
    queries = data.queries[:12]
    judged = {query.id: data.qrels[query.id] for query in queries}
    wanted = {doc_id for row in judged.values() for doc_id in row}
    others = [document for _, document in zip(range(20), data.documents(), strict=False)]
    documents = {document.id: document for document in [*data.get_many(sorted(wanted)).values(), *others]}
    return queries, judged, documents


def task(part, candidates=None):
    queries, judged, documents = part

    class Part(AbsTaskRetrieval):
        metadata = globals()["metadata"]("SciFactPart", "Reranking" if candidates else "Retrieval")

        def load_data(self, num_proc=None, **_):
            rows = [{"id": d.id, "title": d.title, "text": d.text} for d in documents.values()]
            split = {
                "corpus": Rows.from_list(rows),
                "queries": Rows.from_list([{"id": q.id, "text": q.text} for q in queries]),
                "relevant_docs": {q: dict(row) for q, row in judged.items()},
                "top_ranked": candidates,
            }
            self.dataset = {"default": {"test": split}}
            self.data_loaded = True

    return Part()


def scores(model, made, **options):
    result = mteb.evaluate(model, made, cache=None, **options)
    row = result.task_results[0].scores["test"][0]
    return result.task_results[0], row


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    """Where all pipelines build, so that the part is encoded once."""
    return tmp_path_factory.mktemp("indexes")


def test_a_dense_pipeline_scores_what_mteb_gives_its_encoder(part, indexes):
    from sentence_transformers import SentenceTransformer

    _, ours = scores(mteb_model([{"use": "dense", "k": 1000}], "cribble/dense", indexes=indexes), task(part))
    _, theirs = scores(SentenceTransformer(str(embedded_checkpoint().folder), device="cpu"), task(part))
    for name in ("ndcg_at_10", "mrr_at_10", "map_at_100", "recall_at_20"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-5), name
    assert 0.5 < ours["ndcg_at_10"] < 1


def test_mteb_scores_as_we_do(part, indexes, tmp_path):
    """trec_eval's measures of the same run, to 5 decimals; the result file is one that mteb reads."""
    queries, judged, _ = part
    model = mteb_model([{"use": "bm25", "k": 1000}], "cribble/bm25", indexes=indexes)
    result, row = scores(model, task(part), prediction_folder=tmp_path)
    predicted = json.loads(next(tmp_path.glob("*predictions.json")).read_text())["default"]["test"]
    means = evaluate(predicted, judged, "nDCG@10 R@100 AP@10 P@5").means
    for ours, theirs in (
        ("nDCG@10", "ndcg_at_10"),
        ("R@100", "recall_at_100"),
        ("AP@10", "map_at_10"),
        ("P@5", "precision_at_5"),
    ):
        assert row[theirs] == pytest.approx(means[ours], abs=1e-5), ours
    assert set(predicted) == {query.id for query in queries}
    assert result.task_name == "SciFactPart"


def candidates(part):
    queries, judged, documents = part
    ids = sorted(documents)
    rng = np.random.default_rng(3)
    return {q.id: list(dict.fromkeys([*judged[q.id], *rng.choice(ids, 5).tolist()])) for q in queries}


@pytest.mark.parametrize(
    "stages", [[{"use": "dense"}], [{"use": "bm25"}, {"use": "maxsim", "depth": 5}], [{"use": "maxsim", "depth": 50}]]
)
def test_only_the_candidates_are_ranked(part, indexes, stages):
    """Whole pipelines and a reranker alone return nothing but `top_ranked`; mteb evaluates them on a reranking task."""
    listed = candidates(part)
    model = mteb_model(stages, indexes=indexes)
    made = task(part, listed)
    made.load_data()
    data = made.dataset["default"]["test"]
    model.index(
        data["corpus"], task_metadata=made.metadata, hf_split="test", hf_subset="default", encode_kwargs={}, num_proc=1
    )
    queries = data["queries"].select(range(3))
    found = model.search(queries, top_k=1000, top_ranked=listed, encode_kwargs={}, num_proc=1)
    for query_id, ranking in found.items():
        assert set(ranking) <= set(listed[query_id])
        if stages[0]["use"] != "bm25":
            assert set(ranking) == set(listed[query_id])
    assert any(len(ranking) > 1 for ranking in found.values())
    if stages[0]["use"] == "dense":
        _, row = scores(model, task(part, listed))
        assert row["ndcg_at_10"] > 0.7


def test_it_is_a_searcher_and_nothing_else():
    from mteb.models import CrossEncoderProtocol, EncoderProtocol, SearchProtocol

    model = MtebSearch(lambda data: None, "cribble/none", facts={"languages": ["eng-Latn"], "n_parameters": 7})
    assert isinstance(model, SearchProtocol)
    assert not isinstance(model, CrossEncoderProtocol)
    assert not isinstance(model, EncoderProtocol)
    assert model.mteb_model_meta.n_parameters == 7
    with pytest.raises(UsageError, match="organisation/model"):
        MtebSearch(lambda data: None, "none")
    with pytest.raises(UsageError, match="index first"):
        model.search([], top_k=1)


def test_a_task_as_a_dataset(part):
    made = task(part, candidates(part))
    made.load_data()
    made.ignore_identical_ids = True
    data = task_dataset(made)
    queries, judged, documents = part
    assert isinstance(data, Dataset)
    assert data.queries == queries
    assert data.qrels == Qrels.from_dict(judged)
    assert {document.id for document in data.documents()} == set(documents)
    assert data.drop_self
    assert data.candidates.ids(queries[0].id) == candidates(part)[queries[0].id]


def test_mteb_reads_its_json():
    run = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}}
    evaluation = evaluate(run, {"q": {"b": 1}}, "nDCG@10 R@100 RR@10", name="s")
    content = mteb_result(Result.of(evaluation, "beir/scifact"), "SciFact", revision="1", version="2.20.0")
    read = TaskResult.model_validate(content)
    assert read.scores["test"][0]["main_score"] == round(1 / np.log2(3), 5)
    assert read.scores["test"][0]["mrr_at_10"] == 0.5
    with pytest.raises(UsageError, match="nDCG@10"):
        mteb_result(Result("s", "d", {"AP": 1.0}), "SciFact", revision="1", version="2")
