"""Duplicate ids in streams: nothing is missed, nothing kept beyond eight bytes an id."""

import random

import numpy as np
from cribble.corpora.document_stream import DocumentStream, Record
from cribble.corpora.seen_ids import SeenIds
from cribble.records import Document


def test_against_a_python_set():
    draw = random.Random(7)
    known, seen = set(), SeenIds()
    for _ in range(200):
        batch = [f"id-{draw.randrange(30_000)}" for _ in range(draw.randrange(1, 400))]
        expected, so_far = [], set(known)
        for position, value in enumerate(batch):
            if value in so_far:
                expected.append(position)
            so_far.add(value)
        assert seen.add(batch) == expected
        known = so_far


def test_eight_bytes_an_id_in_few_arrays():
    seen = SeenIds()
    for start in range(0, 100_000, 1000):
        assert seen.add([f"document-{i}" for i in range(start, start + 1000)]) == []
    assert len(seen) == 100_000
    assert sum(part.nbytes for part in seen._sorted) == 800_000
    assert len(seen._sorted) <= 8


def test_two_ids_with_one_hash_are_no_duplicates(tmp_path, monkeypatch):
    class Three(DocumentStream):
        def records(self, remarks):
            for line, name in enumerate("abc", 1):
                yield Record(self.path, line, 0, Document(name, "x"))

    monkeypatch.setattr("cribble.corpora.seen_ids.hashes", lambda ids, seed: np.zeros(len(ids), np.uint64))
    assert [document.id for document in Three(tmp_path)] == ["a", "b", "c"]


def test_no_ids():
    assert SeenIds().add([]) == []
