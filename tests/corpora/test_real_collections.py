"""Real collections, under CRIBBLE_DATA: everything is there, and readable by id."""

import os
from pathlib import Path

import pytest
from cribble.corpora import load_dataset

DATA = Path(os.environ.get("CRIBBLE_DATA") or "/nowhere")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not os.environ.get("CRIBBLE_DATA"), reason="CRIBBLE_DATA is not set"),
]


@pytest.mark.parametrize(
    ("name", "documents", "queries", "judgements"),
    [
        ("scifact", 5183, 300, 339),
        ("scifact@train", 5183, 809, 919),
        ("cranfield", 1400, 225, 1837),
        ("cranfield@test_binary_all", 1400, 225, 1837),
        ("vaswani-npl", 11429, 93, 2083),
        ("cisi", 1460, 76, 3114),
        ("trec-dl-2019-judged", 10818, 43, 9260),
        ("xquad/zh", 240, 1190, 1190),
        ("screening-cohen2006", 15268, 14, 15268),
        ("fairytaleqa@val", 3729, 1025, 1133),
    ],
)
def test_beir_folders(name, documents, queries, judgements):
    dataset = load_dataset(f"beir:{DATA / name}")
    found = list(dataset.documents())
    assert (len(found), len(dataset.queries), dataset.qrels.num_rows) == (documents, queries, judgements)
    assert dataset.num_documents == documents
    assert dataset.unknown_judged() == set()
    some = found[:: max(1, documents // 50)]
    assert dataset.get_many([document.id for document in some]) == {document.id: document for document in some}


def test_xquad_has_six_languages():
    with pytest.raises(ValueError, match="6 BEIR folders: name one"):
        load_dataset(f"beir:{DATA / 'xquad'}")


def test_vaswani_as_trec_wrote_it():
    dataset = load_dataset(f"trec:{DATA / 'vaswani-npl' / 'original'}")
    beir = load_dataset(f"beir:{DATA / 'vaswani-npl'}")
    documents = list(dataset.documents())
    assert len(documents) == 200
    same = beir.get_many([document.id for document in documents])
    assert [same[document.id].text for document in documents] == [document.text for document in documents]
    assert dataset.qrels == beir.qrels
    assert dataset.queries == beir.queries


def test_cranfield_as_sgml(caplog):
    """The topics' numbers are not those of the judgements, the collection's old trap: it is said."""
    dataset = load_dataset(f"trec:{DATA / 'cranfield' / 'original'}")
    beir = {document.id: document for document in load_dataset(f"beir:{DATA / 'cranfield'}").documents()}
    documents = list(dataset.documents())
    assert len(documents) == 1400
    assert documents[0].title == " ".join(beir["1"].title.split())
    assert "73 of the 225 queries judged" in caplog.text


def test_requests_of_dl19():
    dataset = load_dataset(f"jsonl:{DATA / 'trec-dl-2019-judged' / 'requests' / 'bm25_top20.hits.jsonl'}")
    assert (len(dataset.queries), dataset.candidates.num_rows, dataset.num_documents) == (43, 860, 860)
    corpus = load_dataset(f"beir:{DATA / 'trec-dl-2019-judged'}")
    assert {query.id for query in dataset.queries} == {query.id for query in corpus.queries}
    assert len(dataset.get_many(dataset.candidates.ids(dataset.queries[0].id))) == 20
