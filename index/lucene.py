"""BM25 by Lucene, with a language's analyzer, RM3 feedback and BM25-weighted queries.

A folder of the durable builder with one Lucene directory a shard. The shards are searched as one index, so document
frequencies and average length are the whole corpus's. Queries go to Java by the batch and hits come back as one array
of document numbers and scores; the numbers are the builder's rows, so ids come from the id table and never cross.
"""

from __future__ import annotations

import itertools
import struct
import weakref
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from ..errors import SetupError, UsageError, suggest
from ..records import Document, Ranking
from ..registry import register
from . import jvm
from .build import build_index
from .filtering import selected_rows
from .id_ranks import open_ranks
from .languages import analyzer
from .lucene_writer import FOLDER, LuceneWriter, lucene_errors
from .manifest import Plan, check_index
from .texts import TextStore

#: So many hits (8 bytes each) come back from Java in one call.
_HITS_PER_CALL = 1 << 21


@dataclass(frozen=True)
class Rm3:
    """Relevance-model feedback (Abdul-Jaleel et al., TREC 2004) with Anserini's rules, defaults and tie order.

    `fb_terms` terms from each and from all of the best `fb_docs` documents, mixed into the query with weight
    1 - `original_query_weight`. `filter_terms` keeps only terms of ASCII letters and digits; None means: for English.
    """

    fb_terms: int = 10
    fb_docs: int = 10
    original_query_weight: float = 0.5
    filter_terms: bool | None = None

    def __post_init__(self) -> None:
        for name in ("fb_terms", "fb_docs"):
            _require_count(f"rm3 {name}", getattr(self, name))
        if not 0 <= self.original_query_weight <= 1:
            raise UsageError(
                f"rm3 original_query_weight is {self.original_query_weight}, expected a number from 0 to 1"
            )

    @classmethod
    def of(cls, options: Rm3 | Mapping[str, Any] | bool | None) -> Rm3 | None:
        """From a mapping of the fields, True (the defaults), or None and False (no feedback)."""
        if options is None or options is False:
            return None
        if isinstance(options, Rm3):
            return options
        given = {} if options is True else dict(options)
        for name in given:
            if name not in (known := [f.name for f in fields(cls)]):
                raise UsageError(f"rm3 has no option {name!r}: {suggest(name, known)}")
        return cls(**given)


class Hits(NamedTuple):
    """Results of many queries as columns: query i has the rows `offsets[i]` to `offsets[i + 1]`, best first."""

    offsets: np.ndarray  #: (q + 1,) int64
    documents: np.ndarray  #: (n,) int32, rows of the index
    scores: np.ndarray  #: (n,) float32, BM25


