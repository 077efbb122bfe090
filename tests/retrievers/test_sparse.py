"""The sparse retriever over every engine, against products of the encoder's own vectors (float64, all documents)."""

from __future__ import annotations

import importlib.util
import json
import shutil

import numpy as np
import pytest
from cribble.corpora.dataset import Dataset
from cribble.errors import CribbleError, InputError, SetupError, UsageError
from cribble.models.sparse_encoder import SparseEncoder
from cribble.records import DescribedDocument, Document, Query
from cribble.retrievers.opening import open_retriever
from cribble.retrievers.sparse import SparseRetriever
from cribble.tests.models.conftest import WORDS
from cribble.tests.models.sparse_models import TERMS, dense, save_inference_free, save_mlm
from cribble.tests.models.tiny_language_models import save_language_model

DOCUMENTS = [
    DescribedDocument.of(
        Document(f"d{i}", " ".join(WORDS[i % 31 : i % 31 + 1 + i % 6]), "river" if i % 4 == 0 else ""),
        {"year": 2000 + i},
    )
    for i in range(60)
]
DOCUMENTS.append(Document("twin", DOCUMENTS[5].text, DOCUMENTS[5].title))
QUERIES = [Query("1", "cat and dog"), Query("2", "the river"), Query("3", "neural search index"), Query("4", "")]
ENGINES = {
    "inverted": {"storage": "float32"},
    "lucene": {},
    "seismic": {},
}


