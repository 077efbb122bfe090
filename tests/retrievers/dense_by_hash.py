"""A dense retriever without a network: the index tests' hashing encoder over a real flat index."""

from __future__ import annotations

from dataclasses import dataclass

from cribble.index.flat import FlatIndex
from cribble.records import Run
from cribble.stage import Retriever
from cribble.tests.index.builds import build_flat, encode_texts, make_documents


@dataclass
class DenseByHash(Retriever):
    opened: FlatIndex
    k: int = 1000

    @classmethod
    def over(cls, folder, count=60, **options):
        return cls(build_flat(folder, make_documents(count), **options))

    def options(self):
        return {"index": str(self.opened.path), "k": self.k}

    def texts(self):
        return self.opened.texts

    def query_vectors(self, queries):
        return encode_texts([query.text for query in queries])

    def search_vectors(self, queries, vectors, k):
        found = self.opened.search(vectors, k)
        rankings = [(query.id, ids, scores) for query, (ids, scores) in zip(queries, found, strict=True)]
        return Run.from_rankings(rankings, name="hash", score_kind=self.opened.score_kind)

    def retrieve(self, queries, k):
        return self.search_vectors(queries, self.query_vectors(queries), k)