@register("lucene")
class LuceneIndex:
    """An index of the words of title and text, searched by BM25; see `build`, `open` and `search`."""

    score_kind: ClassVar[str] = "bm25"

    def __init__(self, path: str | Path, *, verify: bool | None = None) -> None:
        self.path = Path(path)
        self.manifest = check_index(self.path, kind="lucene", verify=verify)
        self.texts = TextStore(self.path, self.manifest)
        self.language: str = self.manifest.options["language"]
        shards = [self.path / "shards" / f"{n:05d}" / FOLDER for n in range(len(self.manifest.shards))]
        with lucene_errors(self.path):
            folders = b"".join(jvm.packed(str(shard.resolve())) for shard in shards)
            ranks = open_ranks(self.path / "whole").astype("<i4").tobytes()
            self._searcher = jvm.call_number("searcher.open", folders, analyzer(self.language), ranks)
        # Not at exit: the machine ends with the process, and calls into it then may hang.
        self._close = weakref.finalize(self, jvm.call, "searcher.close", self._searcher)
        self._close.atexit = False

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

        `documents` are read once, in order; `corpus` names them, `total` is for the progress bar. `language` is an ISO
        639-1 code (`languages.ANALYZERS`). Raises what `build_index` raises, and `UsageError` for an unknown language.
        """
        _require_language(language)
        plan = Plan("lucene", corpus, shard_documents, {"language": language})
        build_index(path, documents, LuceneWriter(language), plan, total=total, overwrite=overwrite)
        return cls.open(path)

    @classmethod
    def open(cls, path: str | Path, *, verify: bool | None = None) -> Self:
        """Open a whole index. `verify` compares all files with their SHA-256 (None: if they are small)."""
        return cls(path, verify=verify)

    def close(self) -> None:
        """Release the mapped files. The index can't be searched afterwards."""
        self._close()

    def __len__(self) -> int:
        return self.manifest.documents

    def search(
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
    ) -> list[Ranking]:
        """The best `k` documents of each query: ids (n,) str objects and BM25 scores (n,) float64, n <= k.

        Only documents with a query term are found; a query of no known terms gives none. Ties go by id, descending,
        also at rank k (Anserini cuts them by id, ascending). `query_weights="binary"` counts a term as often as it
        stands in the query; `"bm25"` weights it like a document's, as BRIGHT's official baseline does, by Anserini's
        rule (the query's length is that of all its terms; gensim, in the official code, counts those in the corpus
        only). `allow`, `deny` and `where` limit the search, see `filtering.selected_rows`. `threads` share the queries.
        """
        weighting: dict[str, Any] = {"k1": k1, "b": b, "rm3": rm3, "query_weights": query_weights}
        hits = self.search_columns(queries, k, **weighting, allow=allow, deny=deny, where=where, threads=threads)
        names = self.texts.kept_ids_at(hits.documents)
        scores = hits.scores.astype(np.float64)
        bounds = hits.offsets.tolist()
        return [Ranking(names[start:end], scores[start:end]) for start, end in itertools.pairwise(bounds)]

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
        """`search` with the results of all queries in three arrays; `texts.ids.take(documents)` are their ids."""
        _require_count("k", k)
        _require_count("threads", threads)
        _require_bm25(k1, b)
        feedback = Rm3.of(rm3)
        if query_weights not in ("binary", "bm25"):
            raise UsageError(f"query_weights is {query_weights!r}: {suggest(query_weights, ('binary', 'bm25'))}")
        if feedback and query_weights == "bm25":
            raise UsageError("rm3 and query_weights='bm25' both reweight the query: choose one")
        if isinstance(queries, str):
            raise UsageError(f"queries is the text {queries!r}, expected a list of texts")
        k = min(k, len(self))
        options = _Options(k, float(k1), float(b), self._bits(allow, deny, where), threads)
        step = max(1, _HITS_PER_CALL // k)
        parts = []
        for start in range(0, len(queries), step):
            packed = [jvm.packed(query) for query in queries[start : start + step]]
            if feedback:
                parts.append(self._search_rm3(packed, feedback, options))
            else:
                parts.append(self._search(packed, options, query_weights == "bm25"))
        return _joined(parts)

    def analyze(self, texts: Sequence[str]) -> list[list[str]]:
        """The terms of each text, as the index sees them."""
        packed = jvm.call("searcher.analyze", self._searcher, b"".join(map(jvm.packed, texts)))
        lists, at = [], 0
        for _ in texts:
            (count,) = struct.unpack_from("<i", packed, at)
            at += 4
            terms = []
            for _ in range(count):
                (length,) = struct.unpack_from("<i", packed, at)
                terms.append(packed[at + 4 : at + 4 + length].decode())
                at += 4 + length
            lists.append(terms)
        return lists

    def _search(self, packed: list[bytes], options: _Options, weighted: bool, ascending: bool = False) -> Hits:
        with lucene_errors(self.path):
            answer = jvm.call(
                "searcher.search",
                *(self._searcher, b"".join(packed), options.k, options.k1, options.b),
                *(weighted, options.allowed, ascending, options.threads),
            )
        return unpacked_hits(answer, len(packed))

    def _search_rm3(self, packed: list[bytes], rm3: Rm3, options: _Options) -> Hits:
        """Anserini's order of equal scores decides which documents give feedback, so that its runs can be repeated."""
        first = self._search(packed, options._replace(k=min(rm3.fb_docs, len(self))), False, ascending=True)
        rows, places = np.unique(first.documents, return_inverse=True)
        texts = b"".join(jvm.packed(self.texts.document(row).full_text) for row in rows.tolist())
        ascii_only = self.language == "en" if rm3.filter_terms is None else rm3.filter_terms
        pairs = np.rec.fromarrays([places.astype("<i4"), first.scores.astype("<f4")])
        counts = np.diff(first.offsets).astype("<i4")
        feedback = b"".join(
            counts[i].tobytes() + pairs[first.offsets[i] : first.offsets[i + 1]].tobytes() for i in range(len(packed))
        )
        with lucene_errors(self.path):
            answer = jvm.call(
                "searcher.rm3",
                *(self._searcher, b"".join(packed), texts, feedback),
                *(rm3.fb_terms, float(rm3.original_query_weight), bool(ascii_only)),
                *(options.k, options.k1, options.b, options.allowed, options.threads),
            )
        return unpacked_hits(answer, len(packed))

    def _bits(self, allow: Collection[str] | None, deny: Collection[str] | None, where: str | None) -> bytes:
        """A bit per row that may be found; nothing at all for all rows."""
        mask = selected_rows(self.texts, allow=allow, deny=deny, where=where)
        return b"" if mask is None else np.packbits(mask, bitorder="little").tobytes()


class _Options(NamedTuple):
    k: int
    k1: float
    b: float
    allowed: bytes
    threads: int


def unpacked_hits(answer: bytes, queries: int) -> Hits:
    """The other side of `Hits.pack` in java/Hits.java."""
    values = np.frombuffer(answer, "<i4")
    offsets = np.concatenate([[0], np.cumsum(values[:queries], dtype=np.int64)])
    total = int(offsets[-1])
    documents = values[queries : queries + total].astype(np.int32)
    return Hits(offsets, documents, values[queries + total :].view("<f4").astype(np.float32))


def _joined(parts: list[Hits]) -> Hits:
    if len(parts) == 1:
        return parts[0]
    lengths = np.concatenate([np.zeros(0, np.int64), *(np.diff(part.offsets) for part in parts)])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    documents = np.concatenate([np.zeros(0, np.int32), *(part.documents for part in parts)])
    return Hits(offsets, documents, np.concatenate([np.zeros(0, np.float32), *(part.scores for part in parts)]))


def _require_count(name: str, value: int) -> None:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
        raise UsageError(f"{name} is {value!r}, expected a whole number of at least 1")


def _require_language(language: str) -> None:
    """Start Java and try the analyzer, before anything is read: small Java runtimes lack the data for Thai."""
    try:
        jvm.call("analyzer.check", analyzer(language))
    except jvm.JavaError as error:
        raise SetupError(
            f"language {language!r}: this Java cannot analyse it ({error}): set JAVA_HOME to a full JDK of version "
            f"{jvm.OLDEST_JAVA} or newer"
        ) from error


def _require_bm25(k1: float, b: float) -> None:
    if not (k1 >= 0 and np.isfinite(k1)):
        raise UsageError(f"k1 is {k1}, expected a number of at least 0")
    if not 0 <= b <= 1:
        raise UsageError(f"b is {b}, expected a number from 0 to 1")
