"""What a Lucene index finds, against BM25 written out in numpy, and what it refuses."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from cribble.errors import CribbleError, InputError, SetupError, UsageError
from cribble.index.lucene import LuceneIndex, Rm3
from cribble.index.opening import index_kinds, open_index
from cribble.records import Document
from cribble.tests.lucene.lucene_builds import QUERIES, build, make_documents, rankings

COUNT = 300


@pytest.fixture(scope="module")
def documents():
    return make_documents(COUNT)


@pytest.fixture(scope="module")
def index(tmp_path_factory, documents):
    return build(tmp_path_factory.mktemp("lucene") / "index", documents)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory, documents):
    return build(tmp_path_factory.mktemp("lucene") / "sharded", documents, shard_documents=37)


class Statistics:
    """BM25 as Lucene defines it, from the analysed texts. Lengths below 40 are stored exactly."""

    def __init__(self, index: LuceneIndex, documents: list[Document]) -> None:
        self.index = index
        self.ids = [document.id for document in documents]
        self.counts = [Counter(terms) for terms in index.analyze([d.full_text for d in documents])]
        self.frequency = Counter(term for counts in self.counts for term in counts)
        self.average = sum(map(Counter.total, self.counts)) / len(documents)

    def idf(self, term: str) -> float:
        return math.log(1 + (len(self.ids) - self.frequency[term] + 0.5) / (self.frequency[term] + 0.5))

    def weight(self, term: str, counts: Counter, k1: float, b: float) -> float:
        if term not in counts:
            return 0.0
        norm = k1 * (1 - b + b * counts.total() / self.average)
        return self.idf(term) * counts[term] / (counts[term] + norm)

    def search(self, query: str, k: int, k1: float, b: float, *, weighted: bool = False) -> list[tuple[str, float]]:
        words = Counter(self.index.analyze([query])[0])
        found = []
        for doc_id, counts in zip(self.ids, self.counts, strict=True):
            if any(term in counts for term in words):
                score = sum(
                    (self.weight(term, words, k1, b) if weighted else times) * self.weight(term, counts, k1, b)
                    for term, times in words.items()
                )
                found.append((doc_id, score))
        return sorted(found, key=lambda row: (np.float32(row[1]), row[0]), reverse=True)[:k]


def assert_equal_rankings(found, expected):
    """Same scores; same documents where scores differ by more than float32 rounding."""
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert [score for _, score in mine] == pytest.approx([score for _, score in theirs], rel=2e-6)
        by_id = dict(theirs)
        assert [by_id.get(doc_id) for doc_id, _ in mine] == pytest.approx([s for _, s in mine], rel=2e-6)


@pytest.mark.parametrize(("k1", "b"), [(0.9, 0.4), (1.2, 0.75), (0.0, 0.0), (2.5, 1.0)])
@pytest.mark.parametrize("query_weights", ["binary", "bm25"])
def test_scores_are_bm25_as_defined(index, documents, k1, b, query_weights):
    statistics = Statistics(index, documents)
    expected = [statistics.search(q, COUNT, k1, b, weighted=query_weights == "bm25") for q in QUERIES]
    assert_equal_rankings(rankings(index, k=COUNT, k1=k1, b=b, query_weights=query_weights), expected)


def test_a_repeated_query_word_counts_as_often(index):
    once, twice = index.search(["river", "river river"], 5)
    assert twice.ids.tolist() == once.ids.tolist()
    assert twice.scores == pytest.approx(2 * once.scores, rel=1e-6)


def test_shards_are_searched_as_one_index(index, sharded):
    assert len(sharded.manifest.shards) == 9
    for options in ({}, {"query_weights": "bm25"}, {"rm3": True}, {"k1": 2.0, "b": 0.1}):
        assert rankings(sharded, **options) == rankings(index, **options), options


def test_rows_are_lucene_document_numbers(sharded, documents):
    """The first hit of a document's own id as its only word is that document, for every document of every shard."""
    hits = sharded.search_columns([document.full_text for document in documents[::7]], 1)
    texts = [sharded.texts.document(row).full_text for row in hits.documents.tolist()]
    own = [document.full_text for document in documents[::7]]
    best = sharded.search(own, 1)
    assert [sharded.texts.get_many([r.ids[0]])[r.ids[0]].full_text for r in best] == texts
    assert hits.offsets.tolist() == list(range(len(own) + 1))
    assert hits.documents.dtype == np.int32
    assert hits.scores.dtype == np.float32


