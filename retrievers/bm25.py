"""BM25 over an index of Lucene or of our own, with RM3 feedback and BM25-weighted queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from ..errors import InputError, SetupError, UsageError, suggest
from ..index.manifest import read_manifest
from ..records import Query, Run
from ..registry import register
from ..stage import Retriever
from .filtered import Ids
from .indexed import Indexed

if TYPE_CHECKING:
    from ..corpora.dataset import Dataset

#: Engine → the kind of index that it searches.
ENGINES = {"lucene": "lucene", "inverted": "bm25-inverted"}


@register("bm25")
@dataclass
class BM25(Indexed, Retriever):
    """BM25 (Robertson et al.) as Lucene computes it.

    `index` is a folder made by `BM25.build` or `cribble index`; the best `k` documents are found. `k1` (how soon more of
    a term stops to count) and `b` (how much a document's length counts) are Pyserini's by default. `rm3` adds
    relevance-model feedback: `fb_terms` terms from the best `fb_docs` documents, mixed in with weight
    1 - `original_query_weight`. `query_weights` is `binary`, or `bm25`, which weights the query's terms by BM25 too, as
    BRIGHT's official baseline does. `threads` searches queries side by side.

    Building takes an `engine`: `lucene`, the default, which has an analyzer for each `language`, or `inverted`, which
    needs no Java, gives the same scores, and knows English only. The index says by which it was made.
    """

    index: str | Path
    k: int = 1000
    k1: float = 0.9
    b: float = 0.4
    rm3: bool = False
    fb_terms: int = 10
    fb_docs: int = 10
    original_query_weight: float = 0.5
    query_weights: str = "binary"
    threads: int = 1
    allow: Ids = None
    deny: Ids = None
    where: str | None = None
    score_kind: str = field(default="bm25", init=False)
    index_kinds: ClassVar[tuple[str, ...]] = tuple(ENGINES.values())
    build_options: ClassVar[Mapping[str, Any]] = {"engine": str, "language": str, "shard_documents": int}

    def __post_init__(self) -> None:
        if not self.k1 >= 0:
            raise UsageError(f"bm25: k1 is {self.k1}, expected a number >= 0")
        if not 0 <= self.b <= 1:
            raise UsageError(f"bm25: b is {self.b}, expected a number from 0 to 1")
        if self.query_weights not in ("binary", "bm25"):
            raise UsageError(
                f"bm25: query_weights is {self.query_weights!r}: {suggest(self.query_weights, ('binary', 'bm25'))}"
            )
        if self.rm3 and self.query_weights == "bm25":
            raise UsageError("bm25: rm3 and query_weights='bm25' both reweight the query: choose one")
        changed = [n for n in ("fb_terms", "fb_docs", "original_query_weight") if getattr(self, n) != getattr(BM25, n)]
        if changed and not self.rm3:
            raise UsageError(f"bm25: {', '.join(changed)} have no effect without rm3=true")

    @classmethod
    def build_index(cls, dataset: Dataset, path: str | Path, *, overwrite: bool, options: dict[str, Any]) -> None:
        options = dict(options)
        _index_class(_kind_of(options.pop("engine", "lucene"))).build(
            path,
            dataset.documents(),
            corpus=dataset.id,
            total=dataset.num_documents,
            overwrite=overwrite,
            **options,
        )

    @classmethod
    def check_build_options(cls, options: Mapping[str, Any], own: Iterable[str] = ()) -> None:
        super().check_build_options(options, own)
        kind, language = _kind_of(options.get("engine", "lucene")), options.get("language", "en")
        if kind == "bm25-inverted" and language != "en":
            raise UsageError(
                f"bm25 index: engine 'inverted' analyses English (en) only, language is {language!r}: use engine=lucene"
            )

    @classmethod
    def _refuse_another(cls, dataset: Dataset, path: Path, options: Mapping[str, Any]) -> None:
        named = dict(options)
        if "engine" in named:
            named["kind"] = _kind_of(named.pop("engine"))
        super()._refuse_another(dataset, path, named)

    def open_index(self) -> Any:
        kind = read_manifest(self.index).kind
        if kind not in self.index_kinds:
            raise InputError(
                f"{self.index}: an index of kind {kind!r}, expected {' or '.join(self.index_kinds)}: name another folder"
            )
        return _index_class(kind).open(self.index)

    def retrieve(self, queries: list[Query], k: int) -> Run:
        rm3 = None
        if self.rm3:
            rm3 = {
                "fb_terms": self.fb_terms,
                "fb_docs": self.fb_docs,
                "original_query_weight": self.original_query_weight,
            }
        index = self.opened
        hits = index.search_columns(
            [query.text for query in queries],
            k,
            k1=self.k1,
            b=self.b,
            rm3=rm3,
            query_weights=self.query_weights,
            threads=self.threads,
            **self.filters,
        )
        doc_ids = index.texts.ids.take(pa.array(hits.documents))
        return Run(
            [query.id for query in queries],
            hits.offsets,
            doc_ids,
            hits.scores,
            name=self.label,
            score_kind=self.score_kind,
        )


def _kind_of(engine: str) -> str:
    if engine not in ENGINES:
        raise UsageError(f"bm25 index: engine is {engine!r}: {suggest(engine, ENGINES)}")
    return ENGINES[engine]


def _index_class(kind: str) -> Any:
    """The class of an index kind. Lucene's starts Java first, so that a machine without it learns of the other engine."""
    if kind == "bm25-inverted":
        from ..index.bm25_inverted import Bm25InvertedIndex

        return Bm25InvertedIndex
    from ..index import jvm
    from ..index.lucene import LuceneIndex

    try:
        jvm.call("ping")
    except SetupError as error:
        raise SetupError(f"{error}; or build the index with --engine inverted, which needs no Java") from error
    return LuceneIndex
