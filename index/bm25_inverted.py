"""BM25 without Java: English text analysed as Lucene does it, in a compressed inverted index, with Lucene's scores."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from ..errors import UsageError, suggest
from ..records import Document, Ranking
from ..registry import register
from ..vectors import Sparse
from .analysis.english import EnglishAnalyzer
from .analysis.vocabulary import Vocabulary
from .block_max import Bm25, search
from .bm25_counts import ShardCounts
from .bm25_feedback import expanded
from .bm25_inverted_writer import FOLDER, Bm25Writer
from .build import build_index
from .filtering import selected_rows
from .id_ranks import open_ranks
from .lucene import Hits, Rm3
from .manifest import Plan, check_index
from .postings import Postings
from .texts import TextStore

#: When the queries so far had so many distinct terms, what is remembered of them is forgotten.
_REMEMBERED = 1 << 20


class _Bags(NamedTuple):
    """Queries: how often each term of the index stands in them, and `lengths` (q,), how many terms they have in all."""

    terms: Sparse
    lengths: np.ndarray


@register("bm25-inverted")
class Bm25InvertedIndex:
    """An index of the words of title and text of English documents, searched by BM25; see `build`, `open` and `search`.

    Scores are Lucene's, to the last bits of float32: its analysis, idf, float32 arithmetic and rounded lengths.
    """

    score_kind: ClassVar[str] = "bm25"

    def __init__(self, path: str | Path, *, verify: bool | None = None) -> None:
        self.path = Path(path)
        self.manifest = check_index(self.path, kind="bm25-inverted", verify=verify)
        self.texts = TextStore(self.path, self.manifest)
        whole = self.manifest.whole_folder(self.path)
        self.vocabulary = Vocabulary(whole)
        self.postings = Postings.open(whole / FOLDER)
        self._ranks = open_ranks(whole)
        self._shards: dict[int, ShardCounts] = {}
        self._lock = threading.Lock()
        self._forget()

    @classmethod
    def build(
        cls,
        path: str | Path,
        documents: Iterable[Document],
        *,
        corpus: str,
        total: int | None = None,
        language: str = "en",
        shard_documents: int = 200_000,
        overwrite: bool = False,
    ) -> Self:
        """Build the index in the folder `path`, or go on with a build that was killed there, and open it.

        `documents` are read once, in order; `corpus` names them, `total` is for the progress bar. `language` can only be
        `en`. Raises what `build_index` raises, and `UsageError` for another language.
        """
        if language != "en":
            raise UsageError(
                f"language {language!r}: BM25 without Java analyses English (en) only: use the engine lucene"
            )
        plan = Plan("bm25-inverted", corpus, shard_documents, {"language": language})
        build_index(path, documents, Bm25Writer(), plan, total=total, overwrite=overwrite)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path, *, verify: bool | None = None) -> Self:
        """Open a whole index. `verify` compares all files with their SHA-256 (None: if they are small)."""
        return cls(path, verify=verify)

    def __len__(self) -> int:
        return self.manifest.documents

    def search(self, queries: Sequence[str], k: int, **options: Any) -> list[Ranking]:
        """The best `k` documents of each query: ids (n,) str objects and BM25 scores (n,) float64, n <= k.

        `options` are those of `search_columns`. Only documents with a query term are found; a query of no known terms
        gives none. Equal scores go by id, descending, also at rank k.
        """
        hits = self.search_columns(queries, k, **options)
        names, scores = self.texts.kept_ids_at(hits.documents), hits.scores.astype(np.float64)
        return [Ranking(names[a:b], scores[a:b]) for a, b in itertools.pairwise(hits.offsets.tolist())]

    def search_columns(
        self,
        queries: Sequence[str],
        k: int,
        *,
        k1: float = 0.9,
        b: float = 0.4,
        rm3: Rm3 | Mapping[str, Any] | bool | None = None,
        query_weights: str = "binary",
        allow: Collection[str] | None = None,
        deny: Collection[str] | None = None,
        where: str | None = None,
        threads: int = 1,
    ) -> Hits:
        """The results of all queries in three arrays; `texts.ids.take(documents)` are their ids.

        `query_weights="binary"` counts a term as often as it stands in the query; `"bm25"` weights it like a document's,
        by Anserini's rule. `rm3` adds feedback (`lucene.Rm3`). `allow`, `deny` and `where` limit the search, see
        `filtering.selected_rows`. `threads` share the queries.
        """
        for name, value in (("k", k), ("threads", threads)):
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
                raise UsageError(f"{name} is {value!r}, expected a whole number of at least 1")
        feedback, weighting = Rm3.of(rm3), Bm25(float(k1), float(b))
        if query_weights not in ("binary", "bm25"):
            raise UsageError(f"query_weights is {query_weights!r}: {suggest(query_weights, ('binary', 'bm25'))}")
        if feedback and query_weights == "bm25":
            raise UsageError("rm3 and query_weights='bm25' both reweight the query: choose one")
        if isinstance(queries, str):
            raise UsageError(f"queries is the text {queries!r}, expected a list of texts")
        mask = selected_rows(self.texts, allow=allow, deny=deny, where=where)
        bags = self._bags(queries)
        terms = bags.terms
        if feedback:
            depth = min(feedback.fb_docs, len(self))
            # Anserini's order of equal scores decides which documents give feedback.
            best = _searched(self.postings, terms, depth, weighting, -self._ranks, mask, threads)
            terms = expanded(terms, bags.lengths, best, feedback, self.counts_of, self.vocabulary, self.postings)
        elif query_weights == "bm25":
            terms = self._weighted(bags, weighting)
        return _searched(self.postings, terms, min(k, len(self)), weighting, self._ranks, mask, threads)

    def analyze(self, texts: Sequence[str]) -> list[list[str]]:
        """The terms of each text, as the index sees them."""
        return EnglishAnalyzer().analyze(texts)

    def counts_of(self, row: int) -> dict[str, int]:
        """The terms of the document in `row` and how often they stand there."""
        bounds = np.cumsum(self.manifest.shards)
        number = int(np.searchsorted(bounds, row, side="right"))
        if number not in self._shards:
            self._shards[number] = ShardCounts(self.manifest.shard_folders(self.path)[number])
        shard = self._shards[number]
        place = row - int(bounds[number]) + self.manifest.shards[number]
        _, ids, counts = shard.rows(place, place + 1)
        return {shard.terms[i]: count for i, count in zip(ids.tolist(), counts.tolist(), strict=True)}

    def _forget(self) -> None:
        """Begin with a new analyzer of queries. `_numbers` turns its numbers of terms into the vocabulary's, -1 for none."""
        self._analyzer = EnglishAnalyzer()
        self._numbers = np.zeros(0, np.int32)

    def _bags(self, queries: Sequence[str]) -> _Bags:
        with self._lock:
            if len(self._numbers) > _REMEMBERED:
                self._forget()
            words, offsets = self._analyzer.number(queries)
            new = self._analyzer.terms(len(self._numbers), len(self._analyzer))
            self._numbers = np.concatenate([self._numbers, self.vocabulary.numbers(new)])
            terms = self._numbers[words].astype(np.int64)
        lengths = np.diff(offsets)
        keys = np.repeat(np.arange(len(queries)), lengths) * (len(self.vocabulary) + 1) + terms
        keys, counts = np.unique(keys[terms >= 0], return_counts=True)
        indptr = np.searchsorted(keys, np.arange(len(queries) + 1) * (len(self.vocabulary) + 1))
        ids = (keys % (len(self.vocabulary) + 1)).astype(np.int32)
        return _Bags(Sparse(indptr, ids, counts.astype(np.float32), len(self.vocabulary)), lengths)

    def _weighted(self, bags: _Bags, weighting: Bm25) -> Sparse:
        """Each query's terms weighted as if it were a document, in float32 throughout, to rank as Anserini does."""
        terms, one = bags.terms, np.float32(1)
        k1, b = np.float32(weighting.k1), np.float32(weighting.b)
        average = np.float32(self.postings.total_length or 1) / np.float32(self.postings.filled or 1)
        norms = k1 * (one - b + b * (bags.lengths.astype(np.float32) / average))
        norms = np.repeat(norms, np.diff(terms.indptr))
        idf = weighting.factors(self.postings, terms.ids, np.ones(len(terms.ids))).astype(np.float32)
        return Sparse(terms.indptr, terms.ids, idf * (terms.weights / (terms.weights + norms)), terms.terms)


