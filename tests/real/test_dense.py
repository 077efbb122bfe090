"""Dense retrieval on real collections, exact and approximate, by MiniLM's vectors: encoded once a collection."""

import os
from pathlib import Path

import numpy as np
import pytest
from cribble import DenseRetriever, Run, evaluate, load_dataset
from cribble.index.opening import find_kind
from cribble.vectors import Dense

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("CRIBBLE_DATA"), reason="CRIBBLE_DATA does not name the real collections"),
]


class Encoded:
    """A collection with the vectors of its documents in a flat index, and of its queries."""

    def __init__(self, name, folder):
        self.name = name
        self.dataset = load_dataset(f"beir:{Path(os.environ['CRIBBLE_DATA']) / name}")
        self.folder = folder
        retriever = DenseRetriever.build(self.dataset, folder / "flat", device="cpu")
        self.flat = retriever.opened
        self.queries = retriever.query_vectors(self.dataset.queries)
        self.exact = self.flat.search(self.queries, 100)

    def build(self, kind, **options):
        """The kind over the vectors that are there."""
        return find_kind(kind).build(
            self.folder / kind,
            self.dataset.documents(),
            lambda batch: Dense(self.flat.vectors(self.flat.texts.rows_of([d.id for d in batch]))),
            spec=self.flat.manifest.encoder,
            corpus=self.dataset.id,
            **options,
        )

    def ndcg(self, found):
        rankings = [(query.id, *row) for query, row in zip(self.dataset.queries, found, strict=True)]
        run = Run.from_rankings(rankings, name="run", score_kind="dot")
        return evaluate(run, self.dataset.qrels, "nDCG@10").means["nDCG@10"]

    def recall(self, found):
        return np.mean([len({*a.ids[:10]} & {*b.ids[:10]}) / 10 for a, b in zip(found, self.exact, strict=True)])


@pytest.fixture(scope="module", params=["scifact", "cranfield"])
def encoded(request, tmp_path_factory):
    return Encoded(request.param, tmp_path_factory.mktemp(request.param))


def test_flat_equals_sentence_transformers(encoded):
    """Oracle: sentence-transformers' exact search over the same weights on SciFact, .645 (MTEB's figure for
    all-MiniLM-L6-v2, and bench/bench_quality.py --with-peer); tolerance .005. tests/models holds the vectors themselves to
    its at 1e-5. Cranfield: what was seen (2026-11-25), .3817."""
    expected = {"scifact": 0.645, "cranfield": 0.3817}[encoded.name]
    assert encoded.ndcg(encoded.exact) == pytest.approx(expected, abs=0.005)


def test_two_levels_keep_the_quality_of_flat_in_a_sixteenth_of_its_memory(encoded):
    """Within 0.5 points of nDCG@10. Memory is the whole FAISS file, its codebooks too; flat's are 1,536 bytes."""
    index = encoded.build("two-level")
    assert index.manifest.counts["ann_bytes_per_document"] <= 1536 / 16
    flat = encoded.ndcg(encoded.exact)
    assert encoded.ndcg(index.search(encoded.queries, 100)) == pytest.approx(flat, abs=0.005)
    verified = index.search(encoded.queries, 100, pq_weight=0)
    assert encoded.ndcg(verified) == pytest.approx(flat, abs=0.001)
    assert encoded.recall(verified) >= 0.99


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("ivf-flat", {"nprobe": 32}),
        ("hnsw", {"ef": 64}),
        ("pq", {"verify": 200}),
        ("ivf-pq", {"nprobe": 32, "verify": 200}),
    ],
)
@pytest.mark.parametrize("encoded", ["cranfield"], indirect=True)
def test_ten_neighbours_are_found(encoded, kind, parameters):
    """Recall@10 against exact search is .95 or more."""
    assert encoded.recall(encoded.build(kind).search(encoded.queries, 100, **parameters)) >= 0.95
