"""Searching a FAISS index of whatever structure: parameters by rule, filters, scores of which more is better.

    nprobe   2.5 · sqrt(lists), at least 8, and so many that they hold 4 · k documents
    ef       128, and always at least k

Under a filter both are divided by the share of documents that are allowed, so that as many allowed ones are looked at.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np

from ..errors import UsageError, require
from .faiss_files import parts

#: Where a filter allows less than this share of the documents, these are searched exactly instead.
NARROW = 0.1

_EF = 128


class Proposer:
    """A FAISS index that proposes rows. `similarity` is dot, cosine or l2."""

    def __init__(self, index: Any, similarity: str) -> None:
        faiss = require("faiss", "an approximate index")

        self.index = index
        self._sign = -1 if similarity == "l2" else 1
        inside = list(parts(index))
        self._lists = next((part for part in inside if isinstance(part, faiss.IndexIVF)), None)
        self._has_graph = any(isinstance(part, faiss.IndexHNSW) for part in inside)

    def propose(
        self, queries: np.ndarray, k: int, mask: np.ndarray | None, *, nprobe: int | None = None, ef: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scores (b, k) float32, best first, and rows (b, k) int64, -1 where fewer are found, of `queries` (b, d).

        `mask` (rows,) says which may be found. Raises `UsageError` for a parameter that the structure lacks.
        """
        if nprobe is not None and self._lists is None:
            raise UsageError("nprobe has no effect: the FAISS index has no inverted lists")
        if ef is not None and not self._has_graph:
            raise UsageError("ef has no effect: the FAISS index has no HNSW graph")
        share = 1.0 if mask is None else max(1, int(mask.sum())) / len(mask)
        if mask is not None and not self._takes_filters:
            return self._sifted(queries, k, mask, share, nprobe, ef)
        selector = None if mask is None else _selector(mask)
        return self._searched(queries, k, selector, share, nprobe, ef)

    def scores(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores (n,) float32 of the codes of `rows` (n,) for one `query` (d,)."""
        decoded = self.index.reconstruct_batch(np.ascontiguousarray(rows, np.int64))
        if self._sign < 0:
            decoded -= query
            return -np.einsum("ij,ij->i", decoded, decoded)
        return decoded @ query

    def _searched(
        self, queries: np.ndarray, k: int, selector: Any, share: float, nprobe: int | None, ef: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        parameters = self._parameters(self.index, k, selector, share, nprobe, ef)
        scores, rows = self.index.search(queries, k, params=parameters)
        return self._sign * scores, rows

    def _sifted(
        self, queries: np.ndarray, k: int, mask: np.ndarray, share: float, nprobe: int | None, ef: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """For FAISS indexes that take no selector (PQ, fast scan): longer lists, of which what is allowed stays."""
        asked = k
        while True:
            asked = min(len(mask), math.ceil(1.2 * asked / share) + 16)
            scores, rows = self._searched(queries, asked, None, 1.0, nprobe, ef)
            good = (rows >= 0) & mask[rows]
            if asked == len(mask) or (good.sum(1) >= k).all():
                break
        order = np.argsort(~good, axis=1, kind="stable")[:, :k]
        kept = np.take_along_axis(good, order, 1)
        rows = np.where(kept, np.take_along_axis(rows, order, 1), -1)
        return np.take_along_axis(scores, order, 1), rows

    @cached_property
    def _takes_filters(self) -> bool:
        query = np.zeros((1, self.index.d), np.float32)
        try:
            self._searched(query, 1, _selector(np.ones(self.index.ntotal, bool)), 1.0, None, None)
        except RuntimeError:
            return False
        return True

    def _parameters(self, index: Any, k: int, selector: Any, share: float, nprobe: int | None, ef: int | None) -> Any:
        """FAISS's parameter object for `index` and those inside it; None where it takes none and none is needed."""
        faiss = require("faiss", "an approximate index")

        index = faiss.downcast_index(index)
        beam = math.ceil(max(ef or _EF, k) / share)
        if isinstance(index, faiss.IndexPreTransform):
            inner = self._parameters(index.index, k, selector, share, nprobe, ef)
            return None if inner is None else faiss.SearchParametersPreTransform(index_params=inner)
        if isinstance(index, faiss.IndexRefine):
            inner = self._parameters(index.base_index, k, selector, share, nprobe, ef)
            if inner is None:
                return None
            return faiss.IndexRefineSearchParameters(k_factor=index.k_factor, base_index_params=inner)
        if isinstance(index, faiss.IndexIVF):
            lists = self._probed(index, k, share, nprobe)
            coarse = faiss.downcast_index(index.quantizer)
            inner = None
            if isinstance(coarse, faiss.IndexHNSW):
                inner = faiss.SearchParametersHNSW(efSearch=max(ef or _EF, lists))
            return faiss.SearchParametersIVF(nprobe=lists, sel=selector, quantizer_params=inner)
        if isinstance(index, faiss.IndexHNSW):
            return faiss.SearchParametersHNSW(efSearch=beam, sel=selector)
        return None if selector is None else faiss.SearchParameters(sel=selector)

    def _probed(self, index: Any, k: int, share: float, nprobe: int | None) -> int:
        lists = index.nlist
        by_rule = max(8, math.ceil(2.5 * lists**0.5), math.ceil(4 * k * lists / max(1, index.ntotal)))
        return int(min(lists, math.ceil((nprobe or by_rule) / share)))


def _selector(mask: np.ndarray) -> Any:
    faiss = require("faiss", "an approximate index")

    return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
