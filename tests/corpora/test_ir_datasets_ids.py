"""ir_datasets ids through the real library: datasets registered locally with its own API, so that nothing is fetched."""

import logging
from typing import NamedTuple

import ir_datasets
import pytest
from cribble.corpora import load_dataset
from cribble.errors import SetupError, UsageError
from cribble.records import Document, Query
from ir_datasets.datasets.base import Dataset
from ir_datasets.formats import BaseDocs, BaseQrels, BaseQueries, GenericDoc, GenericQuery, TrecQrel
from ir_datasets.indices import PickleLz4FullStore


class Paper(NamedTuple):
    doc_id: str
    title: str
    abstract: str
    year: int

    def default_text(self):
        return f"{self.title} {self.abstract}"


class Bare(NamedTuple):
    doc_id: str
    body: str
    number: int
    note: str


class Topic(NamedTuple):
    query_id: str
    title: str
    narrative: str

    def default_text(self):
        return self.title


class Docs(BaseDocs):
    def __init__(self, rows, folder):
        self.rows, self.folder = rows, folder

    def docs_iter(self):
        return iter(self.rows)

    def docs_cls(self):
        return type(self.rows[0])

    def docs_count(self):
        return len(self.rows)

    def docs_store(self, field="doc_id"):
        return PickleLz4FullStore(self.folder / "docs.pklz4", self.docs_iter, self.docs_cls(), field, ["doc_id"])


class Queries(BaseQueries):
    def __init__(self, rows):
        self.rows = rows

    def queries_iter(self):
        return iter(self.rows)


class Judged(BaseQrels):
    def __init__(self, rows):
        self.rows = rows

    def qrels_iter(self):
        return iter(self.rows)

    def qrels_defs(self):
        return {}


@pytest.fixture
def register(tmp_path, request):
    def put(docs=None, queries=None, qrels=None):
        name = f"cribble-test/{request.node.name}"
        parts = (docs and Docs(docs, tmp_path), queries and Queries(queries), qrels and Judged(qrels))
        ir_datasets.registry._registered.pop(name, None)
        ir_datasets.registry.register(name, Dataset(*parts))
        return f"ir_datasets:{name}"

    yield put
    ir_datasets.registry._registered.pop(f"cribble-test/{request.node.name}", None)


PAPERS = [
    Paper("p1", "Sieves", "coarse ones", 1999),
    Paper("p2", "", "no title", 2000),
    Paper("p 3", "Alone", "", 2001),
]
TOPICS = [Topic("1", "sieve", "long story"), Topic("2", "unjudged", "")]
QRELS = [TrecQrel("1", "p1", 2, "0"), TrecQrel("1", "p2", 0, "0")]


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_records_with_fields_of_their_own(register, caplog):
    dataset = load_dataset(register(PAPERS, TOPICS, QRELS))
    expected = [Document("p1", "coarse ones", "Sieves"), Document("p2", "no title"), Document("p 3", "", "Alone")]
    for _ in range(2):
        assert list(dataset.documents()) == expected
    assert dataset.queries == [Query("1", "sieve")]
    assert dataset.qrels.to_dict() == {"1": {"p1": 2, "p2": 0}}
    assert dataset.num_documents == 3
    assert dataset.get_many(["p 3", "absent", "p1"]) == {"p 3": expected[2], "p1": expected[0]}
    assert "1 ids hold white space" in warnings_of(caplog)[0]


def test_generic_records(register):
    dataset = load_dataset(
        register([GenericDoc("d", " text ")], [GenericQuery("q", " ask ")], [TrecQrel("q", "d", 1, "0")])
    )
    assert list(dataset.documents()) == [Document("d", "text")]
    assert dataset.queries == [Query("q", "ask")]


def test_records_without_default_text(register):
    assert list(load_dataset(register([Bare("d", "one", 2, "three")])).documents()) == [Document("d", "one three")]


def test_bright_style_exclusions(register):
    rows = [*QRELS, TrecQrel("1", "bad", -100, "0"), TrecQrel("2", "p1", -100, "0")]
    dataset = load_dataset(register(PAPERS, TOPICS, rows))
    assert dataset.excluded == {"1": frozenset(["bad"]), "2": frozenset(["p1"])}
    assert dataset.exclusions()["1"] == {"bad"}
    assert dataset.qrels.to_dict() == {"1": {"p1": 2, "p2": 0}}


def test_repeated_judgements_count_once_at_their_highest(register, caplog):
    rows = [*QRELS, TrecQrel("1", "p2", 1, "sub-topic 2"), TrecQrel("1", "p1", 1, "sub-topic 2")]
    assert load_dataset(register(PAPERS, TOPICS, rows)).qrels.to_dict() == {"1": {"p1": 2, "p2": 1}}
    assert "2 judgements repeat a query and document" in warnings_of(caplog)[0]


def test_documents_that_share_an_id(register, caplog):
    rows = [GenericDoc(str(i % 1500), f"pass {i}") for i in range(3000)]
    documents = list(load_dataset(register(rows)).documents())
    assert [document.text for document in documents] == [f"pass {i}" for i in range(1500)]
    assert "1500 documents have an id that came before" in warnings_of(caplog)[0]


def test_what_a_dataset_lacks(register):
    dataset = load_dataset(register(docs=PAPERS))
    assert (dataset.queries, dataset.qrels) == ([], None)
    dataset = load_dataset(register(queries=TOPICS))
    assert not dataset.has_documents
    assert len(dataset.queries) == 2
    with pytest.raises(UsageError, match="has no documents"):
        dataset.get_many(["x"])


@pytest.mark.parametrize(("spec", "nearest"), [("vaswni", "vaswani"), ("beir/scifact/tst", "beir/scifact/test")])
def test_a_misspelt_id(spec, nearest):
    with pytest.raises(UsageError, match=f"no such id: did you mean '{nearest}'"):
        load_dataset(f"ir_datasets:{spec}")


def test_an_id_like_no_other_shows_a_few():
    with pytest.raises(UsageError, match=r"known: antique, .* in all\)") as caught:
        load_dataset("ir_datasets:§§§")
    assert len(str(caught.value)) < 2000


def test_failures_of_the_library_are_the_machines(register):
    class Offline(Queries):
        def queries_iter(self):
            raise ConnectionError("name resolution failed")

    name = register(PAPERS)
    ir_datasets.registry._registered.pop(name.partition(":")[2])
    ir_datasets.registry.register(name.partition(":")[2], Dataset(Docs(PAPERS, None), Offline(TOPICS)))
    with pytest.raises(SetupError, match=r"the library can't provide it .ConnectionError: name resolution failed"):
        load_dataset(name)


def test_a_table_of_files_through_create_dataset(tmp_path, request):
    (tmp_path / "docs.tsv").write_text("d1\tfirst\nd2\tsecond\n")
    (tmp_path / "queries.tsv").write_text("q1\task\n")
    (tmp_path / "qrels").write_text("q1 0 d2 1\n")
    made = ir_datasets.create_dataset(*(str(tmp_path / name) for name in ("docs.tsv", "queries.tsv", "qrels")))
    ir_datasets.registry.register("cribble-test-files", made)
    try:
        dataset = load_dataset("ir_datasets:cribble-test-files")
        assert list(dataset.documents()) == [Document("d1", "first"), Document("d2", "second")]
        assert dataset.qrels.to_dict() == {"q1": {"d2": 1}}
        assert dataset.get_many(["d2"]) == {"d2": Document("d2", "second")}
    finally:
        ir_datasets.registry._registered.pop("cribble-test-files")
