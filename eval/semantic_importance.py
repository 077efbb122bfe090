"""SemRe-Rank (Zhang, Gao & Ciravegna 2018): term scores revised by how central their words are among words like them.

Each document has a graph of the words in its candidate terms, with an edge between words of similar vectors. Personalised
PageRank from the words of seed terms weighs them; a word's importance is the sum over documents, over the largest such
sum, and a term's score is its base score times 1 + the mean importance of its words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ..errors import InputError, UsageError
from ..records import Document
from ..vectors import Dense
from .terms import Candidates


class WordEncoder(Protocol):
    """What gives words vectors: any encoder."""

    def encode_documents(self, documents: Iterable[Document]) -> Dense: ...


@dataclass(frozen=True)
class Graphs:
    """How words are linked: at a cosine of `similarity` or more, and only to the nearest `share` of a document's words.
    `damping` is PageRank's probability to follow an edge."""

    similarity: float = 0.5
    share: float = 0.15
    damping: float = 0.85

    def __post_init__(self) -> None:
        for name in ("similarity", "share", "damping"):
            if not 0 < getattr(self, name) < 1 + (name == "share") * 1e-9:
                raise UsageError(f"{name} is {getattr(self, name)}, expected more than 0 and less than 1")


def revised_scores(
    found: Candidates, base: np.ndarray, seeds: Iterable[str], encoder: WordEncoder, graphs: Graphs | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Revised scores and mean word importance from 0 to 1 of each term: two (t,) float64.

    `base` are scores (t,); below 0 they are shifted so that the least is 0, as a factor would turn them round. `seeds`
    are terms, whose words personalise PageRank; a document without any of them starts everywhere.
    """
    graphs = graphs or Graphs()
    words = list(dict.fromkeys(word for term in found.terms for word in term.split(" ")))
    place = {word: i for i, word in enumerate(words)}
    of_term = [np.array([place[word] for word in term.split(" ")]) for term in found.terms]
    seeded = np.zeros(len(words), bool)
    for seed in seeds:
        seeded[[place[word] for word in seed.lower().split() if word in place]] = True
    vectors = word_vectors(words, encoder)
    weight = np.zeros(len(words))
    for terms in found.by_document:
        own = np.unique(np.concatenate([of_term[t] for t in terms])) if terms else np.zeros(0, np.int64)
        if len(own):
            weight[own] += pagerank(links(vectors[own], graphs), seeded[own], graphs.damping)
    importance = weight / weight.max()
    mean = np.array([importance[rows].mean() for rows in of_term])
    return (base - min(float(base.min()), 0.0)) * (1 + mean), mean


def word_vectors(words: Sequence[str], encoder: WordEncoder) -> np.ndarray:
    """Unit vectors (n, d) float32 of words; a zero vector stays one."""
    vectors = np.asarray(encoder.encode_documents(Document(word, word) for word in words).values, np.float32)
    if len(vectors) != len(words):
        raise InputError(f"the encoder gave {len(vectors)} vectors for {len(words)} words")
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


def links(vectors: np.ndarray, graphs: Graphs) -> np.ndarray:
    """Adjacency (n, n) bool of unit vectors (n, d): each row's nearest words by `graphs`, made symmetric."""
    n = len(vectors)
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -2.0)
    most = max(1, int(graphs.share * n))
    near = cosine >= graphs.similarity
    if n > most + 1:
        kth = np.partition(cosine, n - most, axis=1)[:, n - most]
        near &= cosine >= kth[:, None]
    linked: np.ndarray = near | near.T
    return linked


def pagerank(linked: np.ndarray, seeded: np.ndarray, damping: float) -> np.ndarray:
    """Personalised PageRank (n,) of an undirected graph, solved and not iterated; it sums to 1.

    A step starts anew at one of the `seeded` (n,) nodes, at any where there is none; so does one at a node without edges.
    """
    n = len(linked)
    start = seeded / seeded.sum() if seeded.any() else np.full(n, 1 / n)
    degree = linked.sum(1)
    step = np.where(degree[:, None] > 0, linked / np.maximum(degree, 1)[:, None], start)
    weights: np.ndarray = np.linalg.solve(np.eye(n) - damping * step.T, (1 - damping) * start)
    return weights