def test_ties_go_by_id_descending_also_at_the_cut(tmp_path):
    names = ["b", "ä", "a", "é", "c10", "c9", "Z", "木"]
    index = build(tmp_path / "index", [Document(name, "same words") for name in names], shard_documents=3)
    expected = sorted(names, key=str.encode, reverse=True)
    for k in range(1, len(names) + 2):
        found = index.search(["words"], k)[0]
        assert found.ids.tolist() == expected[:k]
        assert len(set(found.scores.tolist())) == 1


def test_every_cut_is_the_beginning_of_the_whole_ranking(sharded):
    whole = rankings(sharded, k=COUNT)
    for k in (1, 2, 3, 10, 50, 170):
        assert rankings(sharded, k=k) == [ranking[:k] for ranking in whole]


def test_threads_change_nothing(sharded):
    queries = QUERIES * 40
    assert rankings(sharded, queries, threads=2) == rankings(sharded, queries)
    assert rankings(sharded, queries, threads=2, rm3=True) == rankings(sharded, queries, rm3=True)


def test_k_beyond_the_corpus_and_queries_that_find_nothing(index):
    empty, stop_words, unknown, found = index.search(["", "the of and", "zzzz", "river"], 10 * COUNT)
    assert [len(r.ids) for r in (empty, stop_words, unknown)] == [0, 0, 0]
    assert 0 < len(found.ids) < COUNT
    assert found.ids.dtype == object
    assert found.scores.dtype == np.float64
    assert index.search([], 10) == []
    assert [len(r.ids) for r in index.search(["", "zzzz"], 5, rm3=True)] == [0, 0]


def test_allow_limits_the_search(index, sharded, documents, caplog):
    allowed = {document.id for document in documents[::5]}
    whole = rankings(index, k=COUNT)
    expected = [[row for row in ranking if row[0] in allowed][:20] for ranking in whole]
    for one in (index, sharded):
        assert rankings(one, k=20, allow=allowed) == expected
    assert [r.ids.tolist() for r in index.search(QUERIES, 5, allow=[])] == [[]] * len(QUERIES)
    assert not caplog.records
    assert [len(r.ids) for r in index.search(["river"], 5, allow={"nobody", documents[0].id})] <= [1]
    assert [r.getMessage() for r in caplog.records] == [
        f"{index.path}: 1 of the 2 allowed document ids are not in the index"
    ]


def test_rm3_changes_the_ranking_unless_the_query_has_all_the_weight(index):
    plain, feedback = rankings(index), rankings(index, rm3=True)
    assert feedback != plain
    assert rankings(index, rm3={}) == feedback == rankings(index, rm3=Rm3(10, 10, 0.5, True))
    assert [r.ids.tolist() for r in index.search(QUERIES, 50, rm3={"original_query_weight": 1.0})] == [
        [doc_id for doc_id, _ in ranking] for ranking in plain
    ]


def test_rm3_brings_words_of_the_feedback_documents(tmp_path):
    documents = [Document(f"x{i}", f"filler{i} nothing{i}") for i in range(100)]
    documents += [
        Document("seed", "volcano magma magma lava скала"),
        Document("near", "magma lava"),
        Document("far", "lava"),
        Document("cyrillic", "скала"),
    ]
    index = build(tmp_path / "index", documents)

    def found(**rm3):
        return set(index.search(["volcano"], 10, rm3=rm3 or None)[0].ids.tolist())

    assert found() == {"seed"}
    assert found(fb_docs=1) == {"seed", "near", "far"}
    assert found(fb_terms=1) == {"seed", "near"}  # magma, the most frequent
    assert found(filter_terms=False) == {"seed", "near", "far", "cyrillic"}
    scores = index.search(["volcano"], 10, rm3={"original_query_weight": 1.0})[0].scores
    assert scores[1:].tolist() == [0.0] * (len(scores) - 1)  # the feedback terms are asked for, with no weight