def _searched(
    postings: Postings,
    queries: Sparse,
    k: int,
    weighting: Bm25,
    ranks: np.ndarray,
    mask: np.ndarray | None,
    threads: int,
) -> Hits:
    def run(part: Sparse) -> list[tuple[np.ndarray, np.ndarray]]:
        return list(search(postings, part, k, weighting=weighting, ranks=ranks, mask=mask))

    if threads == 1:
        found = run(queries)
    else:
        bounds = np.linspace(0, len(queries), threads + 1).astype(int).tolist()
        with ThreadPoolExecutor(threads) as pool:
            parts = pool.map(run, [_part(queries, a, b) for a, b in itertools.pairwise(bounds)])
            found = list(itertools.chain.from_iterable(parts))
    offsets = np.cumsum([0, *(len(rows) for _, rows in found)], dtype=np.int64)
    documents = np.concatenate([np.zeros(0, np.int32), *(rows for _, rows in found)])
    return Hits(offsets, documents, np.concatenate([np.zeros(0), *(scores for scores, _ in found)]).astype(np.float32))


def _part(queries: Sparse, first: int, last: int) -> Sparse:
    a, b = queries.indptr[first], queries.indptr[last]
    return Sparse(queries.indptr[first : last + 1] - a, queries.ids[a:b], queries.weights[a:b], queries.terms)
