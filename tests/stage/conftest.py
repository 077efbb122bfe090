from dataclasses import dataclass, field

import numpy as np
import pytest
from cribble.records import Document, Query, Run
from cribble.stage import Reranker, Retriever

WORDS = {f"d{i}": f"word{i} " * (i + 1) for i in range(30)}


class Texts:
    def get_many(self, ids):
        return {i: Document(i, WORDS[i]) for i in ids if i in WORDS}


@dataclass
class Hashed(Retriever):
    """Scores every document by a fixed pseudo-random number: a retriever whose answers a test can compute."""

    seed: int = 0
    k: int = 20
    calls: list = field(default_factory=list, init=False, repr=False)
    score_kind: str = field(default="dot", init=False)

    @property
    def label(self):
        return f"hashed{self.seed}"

    def scores(self, query_id):
        rng = np.random.default_rng([self.seed, *query_id.encode()])
        return dict(zip(WORDS, rng.random(len(WORDS)).round(2).tolist(), strict=True))

    def retrieve(self, queries, k):
        self.calls.append([query.id for query in queries])
        full = Run.from_dict({q.id: self.scores(q.id) for q in queries}, name=self.label, score_kind=self.score_kind)
        return full.top(k)


@dataclass
class ByLength(Reranker):
    """Longest text first."""

    depth: int = 10
    score_kind: str = field(default="logit", init=False)
    calls: list = field(default_factory=list, init=False, repr=False)
    fail_at: str = field(default="", init=False, repr=False)

    def rerank(self, queries, run, texts):
        self.calls.append([query.id for query in queries])
        rankings = []
        for query in queries:
            if query.id == self.fail_at:
                raise KeyboardInterrupt
            ids = run.top(self.depth).ids(query.id)
            found = texts.get_many(ids)
            rankings.append((query.id, ids, np.array([float(len(found[i].text)) for i in ids])))
        return Run.from_rankings(rankings, name="length", score_kind="logit", provenance={"scored": len(queries)})


@pytest.fixture
def queries():
    return [Query(f"q{i}", f"text {i}") for i in range(40)]


@pytest.fixture
def texts():
    return Texts()


@pytest.fixture
def hashed():
    return Hashed


@pytest.fixture
def by_length():
    return ByLength