def test_unicode_and_long_documents(tmp_path):
    long = "filler " * 1_500_000 + "needle"
    documents = [
        Document("ключ", "Привет, мир"),
        Document("emoji 🎉", "party 🎉 straße İstanbul"),
        Document("long", long),
        Document("empty", ""),
        Document("white", " \n\t"),
        Document("title only", "", "headline"),
        Document("nul", "before\0after"),
        Document("word", "w" * 70_000),
    ]
    assert len(long) > 10 << 20
    index = build(tmp_path / "index", documents)
    queries = ["мир", "straße", "needle", "headline", "after", "🎉", "w" * 255]
    assert [r.ids.tolist() for r in index.search(queries, 10)] == [
        *[["ключ"], ["emoji 🎉"], ["long"], ["title only"], ["nul"], ["emoji 🎉"], ["word"]]
    ]
    assert index.manifest.counts["empty_texts"] == 2
    assert len(index) == len(documents)
    assert index.search([" ".join(f"word{i}" for i in range(5000)) + " needle"], 1)[0].ids.tolist() == ["long"]


def test_opening(index, tmp_path):
    assert "lucene" in index_kinds()
    again = open_index(index.path)
    assert isinstance(again, LuceneIndex)
    assert rankings(again) == rankings(index)
    assert again.language == "en"
    assert again.manifest.options == {"language": "en"}
    assert again.texts.get_many(["d7", "none"]).keys() == {"d7"}
    again.close()
    with pytest.raises(SetupError, match="no such folder"):
        LuceneIndex.open(tmp_path / "nothing")


def test_a_flipped_byte_is_found(tmp_path, documents):
    path = build(tmp_path / "index", documents).path
    postings = next(path.glob("shards/00000/lucene/*.doc"))
    data = bytearray(postings.read_bytes())
    data[len(data) // 2] ^= 1
    postings.write_bytes(data)
    with pytest.raises(SetupError, match="damaged") as caught:
        LuceneIndex.open(path)
    assert str(postings) in str(caught.value)


def test_another_language_is_another_plan(tmp_path):
    documents = [Document("1", "die Häuser der Stadt"), Document("2", "das Haus am See")]
    index = build(tmp_path / "index", documents, language="de")
    assert index.search(["Häusern"], 5)[0].ids.tolist() == ["2", "1"]
    assert LuceneIndex.open(index.path).language == "de"
    (index.path / "manifest.json").unlink()
    with pytest.raises(SetupError, match=r"options.language: 'en' asked for, 'de' recorded"):
        build(index.path, documents)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is 0, expected a whole number of at least 1"),
        ({"k": 2.5}, "k is 2.5"),
        ({"threads": 0}, "threads is 0"),
        ({"k1": -1}, "k1 is -1"),
        ({"k1": math.nan}, "k1 is nan"),
        ({"b": 1.5}, "b is 1.5, expected a number from 0 to 1"),
        ({"query_weights": "bm52"}, "did you mean 'bm25'"),
        ({"rm3": {"fb_term": 5}}, "did you mean 'fb_terms'"),
        ({"rm3": {"fb_docs": 0}}, "fb_docs is 0"),
        ({"rm3": {"original_query_weight": 2}}, "original_query_weight is 2"),
        ({"rm3": True, "query_weights": "bm25"}, "choose one"),
        ({"queries": "one text"}, "expected a list"),
    ],
)
def test_wrong_options_are_refused(index, options, message):
    queries, k = options.pop("queries", ["river"]), options.pop("k", 10)
    with pytest.raises(UsageError) as caught:
        index.search(queries, k, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_corpora_are_refused(tmp_path):
    for documents, error, message in (
        ([], InputError, "no documents"),
        ([Document("1", "a"), Document("1", "b")], InputError, "'1'"),
        ([Document("i" * 40_000, "a")], InputError, "shorten it"),
        ([Document("1", "half \ud800 pair")], InputError, "surrogate"),
    ):
        with pytest.raises(CribbleError) as caught:
            build(tmp_path / "index", documents, overwrite=True)
        assert isinstance(caught.value, error)
        assert message in str(caught.value)
    with pytest.raises(UsageError, match="language 'eng' has no analyzer: did you mean 'en'"):
        build(tmp_path / "index", [Document("1", "a")], language="eng")
