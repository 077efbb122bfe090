"""Against pyserini's own LuceneSearcher on the same files, and its published numbers, on real collections."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from cribble.corpora import load_dataset
from cribble.eval import evaluate, parse_measures
from cribble.index import jvm
from cribble.index.lucene import LuceneIndex
from cribble.records import Run

DATA = Path(os.environ.get("CRIBBLE_DATA") or "/nowhere")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not os.environ.get("CRIBBLE_DATA"), reason="CRIBBLE_DATA is not set"),
]


@pytest.fixture(scope="module")
def pyserini():
    """pyserini's Lucene module in the machine that cribble starts; its import wants an OpenAI key that nothing uses."""
    jvm.call("ping")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "none")
        import pyserini.index.lucene
        import pyserini.search.lucene
    return pyserini


def build(folder, name: str, **options) -> tuple:
    dataset = load_dataset(f"beir:{DATA / name}")
    index = LuceneIndex.build(folder / name.replace("/", "-"), dataset.documents(), corpus=dataset.id, **options)
    return dataset, index


def measured(dataset, index: LuceneIndex, measures: str, **options) -> dict[str, float]:
    found = index.search([query.text for query in dataset.queries], 1000, **options)
    rankings = [(query.id, r.ids, r.scores) for query, r in zip(dataset.queries, found, strict=True)]
    return evaluate(Run.from_rankings(rankings, name="bm25"), dataset.qrels, parse_measures(measures)).means


@pytest.fixture(scope="module")
def scifact(tmp_path_factory):
    return build(tmp_path_factory.mktemp("scifact"), "scifact")


@pytest.fixture(scope="module")
def with_vectors(tmp_path_factory, scifact, pyserini):
    """SciFact as pyserini indexes it, with the document vectors that its RM3 reads."""
    folder = tmp_path_factory.mktemp("pyserini") / "scifact"
    arguments = ["-input", "", "-index", str(folder), "-collection", "JsonCollection", "-storeDocvectors"]
    indexer = pyserini.index.lucene.LuceneIndexer(args=[*arguments, "-threads", "1"])
    indexer.add_batch_dict([{"id": d.id, "contents": d.full_text} for d in scifact[0].documents()])
    indexer.close()
    return pyserini.search.lucene.LuceneSearcher(str(folder))


def same_files(pyserini, index: LuceneIndex):
    """pyserini's searcher over our own Lucene files."""
    assert len(index.manifest.shards) == 1
    return pyserini.search.lucene.LuceneSearcher(str(index.path / "shards" / "00000" / "lucene"))


def compare(index: LuceneIndex, searcher, queries: list[str], k: int = 1000, generator=None, **options) -> None:
    """Rankings are identical. pyserini orders equal scores by id ascending, we descending; and it rounds scores to 1e-4
    and then lowers each of a group of (nearly) equal ones by a further 1e-6, in float32.
    """
    names = [str(i) for i in range(len(queries))]
    theirs = searcher.batch_search(queries, names, k, 2, query_generator=generator)
    for name, mine in zip(names, index.search(queries, k, **options), strict=True):
        expected = [(hit.docid, hit.score) for hit in theirs[name]]
        assert len(expected) == len(mine.ids)
        scores = np.array([score for _, score in expected])
        assert np.abs(scores - mine.scores).max(initial=0) < 6e-5 + 1e-6 * len(scores)
        order = [doc_id for _, doc_id in sorted(zip(-mine.scores, mine.ids, strict=True))]
        whole = len(order) < k
        sure = len(order) if whole else int((mine.scores > mine.scores[-1]).sum())
        assert order[:sure] == [doc_id for doc_id, _ in expected][:sure]


def test_scifact_numbers(scifact):
    """Pyserini's flat index: nDCG@10 .6789, R@100 .9253 (2cr/beir.yaml)."""
    means = measured(*scifact, "nDCG@10 R@100")
    assert means["nDCG@10"] == pytest.approx(0.6789, abs=5e-5)
    assert means["R@100"] == pytest.approx(0.9253, abs=5e-5)


@pytest.mark.parametrize(("k1", "b", "step"), [(0.9, 0.4, 1), (1.5, 0.75, 10)])
def test_scifact_top_1000_are_pyserinis(scifact, pyserini, k1, b, step):
    dataset, index = scifact
    searcher = same_files(pyserini, index)
    searcher.set_bm25(k1, b)
    compare(index, searcher, [query.text for query in dataset.queries[::step]], k1=k1, b=b)


def test_our_files_score_as_pyserinis_own(scifact, with_vectors):
    dataset, index = scifact
    compare(index, with_vectors, [query.text for query in dataset.queries], 100)


@pytest.mark.parametrize(("terms", "documents", "weight"), [(10, 10, 0.5), (20, 5, 0.3)])
def test_rm3_is_anserinis(scifact, with_vectors, terms, documents, weight):
    dataset, index = scifact
    queries = [query.text for query in dataset.queries][:60]
    with_vectors.set_rm3(fb_terms=terms, fb_docs=documents, original_query_weight=weight)
    try:
        options = {"fb_terms": terms, "fb_docs": documents, "original_query_weight": weight}
        compare(index, with_vectors, queries, 100, rm3=options)
    finally:
        with_vectors.unset_rm3()


def test_query_weights_are_anserinis(scifact, pyserini):
    dataset, index = scifact
    import jnius

    searcher = same_files(pyserini, index)
    generator = jnius.autoclass("io.anserini.search.query.QuerySideBm25QueryGenerator")
    reader = searcher.index_reader.reader
    queries = [query.text for query in dataset.queries[::5]] + [" ".join(q.text for q in dataset.queries[:20])]
    compare(index, searcher, queries, generator=generator(0.9, 0.4, reader), query_weights="bm25")


@pytest.mark.parametrize("language", ["de", "zh", "ar"])
def test_other_languages_are_pyserinis(tmp_path, pyserini, language):
    dataset, index = build(tmp_path, f"xquad/{language}", language=language)
    searcher = same_files(pyserini, index)
    searcher.set_language(language)
    compare(index, searcher, [query.text for query in dataset.queries], 10)
    assert measured(dataset, index, "nDCG@10")["nDCG@10"] > 0.85


@pytest.mark.parametrize(
    ("name", "measure", "least", "most"),
    # A small BM25 of our own gives .492 (binary), .362 and .438: analysis and length rounding differ a little.
    [("cranfield", "nDCG@10", 0.32, 0.42), ("cisi", "nDCG@10", 0.33, 0.40), ("vaswani-npl", "AP", 0.27, 0.31)],
)
def test_classic_collections_run_through(tmp_path, name, measure, least, most):
    dataset, index = build(tmp_path, name, shard_documents=500)
    assert len(index.manifest.shards) > 1
    assert least < measured(dataset, index, measure)[measure] < most
