"""Synthetic clustered vectors, and indexes of given vectors."""

from __future__ import annotations

import numpy as np
from cribble.index.opening import find_kind
from cribble.records import Document
from cribble.vectors import Dense, EncoderSpec

N, DIM = 2000, 32


def clustered(count: int, dim: int = DIM, seed: int = 0, clusters: int = 60) -> np.ndarray:
    """Unit vectors (count, dim) float32 around random centres, the spectrum falling off, as text embeddings' does."""
    rng = np.random.default_rng(seed)
    scale = 1 / np.sqrt(np.arange(1, dim + 1))
    centres = np.random.default_rng(99).standard_normal((clusters, dim)) * scale
    rows = centres[rng.integers(clusters, size=count)] + 0.6 * rng.standard_normal((count, dim)) * scale
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


VECTORS = clustered(N)
QUERIES = clustered(20, seed=1)


def documents(count: int, first: int = 0) -> list[Document]:
    return [Document(f"d{i:05d}", f"text {i}") for i in range(first, first + count)]


def build(kind, path, vectors=VECTORS, *, similarity="dot", shard_documents=512, **options):
    return find_kind(kind).build(
        path,
        documents(len(vectors)),
        lambda batch: Dense(vectors[[int(d.id[1:]) for d in batch]]),
        spec=EncoderSpec("m", dim=vectors.shape[1], similarity=similarity),
        corpus="c",
        shard_documents=shard_documents,
        **options,
    )


def rows_of(ids) -> list[int]:
    return [int(doc_id[1:]) for doc_id in ids]


def exact_rows(vectors, queries, k, mask=None):
    """The rows (b, k) of the largest inner products, in float64."""
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    if mask is not None:
        scores[:, ~mask] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def recall(found, exact) -> float:
    return float(
        np.mean([len(set(rows_of(ids)) & set(row)) / len(row) for (ids, _), row in zip(found, exact, strict=True)])
    )
