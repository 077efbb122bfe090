"""Verification: what a cheap search proposes is scored exactly by the stored vectors, in `flat`'s order."""

from __future__ import annotations

import numpy as np

from ..records import Ranking
from . import scan, scan_loading
from .exact import exact_scores, scan_error
from .flat import FlatIndex

#: Vectors of candidates that are held at a time, in bytes.
_CANDIDATE_BYTES = 64 << 20

#: For fewer candidates at once, loading the compiled loops takes longer than it saves.
COMPILED_CANDIDATES = 4096


def candidates_for(k: int, verify: int | bool | None) -> int:
    """How many candidates a search for `k` documents asks for: `verify`, True for 10 · k up to 1,000, and always somewhat
    more than k."""
    more = k + k // 10 + 16
    return more if not verify else max(more, min(10 * k, 1000) if verify is True else verify)


class VerifyingIndex(FlatIndex):
    """A flat index's files, and something beside them that proposes documents.

    Many candidates are scored by the compiled loops of the 8-bit scan, where the CPU has them; the scores are the same.
    """

    def _step(self, wanted: int) -> int:
        return max(1, _CANDIDATE_BYTES // (4 * self.dim * wanted))

    def _verified(
        self, queries: np.ndarray, rows: np.ndarray, k: int, added: np.ndarray | None = None
    ) -> list[Ranking]:
        """The candidates `rows` (b, n), -1 for none, in the order of their exact scores, with `added` (b, n) to them."""
        if self._compiled(queries, rows):
            return self._compiled_verified(queries, rows, k, added)
        distinct = np.unique(rows[rows >= 0])
        vectors = self.vectors(distinct)
        found = []
        for i, (query, mine) in enumerate(zip(queries, rows, strict=True)):
            there = mine >= 0
            mine = mine[there]
            plus = np.zeros(len(mine), np.float32) if added is None else added[i, there]
            candidates = vectors[np.searchsorted(distinct, mine)]
            near = self._near(query, candidates, plus, k)
            scores = exact_scores(self.score_kind, query, candidates[near]) + plus[near]
            found.append(self._ranked(scores, mine[near], k))
        return found

    def _near(self, query: np.ndarray, candidates: np.ndarray, plus: np.ndarray, k: int) -> np.ndarray:
        """Which candidates (n,) bool a float32 product leaves among the best `k`, by the bound of its error."""
        if self.score_kind == "l2" or len(candidates) <= k:
            return np.ones(len(candidates), bool)
        rough = candidates @ query + plus
        # One bound for the product, one for adding `plus` in float32, each on both sides of the cut.
        error = scan_error(self.score_kind, query, self._max_norm) + float(np.abs(rough).max()) * 2.0**-23
        near: np.ndarray = rough >= np.partition(rough, -k)[-k] - 2 * error
        return near

    def _compiled(self, queries: np.ndarray, rows: np.ndarray) -> bool:
        enough = rows.size >= COMPILED_CANDIDATES and scan.suits(self.dim, self._max_norm, queries)
        return enough and scan_loading.ready()

    def _compiled_verified(
        self, queries: np.ndarray, rows: np.ndarray, k: int, added: np.ndarray | None
    ) -> list[Ranking]:
        from .scan_kernel import exact_sums

        count = (rows >= 0).sum(axis=1)
        order = np.argsort(np.where(rows < 0, np.iinfo(np.int64).max, rows), axis=1, kind="stable")
        mine = np.take_along_axis(rows.astype(np.int64), order, 1)
        wanted, exact = np.ones(mine.shape, np.uint8), np.empty(mine.shape, np.float32)
        wide, room = queries.astype(np.float64), np.empty(1)
        squared = int(self.score_kind == "l2")
        for number in np.unique(np.searchsorted(self._starts, mine[mine >= 0], side="right") - 1).tolist():
            first, last = (int(start) for start in self._starts[number : number + 2])
            vectors = self._stored(number)
            exact_sums(
                vectors.ctypes.data, int(vectors.dtype == np.float16), self.dim, first, last, squared, wide, mine, count,
                wanted, exact, room,
            )  # fmt: skip
        if added is not None:
            exact += np.take_along_axis(added, order, 1)
        return [self._ranked(exact[i, :n], mine[i, :n], k) for i, n in enumerate(count)]
