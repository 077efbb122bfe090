"""Parts of MaxSim: blocks of document tokens, multiplied with all query tokens in one product that stays in a core's cache.

A compiled loop takes the best match of each document. This serves what `maxsim_stored.py`, which keeps products nearer,
does not: other similarities than inner products, masks, CPUs without fused multiply-add.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, UsageError, suggest
from .exact import unit_length
from .maxsim_kernel import sum_of_best
from .maxsim_product import narrow_product, suits

SIMILARITIES = ("dot", "cosine", "l2")

#: Bytes of a block's similarities, which should stay in a core's second cache.
_BLOCK_BYTES = 512 << 10

#: The least match of two unit vectors: what each query token gets of a document without tokens.
LEAST = {"dot": -1.0, "cosine": -1.0, "l2": -4.0}

NOTHING = np.zeros(0, np.float32)


@dataclass(frozen=True)
class QuerySide:
    """The tokens of some queries as blocks of documents are multiplied with them.

    `factors` (d, t or a few more) are what document tokens are multiplied with, `starts` (b + 1,) where queries begin;
    `added` (b,) is what a score has besides, `least` (b,) what a document without tokens gets.
    """

    factors: np.ndarray
    starts: np.ndarray
    added: np.ndarray
    least: np.ndarray

    @classmethod
    def of(cls, tokens: np.ndarray, starts: np.ndarray, similarity: str) -> QuerySide:
        """Of `tokens` (t, d) float32. Minus a squared distance is 2 q · d - |d|² - |q|²."""
        sizes = np.diff(starts).astype(np.float64)
        added = np.zeros(len(sizes))
        values = prepared(tokens, similarity)
        if similarity == "l2":
            raised = np.concatenate([[0.0], np.cumsum((values.astype(np.float64) ** 2).sum(1))])
            added, values = -np.diff(raised[starts]), 2 * values
        return cls(
            np.ascontiguousarray(values.T), np.ascontiguousarray(starts, np.int64), added, LEAST[similarity] * sizes
        )

    @property
    def block_tokens(self) -> int:
        """Document tokens whose similarities stay in a core's cache."""
        return max(64, _BLOCK_BYTES // (4 * max(1, self.factors.shape[1])))

    def score(
        self, rows: np.ndarray, scales: np.ndarray, bias: np.ndarray, starts: np.ndarray, out: np.ndarray, first: int
    ) -> None:
        """Write the scores of the documents with the tokens `rows` (T, d) into `out[:, first:]`; see `sum_of_best`."""
        similarities = product(rows, self.factors)
        sum_of_best(similarities, scales, bias, starts, self.starts, self.added, self.least, out, first)


def product(rows: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """`rows @ factors` in float32, by what is fastest here: for few columns `maxsim_product`, else torch if it is loaded."""
    if suits(rows, factors):
        return narrow_product(rows, factors)
    if "torch" not in sys.modules or not len(rows):
        return rows @ factors
    import torch

    if torch.get_float32_matmul_precision() != "highest":  # others may compute in bfloat16
        return rows @ factors
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of arrays that may not be written to: nothing is
        left, right = torch.from_numpy(rows), torch.from_numpy(factors)
    similarities: np.ndarray = (left @ right).numpy()
    return similarities


def blocks(offsets: np.ndarray, tokens: int) -> Iterator[tuple[int, int]]:
    """Ranges of documents, first and past the last, of at most `tokens` tokens together, or of one document."""
    first = 0
    while first < len(offsets) - 1:
        last = int(np.searchsorted(offsets, offsets[first] + tokens, side="right")) - 1
        last = max(last, first + 1)
        yield first, last
        first = last


def prepared(tokens: np.ndarray, similarity: str) -> np.ndarray:
    """Tokens as they are multiplied: float32, of unit length where cosines are asked for."""
    return unit_length(tokens)[0] if similarity == "cosine" else np.ascontiguousarray(tokens, np.float32)


def token_bias(rows: np.ndarray, similarity: str) -> np.ndarray:
    """What a match with each document token has besides the product: (T,) float32, or nothing."""
    return -np.einsum("td,td->t", rows, rows, dtype=np.float32) if similarity == "l2" else NOTHING


def check_pair(queries: np.ndarray, documents: np.ndarray, similarity: str) -> None:
    """Raise for an unknown similarity and for sides of unequal width."""
    if similarity not in SIMILARITIES:
        raise UsageError(f"maxsim: similarity {similarity!r} is unknown: {suggest(similarity, SIMILARITIES)}")
    if queries.shape[1] != documents.shape[1]:
        raise InputError(
            f"maxsim: query tokens have {queries.shape[1]} dimensions, document tokens {documents.shape[1]}: expected "
            f"vectors of one model"
        )
