"""Which documents have a word: lists over a whole index, and the scores of equal words (Uni-ColBERTer).

posting_words.npy (W,)         ids of all words, ascending, uint32
posting_offsets.npy (W + 1,)   where each word's list begins
posting_rows.npy (T,)          documents' rows, ascending within a list; uint16 where all fit, else uint32

Where a word's vector lies in its document is found by the word ids there, which ascend.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..compiling import compiled
from .colberter_files import ColberterShard, Shards
from .durable import write_array
from .multivector_files import read

POSTING_WORDS, POSTING_OFFSETS, POSTING_ROWS = "posting_words.npy", "posting_offsets.npy", "posting_rows.npy"


def write_postings(folder: Path, shards: Shards, rows: int) -> int:
    """Write the lists of the `rows` documents in `shards`; returns their bytes. Memory holds a shard's words, and all
    distinct ones."""
    words, counts = np.zeros(0, np.uint32), np.zeros(0, np.int64)
    for number in range(len(shards)):
        own, times = np.unique(shards[number].words, return_counts=True)
        both = np.union1d(words, own)
        joined = np.zeros(len(both), np.int64)
        joined[np.searchsorted(both, words)] += counts
        joined[np.searchsorted(both, own)] += times
        words, counts = both, joined
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    write_array(folder / POSTING_WORDS, [words], len(words), (), np.uint32)
    write_array(folder / POSTING_OFFSETS, [starts], len(starts), (), np.int64)
    dtype = np.uint16 if rows <= 1 << 16 else np.uint32
    if not starts[-1]:
        write_array(folder / POSTING_ROWS, [np.zeros(0, dtype)], 0, (), dtype)
    else:
        _write_rows(folder / POSTING_ROWS, shards, words, starts, dtype)
    return sum((folder / name).stat().st_size for name in (POSTING_WORDS, POSTING_OFFSETS, POSTING_ROWS))


def _write_rows(path: Path, shards: Shards, words: np.ndarray, starts: np.ndarray, dtype: Any) -> None:
    file = np.lib.format.open_memmap(path, "w+", dtype, (int(starts[-1]),))
    free, first = starts[:-1].copy(), 0
    for number in range(len(shards)):
        ids, offsets = shards[number].words, shards[number].bags.offsets
        order = np.argsort(ids, kind="stable")  # rows ascend among equal words
        own = np.searchsorted(words, ids[order])
        begins = np.flatnonzero(np.diff(own, prepend=-1))
        times = np.diff(begins, append=len(own))
        within = np.arange(len(own)) - np.repeat(begins, times)
        of_rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        file[free[own] + within] = first + of_rows[order]
        free[own[begins]] += times
        first += len(offsets) - 1
    file.flush()


class Postings:
    """Scores of documents by the words that a query shares with them.

    Each query word adds its best inner product with a vector of the same word, and 0 where that is below or the document
    lacks the word: upstream sets products of unequal words to 0 before it takes the greatest. (There the negative product
    counts in a document of one vector, which has no other; here it does not.)
    """

    def __init__(self, folder: Path, shards: Shards, starts: np.ndarray) -> None:
        self._words = np.asarray(np.load(folder / POSTING_WORDS, mmap_mode="r"))
        self._offsets = np.asarray(np.load(folder / POSTING_OFFSETS, mmap_mode="r"))
        self._rows = np.asarray(np.load(folder / POSTING_ROWS, mmap_mode="r"))
        self._shards, self._starts = shards, starts

    def scores(self, tokens: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of a query with the vectors `tokens` (t, d) of `words` (t,): scores (n,) float64 of all documents, and which (n,)
        bool share a word with it."""
        total, shared = np.zeros(int(self._starts[-1])), np.zeros(int(self._starts[-1]), bool)
        for token, word in zip(tokens, words, strict=True):
            at = int(np.searchsorted(self._words, word))
            if at == len(self._words) or self._words[at] != word:
                continue
            rows = self._rows[self._offsets[at] : self._offsets[at + 1]]
            cuts = np.searchsorted(rows, self._starts)
            for number in np.flatnonzero(np.diff(cuts)).tolist():
                shard, (first, last) = self._shards[number], self._starts[number : number + 2]
                own = rows[cuts[number] : cuts[number + 1]] - first
                vectors = _vectors(shard, _places(own, shard.bags.offsets, shard.words, word))
                _add_best(own, vectors, token, total[first:last], shared[first:last])
        return total, shared


def _vectors(shard: ColberterShard, places: np.ndarray) -> np.ndarray:
    """The word vectors (m, d) float32 at `places` (m,) of a shard."""
    vectors = read(shard.bags.numbers[places], shard.bags.storage)
    return vectors * shard.bags.scales[places, None] if len(shard.bags.scales) else vectors


@compiled
def _places(rows: Any, offsets: Any, words: Any, word: Any) -> Any:
    """Where the vectors of `word` lie in the documents `rows` (m,), ascending; a row that is repeated has it repeatedly."""
    places = np.empty(len(rows), np.int64)
    for i in range(len(rows)):
        if i > 0 and rows[i] == rows[i - 1]:
            places[i] = places[i - 1] + 1
            continue
        low, high = offsets[rows[i]], offsets[rows[i] + 1]
        while low < high:
            middle = (low + high) // 2
            if words[middle] < word:
                low = middle + 1
            else:
                high = middle
        places[i] = low
    return places


@compiled
def _add_best(rows: Any, vectors: Any, token: Any, total: Any, shared: Any) -> None:
    """Add to `total[row]` the greatest product of `token` (d,) with the row's `vectors` (m, d), if that is above 0.

    `rows` (m,) ascend and name each vector's document; products are summed in float64.
    """
    best = 0.0
    for i in range(len(rows)):
        product = 0.0
        for j in range(len(token)):
            product += np.float64(token[j]) * np.float64(vectors[i, j])
        best = max(best, product)
        if i + 1 == len(rows) or rows[i + 1] != rows[i]:
            total[rows[i]] += best
            shared[rows[i]] = True
            best = 0.0
