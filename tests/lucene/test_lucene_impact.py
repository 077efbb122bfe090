"""Impacts in Lucene against the integer product of scipy's sparse matrices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cribble.errors import InputError, SetupError, UsageError
from cribble.index.lucene_impact import LuceneImpactIndex
from cribble.index.opening import open_index
from cribble.records import DescribedDocument, Document
from cribble.vectors import EncoderSpec, Sparse
from scipy.sparse import csr_matrix

TERMS, COUNT = 50_000, 700
SPEC = EncoderSpec("random", revision="r1", dim=TERMS, similarity="dot")


def vectors_of(rng, rows: int, most: int, largest: int) -> Sparse:
    """Half of the terms are of the first 60, so that there are long lists; some rows are empty, small weights tie often."""
    made = []
    for _ in range(rows):
        size = int(rng.integers(0, most))
        ids = np.unique(np.concatenate([rng.integers(0, 60, size), rng.integers(0, TERMS, size)]))
        made.append((ids.astype(np.int32), rng.integers(1, largest + 1, len(ids)).astype(np.float32)))
    return Sparse.of(made, TERMS)


def matrix(vectors: Sparse) -> csr_matrix:
    return csr_matrix((vectors.weights.astype(np.int64), vectors.ids, vectors.indptr), (len(vectors), TERMS))


@pytest.fixture(scope="module")
def stored():
    return vectors_of(np.random.default_rng(2), COUNT, 40, 5)


@pytest.fixture(scope="module")
def queries():
    """The last has 5,000 terms."""
    rng = np.random.default_rng(3)
    some = vectors_of(rng, 60, 12, 3)
    many = (np.arange(5000, dtype=np.int32), rng.integers(1, 300, 5000).astype(np.float32))
    return Sparse.of([*(some.row(i) for i in range(len(some))), many], TERMS)


@pytest.fixture(scope="module")
def documents():
    rng = np.random.default_rng(4)
    names = [f"d{i}" for i in rng.permutation(COUNT)]
    return [DescribedDocument.of(Document(name, f"text {i}"), {"number": i}) for i, name in enumerate(names)]


def build(path, documents, stored, **options):
    def encode(batch):
        rows = [int(document.text.split()[1]) for document in batch]
        return Sparse.of([stored.row(row) for row in rows], TERMS)

    options = {"spec": SPEC, "corpus": "made", "shard_documents": 150} | options
    return LuceneImpactIndex.build(path, documents, encode, **options)


@pytest.fixture(scope="module")
def index(tmp_path_factory, documents, stored):
    return build(tmp_path_factory.mktemp("impact") / "index", documents, stored)


def expected(documents, stored, queries, k, kept=lambda i: True):
    """By the definition: integer dot products, only documents with a common term, ties by id descending."""
    products = (matrix(queries) @ matrix(stored).T).tocsr()
    rankings = []
    for i in range(len(queries)):
        row = products[i]
        found = [(int(s), documents[d].id) for d, s in zip(row.indices, row.data, strict=True) if kept(d)]
        found.sort(key=lambda pair: (pair[0], pair[1].encode()), reverse=True)
        rankings.append([(doc_id, float(score)) for score, doc_id in found[:k]])
    return rankings


def rankings(found):
    return [list(zip(r.ids.tolist(), r.scores.tolist(), strict=True)) for r in found]


@pytest.mark.parametrize("k", [1, 10, COUNT])
def test_scores_are_the_integer_dot_product(index, documents, stored, queries, k):
    assert rankings(index.search(queries, k)) == expected(documents, stored, queries, k)
    assert rankings(index.search(queries, k, threads=2)) == expected(documents, stored, queries, k)


def test_filters_limit_before_the_cut(index, documents, stored, queries):
    allow, deny = {d.id for d in documents[::3]}, {d.id for d in documents[:99]}

    def kept(i):
        return i % 3 == 0 and i >= 99 and i < 500

    found = index.search(queries, 20, allow=allow, deny=deny, where="number < 500")
    assert rankings(found) == expected(documents, stored, queries, 20, kept)
    assert [len(r.ids) for r in index.search(queries, 5, allow=[])] == [0] * len(queries)


def test_opens_as_its_kind_and_knows_its_encoder(index, queries):
    opened = open_index(index.path, spec=SPEC)
    assert type(opened) is LuceneImpactIndex
    assert opened.manifest.counts["empty_vectors"] > 0
    assert len(opened) == COUNT
    with pytest.raises(InputError, match=r"encoder\.revision: 'r2' asked for, 'r1' recorded"):
        open_index(index.path, spec=replace(SPEC, revision="r2"))
    other = Sparse(queries.indptr, queries.ids, queries.weights, TERMS + 1)
    with pytest.raises(InputError, match=r"queries have a vocabulary of 50,001 terms, the index 50,000"):
        opened.search(other, 5)


@pytest.mark.parametrize("weight", [0.5, 2.25, float(1 << 24)])
def test_weights_that_are_not_whole_are_refused(tmp_path, index, documents, weight):
    one = Sparse.of([(np.array([7], np.int32), np.array([weight], np.float32))], TERMS)
    with pytest.raises(InputError, match=r"document '.*' has the weight .* of term 7, expected a whole number"):
        LuceneImpactIndex.build(tmp_path / "i", documents[:1], lambda batch: one, spec=SPEC, corpus="made")
    with pytest.raises(InputError, match="query 0 has the weight"):
        index.search(one, 5)
    assert not list((tmp_path / "i").glob("shards/*"))


def test_wrong_numbers_are_refused(index, queries):
    for name in ("k", "threads"):
        with pytest.raises(UsageError, match=f"{name} is 0"):
            index.search(queries, **{"k": 5} | {name: 0})


def test_an_interrupted_build_goes_on_and_damage_is_refused(tmp_path, documents, stored, queries, index):
    def broken():
        yield from documents[:500]
        raise OSError("the network share went away")

    with pytest.raises(OSError, match="went away"):
        build(tmp_path / "i", broken(), stored)
    with pytest.raises(SetupError, match="run the same build command again"):
        open_index(tmp_path / "i")
    before = {p: p.stat().st_ino for p in (tmp_path / "i" / "shards").iterdir()}
    assert len(before) == 3
    resumed = build(tmp_path / "i", documents, stored)
    assert {p: p.stat().st_ino for p in before} == before
    assert rankings(resumed.search(queries, 30)) == rankings(index.search(queries, 30))
    resumed.close()
    file = next((tmp_path / "i").rglob("*.doc"))
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(SetupError, match=r"\.doc: SHA-256"):
        open_index(tmp_path / "i")
