"""Token pooling: a document's token vectors that are alike become their mean (Clavié et al. 2024, arXiv 2409.14683).

Ward's clustering into tokens / factor clusters, by one of two conventions, which give different clusters:

sentence-transformers   distances are 1 - cosine, and the first token, [CLS], stays as it is (HierarchicalTokenPooling)
stanford                a token's point is its row of 1 - cosine with all tokens; no token stays (ColBERT's checkpoint.py)

Means are stored as they are, or of unit length where the index compares by cosine.
"""

from __future__ import annotations

import numpy as np

from ..vectors import MultiVector
from .exact import unit_length

POOLINGS = ("sentence-transformers", "stanford")


def pooled(vectors: MultiVector, factor: float, convention: str) -> MultiVector:
    """Each document's token vectors pooled to about 1 / `factor` of their number, at least one; float32."""
    protected = 1 if convention == "sentence-transformers" else 0
    matrices = []
    for i in range(len(vectors)):
        own = vectors[i]
        rest = own[protected:]
        count = max(int(len(rest) // factor), 1)
        if count < len(rest):
            own = np.concatenate([own[:protected], _means(rest, _clusters(rest, count, convention))])
        matrices.append(own.astype(np.float32, copy=False))
    return MultiVector.of(matrices, vectors.tokens.shape[1])


def _clusters(tokens: np.ndarray, count: int, convention: str) -> np.ndarray:
    """The number of each token's cluster (t,)."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist, squareform

    unit = unit_length(tokens)[0]
    distances = np.clip(1 - unit @ unit.T, 0, 2)
    apart = squareform(distances, checks=False) if convention == "sentence-transformers" else pdist(distances)
    clusters: np.ndarray = fcluster(linkage(apart, method="ward"), t=count, criterion="maxclust")
    return clusters


def _means(tokens: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """The mean of each cluster, in the order of their numbers."""
    _, places, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    sums = np.zeros((len(sizes), tokens.shape[1]))
    np.add.at(sums, places, tokens)
    means: np.ndarray = sums / sizes[:, None]
    return means