def dataset(documents=DOCUMENTS):
    return Dataset("animals", QUERIES, open_documents=lambda: iter(documents), num_documents=len(documents))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of tiny models: one, another over its vocabulary, one over another, one without inference for queries."""
    root = tmp_path_factory.mktemp("models")
    save_mlm(root / "one")
    shutil.copytree(root / "one", root / "foreign")
    path = root / "foreign" / "tokenizer.json"
    content = json.loads(path.read_text())
    content["model"]["vocab"]["feline"] = content["model"]["vocab"].pop("cat")
    path.write_text(json.dumps(content))
    save_mlm(root / "two", seed=9)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(root / "one" / file, root / "two" / file)
    save_inference_free(root / "free")
    return root


@pytest.fixture(scope="module")
def index(models, tmp_path_factory):
    """Folder of an `inverted` index of model one, which keeps 40 terms a document. Not to be changed."""
    path = tmp_path_factory.mktemp("indexes") / "inverted"
    SparseRetriever.build(
        dataset(),
        path,
        model=str(models / "one"),
        device="cpu",
        document_terms=40,
        storage="float32",
        shard_documents=25,
    )
    return path


def products(encoder, queries, documents=DOCUMENTS):
    """Scores (queries, documents) float64."""
    texts = [query.text for query in queries]
    return dense(encoder.encode_queries(texts)).astype(np.float64) @ dense(
        encoder.encode_documents(documents)
    ).T.astype(np.float64)


def check(run, expected, documents=DOCUMENTS, k=1000, rel=1e-5):
    """The run has the best `k` documents that share a term, equal scores by id descending."""
    for query, scores in zip(QUERIES, expected, strict=True):
        best = sorted(((s, d.id) for s, d in zip(scores, documents, strict=True) if s > 0), reverse=True)[:k]
        by_id = {d.id: s for s, d in zip(scores, documents, strict=True)}
        ranking = run[query.id]
        assert ranking.scores == pytest.approx([s for s, _ in best], rel=rel)
        assert ranking.scores == pytest.approx([by_id[i] for i in ranking.ids], rel=rel)


def skip_without(engine):
    if engine == "seismic" and importlib.util.find_spec("seismic") is None:
        pytest.skip('pyseismic-lsr is not installed: pip install "cribble[seismic]"')


@pytest.mark.parametrize("engine", ENGINES)
def test_scores_are_the_products_of_the_encoders_vectors(models, engine, tmp_path):
    skip_without(engine)
    options = {"model": str(models / "one"), "device": "cpu", "document_terms": 40}
    retriever = SparseRetriever.build(dataset(), tmp_path / "index", engine=engine, **options, **ENGINES[engine])
    rule = {"quantise": "naver"} if engine == "lucene" else {}
    encoder = SparseEncoder(models / "one", device="cpu", document_terms=40, **rule)
    searched = {"query_cut": 1000, "heap_factor": 0.0} if engine == "seismic" else {}
    opened = open_retriever(tmp_path / "index", device="cpu", **searched)
    assert opened.registered_name == "sparse"
    run = opened(QUERIES)
    expected = products(encoder, QUERIES)
    check(run, expected)
    if engine == "lucene":  # whole numbers: not merely near
        assert run["1"].scores.tolist() == sorted((s for s in expected[0] if s > 0), reverse=True)
        assert opened.encoder.spec.extra["quantise"] == "naver"
    assert len(run["4"].ids) == np.count_nonzero(expected[3])
    assert (run["1"].ids.tolist().index("twin"), run.score_kind) == (run["1"].ids.tolist().index("d5") - 1, "dot")
    check(retriever(QUERIES).top(7), expected, k=7) if engine != "seismic" else None


@pytest.mark.parametrize("engine", ENGINES)
def test_filters_limit_what_is_found(models, engine, tmp_path):
    skip_without(engine)
    SparseRetriever.build(
        dataset(), tmp_path / "index", engine=engine, model=str(models / "one"), device="cpu", **ENGINES[engine]
    )
    encoder = SparseEncoder(models / "one", device="cpu", **({"quantise": "naver"} if engine == "lucene" else {}))
    expected = products(encoder, QUERIES)
    for options, kept in (
        ({"allow": ["d3", "d9", "twin"]}, lambda d: d.id in ("d3", "d9", "twin")),
        ({"deny": ["d3", "d9"]}, lambda d: d.id not in ("d3", "d9")),
        ({"where": "year >= 2050"}, lambda d: getattr(d, "metadata", {"year": 0})["year"] >= 2050),
    ):
        mask = np.array([kept(document) for document in DOCUMENTS])
        check(open_retriever(tmp_path / "index", device="cpu", **options)(QUERIES), expected * mask)


# ---- options -------------------------------------------------------------------------------------------------------------


def test_what_an_engine_lacks_is_refused_by_name(models, index, tmp_path):
    build = {"dataset": dataset(), "path": tmp_path / "x", "model": str(models / "one")}
    for options, message in (
        ({"engine": "lucent"}, "engine 'lucent' is unknown: did you mean 'lucene'"),
        ({"n_postings": 5}, "the engine inverted has no option 'n_postings'"),
        ({"engine": "lucene", "storage": "uint8"}, "the engine lucene has no option 'storage'"),
        ({"engine": "seismic", "storage": "uint8"}, "the engine seismic has no option 'storage'"),
        ({"expand_queries": 3}, "expand_queries has no effect without expand=MODEL"),
        ({"document_term": 3}, "no option 'document_term': did you mean 'document_terms'"),
        ({"query_terms": 0}, "query_terms"),
    ):
        with pytest.raises(UsageError, match=message):
            SparseRetriever.build(**build, **options)
    with pytest.raises(UsageError, match="no model is named and none is embedded"):
        SparseRetriever.build(dataset(), tmp_path / "x")
    assert not (tmp_path / "x").exists()
    for name, value in (("query_cut", 3), ("heap_factor", 0.5)):
        with pytest.raises(UsageError, match=f"{name} has no effect: .* is an index of kind inverted"):
            SparseRetriever(index, **{name: value})(QUERIES)


def test_seismic_without_its_package_is_refused_with_the_line_that_installs_it(models, tmp_path):
    if importlib.util.find_spec("seismic") is not None:
        pytest.skip("pyseismic-lsr is installed here")
    with pytest.raises(SetupError, match=r"the engine seismic needs the package seismic .*cribble\[seismic\]"):
        SparseRetriever.build(dataset(), tmp_path / "x", engine="seismic", model=str(models / "one"))


def test_query_terms_and_approx_change_the_search_alone(models, index):
    encoder = SparseEncoder(models / "one", device="cpu", document_terms=40, query_terms=5)
    check(SparseRetriever(index, device="cpu", query_terms=5)(QUERIES), products(encoder, QUERIES))
    exact, approximate = SparseRetriever(index, device="cpu"), SparseRetriever(index, device="cpu", approx=0.9)
    assert exact(QUERIES) != approximate(QUERIES)
    assert exact.key() != approximate.key()


# ---- encoders ------------------------------------------------------------------------------------------------------------


def test_another_encoder_is_refused(models, index):
    for name, message in (("two", "revision"), ("foreign", "vocabulary")):
        with pytest.raises(InputError, match=rf"made by another encoder[\s\S]*{message}"):
            SparseRetriever(index, model=str(models / name), device="cpu")(QUERIES)


def test_queries_by_another_encoder_need_the_same_vocabulary(models, index):
    documents, queries = (SparseEncoder(models / name, device="cpu", document_terms=40) for name in ("one", "two"))
    expected = dense(queries.encode_queries([query.text for query in QUERIES])).astype(np.float64) @ dense(
        documents.encode_documents(DOCUMENTS)
    ).T.astype(np.float64)
    check(SparseRetriever(index, query_model=str(models / "two"), device="cpu")(QUERIES), expected)
    with pytest.raises(InputError, match="their terms are not the same words"):
        SparseRetriever(index, query_model=str(models / "foreign"), device="cpu")(QUERIES)


def test_a_pair_of_encoders_is_recorded_and_checked(models, tmp_path):
    partner = shutil.copytree(models / "two", tmp_path / "partner")
    options = {"model": str(models / "one"), "query_model": str(partner), "device": "cpu", "storage": "float32"}
    built = SparseRetriever.build(dataset(), tmp_path / "pair", **options, query_max_length=4)
    short = SparseEncoder(models / "one", device="cpu", query_model=str(partner), query_max_length=4)
    check(built(QUERIES), products(short, QUERIES))
    SparseRetriever.build(dataset(), tmp_path / "pair", **options)  # the same index again
    SparseRetriever.build(dataset(), tmp_path / "pair", **options, overwrite=True)
    retriever = SparseRetriever(tmp_path / "pair", device="cpu")
    pair = SparseEncoder(models / "one", device="cpu", query_model=str(partner))
    check(retriever(QUERIES), products(pair, QUERIES))
    assert retriever.query_encoder.checkpoint.name == "partner"  # the documents' network is not loaded for queries
    shutil.copy(models / "one" / "model.safetensors", partner / "model.safetensors")
    with pytest.raises(InputError, match=r"the query encoder .*partner has the weights .*, the index was made for"):
        SparseRetriever(tmp_path / "pair", device="cpu")(QUERIES)


def test_queries_without_inference(models, tmp_path):
    SparseRetriever.build(dataset(), tmp_path / "free", model=str(models / "free"), device="cpu", storage="float32")
    encoder = SparseEncoder(models / "free", device="cpu")
    check(SparseRetriever(tmp_path / "free", device="cpu")(QUERIES), products(encoder, QUERIES))


def test_documents_are_expanded_before_they_are_encoded(models, tmp_path):
    writer = save_language_model(tmp_path / "t5", "t5")
    options = {"expand": str(writer), "expand_queries": 2, "expand_seed": 5, "storage": "float32", "device": "cpu"}
    few = DOCUMENTS[:6]
    retriever = SparseRetriever.build(dataset(few), tmp_path / "index", model=str(models / "one"), **options)
    assert [d.text for d in retriever.texts().get_many(["d1"]).values()] == [DOCUMENTS[1].text]  # as it was
    from cribble.models.doc2query import Expander

    expander = Expander(writer, queries=2, seed=5, device="cpu")
    encoder = SparseEncoder(models / "one", device="cpu")
    expected = products(encoder, QUERIES, list(expander.expand(few)))
    check(retriever(QUERIES), expected, few)
    shutil.rmtree(writer)  # searches don't need it
    check(SparseRetriever(tmp_path / "index", device="cpu")(QUERIES), expected, few)


def test_documents_are_added_and_deleted(models, tmp_path):
    options = {"model": str(models / "one"), "device": "cpu", "storage": "float32"}
    retriever = SparseRetriever.build(dataset(DOCUMENTS[:40]), tmp_path / "index", **options)
    retriever.add(dataset(DOCUMENTS[40:]))
    retriever.delete(["d3", "d50"])
    left = [document for document in DOCUMENTS if document.id not in ("d3", "d50")]
    check(retriever(QUERIES), products(SparseEncoder(models / "one", device="cpu"), QUERIES, left), left)


def test_a_model_that_moved_is_asked_for(models, tmp_path):
    folder = shutil.copytree(models / "one", tmp_path / "here")
    SparseRetriever.build(dataset(), tmp_path / "index", model=str(folder), device="cpu")
    moved = folder.rename(tmp_path / "there")
    with pytest.raises(SetupError, match="which is not there: name its folder as model"):
        SparseRetriever(tmp_path / "index", device="cpu")(QUERIES)
    assert len(SparseRetriever(tmp_path / "index", model=str(moved), device="cpu")(QUERIES)["1"].ids) > 10


def test_documents_without_terms_are_counted_and_not_found(models, tmp_path, caplog):
    """A weight that few reach leaves some documents empty."""
    encoder = SparseEncoder(models / "one", device="cpu")
    weights = dense(encoder.encode_documents(DOCUMENTS))
    least = float(np.sort(weights.max(axis=1))[20])
    retriever = SparseRetriever.build(
        dataset(), tmp_path / "index", model=str(models / "one"), device="cpu", least_weight=least, storage="float32"
    )
    empty = int((weights.max(axis=1) < least).sum())
    assert retriever.opened.manifest.counts["empty_vectors"] == pytest.approx(empty, abs=1) != 0
    assert "documents have no terms: no query finds them" in caplog.text
    pruned = SparseEncoder(models / "one", device="cpu", least_weight=least)
    check(retriever(QUERIES), products(pruned, QUERIES))


def test_the_same_index_is_used_again_and_another_refused(models, index, tmp_path):
    path = shutil.copytree(index, tmp_path / "index")
    options = {"model": str(models / "one"), "device": "cpu", "document_terms": 40, "storage": "float32"}
    SparseRetriever.build(dataset(), path, **options, shard_documents=25)
    with pytest.raises(SetupError, match="document_terms: 30 asked for, 40 recorded"):
        SparseRetriever.build(dataset(), path, **options | {"document_terms": 30})
    for other, message in (
        ({"quantise": "naver"}, "quantise: 'naver' asked for, none recorded"),
        ({"engine": "lucene", "storage": None}, "engine: 'lucene' asked for, an index of kind inverted is there"),
        ({"expand": "some/t5"}, "expand: 'some/t5' asked for, None recorded"),
        ({"storage": "uint8"}, "storage: 'uint8' asked for, 'float32' recorded"),
        ({"max_length": 9}, "max_length: 9 asked for, 64 recorded"),
    ):
        with pytest.raises(SetupError, match=message):
            SparseRetriever.build(dataset(), path, **{n: v for n, v in (options | other).items() if v is not None})
    SparseRetriever.build(dataset(), path, **options | {"quantise": "none", "engine": "inverted"})
    with pytest.raises(CribbleError, match="its documents are others"):
        SparseRetriever.build(dataset(DOCUMENTS[:5]), path, **options)
    assert SparseRetriever(path, device="cpu").opened.terms == TERMS
