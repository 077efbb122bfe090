"""The text store: documents by id and by row, whatever they hold, without reading the rest."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from cribble.errors import InputError
from cribble.index.texts import TextStore
from cribble.records import Document
from cribble.tests.index.builds import build_flat, make_documents

DOCUMENTS = [
    Document("plain", "text", "title"),
    Document("empty", ""),
    Document("only title", "", "Ünïcode 木"),
    Document("🦜", "emoji 🦜\x00 and a zero byte", "a\nline\r\n"),
    Document("\u00e9", "composed"),
    Document("e\u0301", "decomposed: another id"),
    Document("", "empty id"),
    Document("long", "ä" * (10 << 20)),
    *make_documents(30),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> TextStore:
    return build_flat(tmp_path_factory.mktemp("texts") / "i", DOCUMENTS, shard_documents=4).texts


def test_every_document_comes_back_as_it_went_in(store):
    assert list(store) == DOCUMENTS
    assert store.get_many([d.id for d in DOCUMENTS]) == {d.id: d for d in DOCUMENTS}
    assert [store.document(row) for row in (0, 7, 37)] == [DOCUMENTS[row] for row in (0, 7, 37)]


def test_unknown_ids_are_absent_from_the_answer(store):
    assert store.get_many(["plain", "nobody", "Plain", "plain "]) == {"plain": DOCUMENTS[0]}
    assert store.get_many([]) == {}
    assert store.get_many({"nobody"}) == {}
    assert "plain" in store
    assert "nobody" not in store
    assert 7 not in store


def test_rows_and_ids_are_inverse(store):
    ids = [d.id for d in DOCUMENTS]
    assert store.ids.to_pylist() == ids
    assert store.rows_of(ids).tolist() == list(range(len(ids)))
    assert store.rows_of(pa.array(["x", ids[5], "y", ids[0], ids[5]])).tolist() == [-1, 5, -1, 0, 5]
    assert store.ids_at(np.array([3, 0, 3])).tolist() == [ids[3], ids[0], ids[3]]
    assert store.rows_of([]).tolist() == []


def test_rows_beyond_the_end_and_ids_of_other_types_are_errors(store):
    for row in (-1, len(DOCUMENTS)):
        with pytest.raises(IndexError, match=f"row {row} of {len(DOCUMENTS)}"):
            store.document(row)
    with pytest.raises(InputError, match="id 7 is of type int"):
        store.get_many([7])


def test_many_ids_against_a_dictionary(tmp_path):
    rng = np.random.default_rng(1)
    documents = [Document(f"{i:x}-{'y' * int(rng.integers(0, 30))}", f"text {i}") for i in range(5000)]
    store = build_flat(tmp_path / "i", documents, shard_documents=700).texts
    by_id = {d.id: d for d in documents}
    asked = [documents[i].id for i in rng.integers(0, 5000, 3000)] + [f"{i:x}" for i in range(500)]
    assert store.get_many(asked) == {i: by_id[i] for i in asked if i in by_id}
