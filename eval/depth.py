"""How central each document is to its corpus, and whether two corpora lie alike: statistical depth of their vectors.

Transformer-based text embedding depth (Seegmiller and Preum, EMNLP 2023): the depth of a text is 2 minus its mean
distance to the texts of a reference corpus; the deepest text is the most central one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError, UsageError
from ..index.filtering import selected_rows

DISTANCES = ("cosine", "chord")

#: Vectors in float64 at a time.
_BLOCK = 2048


@dataclass(frozen=True)
class Depths:
    """The depths (n,) float64 of documents `ids` (n,), in the index's order, against `reference` documents.

    `exact` says whether those are all of the reference corpus or a sample of it; `zero_vectors` of the documents have
    no direction, and distance 1 to every other.
    """

    ids: np.ndarray
    values: np.ndarray
    reference: int
    exact: bool
    zero_vectors: int

    def ranked(self) -> np.ndarray:
        """Positions (n,) from the most central document to the most outlying one; equal depths in index order."""
        order: np.ndarray = np.argsort(-self.values, kind="stable")
        return order


@dataclass(frozen=True)
class RankTest:
    """Whether documents of a corpus G lie less deep in a corpus F than those of F themselves.

    `w` and `p` are Wilcoxon's rank sum statistic and its one-sided p value (normal approximation without corrections,
    `scipy.stats.ranksums`, alternative greater: F is deeper). `q` is Liu and Singh's P(depth of F <= depth of G): .5
    when the two lie alike, 0 when all of G is further out. `q_pooled` is what the authors' package calls Q: the mean share
    of both corpora's depths that lie below a depth of G; also .5 when they lie alike, but about |F|, |G| dependent at the ends.
    """

    w: float
    p: float
    q: float
    q_pooled: float


def corpus_depths(
    index: Any, reference: Any = None, *, distance: str = "cosine", sample: int = 10_000, seed: int = 42
) -> Depths:
    """The depth of every document of a dense `index` in the corpus of `reference` (by default its own).

    In its own corpus a document is not compared with itself. `distance` cosine (1 - cosine) is exact at any size, as
    mean cosines are products with one sum vector. chord (the square root of 2 - 2 cosine) compares all pairs up to
    `sample` reference documents, and beyond that with a sample of so many, drawn by `seed`.
    Errors: `UsageError` for an index without vectors or a distance that is unknown; `InputError` for indexes of different
    encoders, or fewer than two documents.
    """
    if distance not in DISTANCES:
        raise UsageError(f"depth: distance is {distance!r}, expected {' or '.join(DISTANCES)}")
    if sample < 2:
        raise UsageError(f"depth: sample is {sample}, expected at least 2 documents")
    own = reference is None
    if not own:
        index.refuse_other_encoder(_encoder(reference))
    rows, others = live_rows(index), live_rows(index if own else reference)
    if not len(rows) or len(others) < 2:
        raise InputError(f"{index.path}: depth needs at least two documents to compare with, found {len(others)}")
    chosen = others
    if distance == "chord" and len(others) > sample:
        chosen = np.sort(np.random.default_rng(seed).choice(others, sample, replace=False))
    compared = index if own else reference
    if distance == "cosine":
        means, zero = _mean_cosine_distances(index, rows, compared, chosen, own)
    else:
        means, zero = _mean_chords(index, rows, compared, chosen, own)
    return Depths(index.texts.ids_at(rows), 2 - means, len(chosen), len(chosen) == len(others), zero)


def rank_test(of_reference: np.ndarray, of_other: np.ndarray) -> RankTest:
    """Compare the depths (n,) of a corpus F with those (m,) of a corpus G, both in F."""
    from scipy.stats import ranksums

    w, p = ranksums(of_reference, of_other, alternative="greater")
    mine, theirs = np.sort(of_reference), np.sort(of_other)
    q = np.searchsorted(mine, theirs, side="right").mean() / len(mine)
    below = np.searchsorted(mine, theirs, side="left") + np.searchsorted(theirs, theirs, side="left")
    return RankTest(float(w), float(p), float(q), float(below.mean() / (len(mine) + len(theirs))))


def live_rows(index: Any) -> np.ndarray:
    """The rows (n,) of a dense index that are not deleted."""
    if not hasattr(index, "vectors"):
        raise UsageError(f"{index.path}: an index of kind {index.manifest.kind} has no vectors: name a dense one")
    mask = selected_rows(index.texts)
    rows: np.ndarray = np.arange(len(index.texts.ids)) if mask is None else np.flatnonzero(mask)
    return rows


def _encoder(index: Any) -> Any:
    live_rows(index)  # an index without vectors has no encoder
    return index.manifest.encoder


def unit_blocks(index: Any, rows: np.ndarray, size: int = _BLOCK) -> Iterator[np.ndarray]:
    """The vectors of `rows` as float64 of unit length (a zero vector stays zero), `size` at a time."""
    for start in range(0, len(rows), size):
        values = index.vectors(rows[start : start + size]).astype(np.float64)
        norms = np.linalg.norm(values, axis=1, keepdims=True)
        yield values / np.where(norms == 0, 1.0, norms)


# ---- mean distances -------------------------------------------------------------------------------------------------


def _mean_cosine_distances(
    index: Any, rows: np.ndarray, reference: Any, others: np.ndarray, own: bool
) -> tuple[np.ndarray, int]:
    """Means (n,) of 1 - cosine: with S the sum of the unit vectors, they sum to m - x·S."""
    total = _sum(unit_blocks(reference, others))
    parts, zero = [], 0
    for block in unit_blocks(index, rows):
        sums = len(others) - block @ total
        lengths = np.einsum("ij,ij->i", block, block)
        zero += int((lengths == 0).sum())
        if own:  # what a document's distance to itself adds: 0, but for rounding and zero vectors
            sums -= 1 - lengths
        parts.append(sums / (len(others) - own))
    return np.concatenate(parts), zero


def _sum(blocks: Iterable[np.ndarray]) -> np.ndarray:
    total: np.ndarray = np.sum([block.sum(axis=0) for block in blocks], axis=0)
    return total


def _mean_chords(index: Any, rows: np.ndarray, reference: Any, others: np.ndarray, own: bool) -> tuple[np.ndarray, int]:
    compared = np.concatenate(list(unit_blocks(reference, others)))
    parts, zero, start = [], 0, 0
    for block in unit_blocks(index, rows, max(1, (1 << 23) // len(others))):
        distances = np.sqrt(np.maximum(2 - 2 * (block @ compared.T), 0.0))
        zero += int((~block.any(axis=1)).sum())
        count = np.full(len(block), len(others), np.float64)
        if own:
            mine = rows[start : start + len(block)]
            at = np.minimum(np.searchsorted(others, mine), len(others) - 1)
            itself = np.flatnonzero(others[at] == mine)
            distances[itself, at[itself]] = 0.0
            count[itself] -= 1
        parts.append(distances.sum(axis=1) / count)
        start += len(block)
    return np.concatenate(parts), zero
