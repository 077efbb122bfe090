"""What a collection is: documents that stream, queries, judgements, and the facts that others leave to flags."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from ..errors import UsageError
from ..records import Document, Qrels, Query, Run

#: BEIR's headline and second measure (Thakur et al., NeurIPS 2021), the default where a collection has no custom of its own.
DEFAULT_MEASURES = "nDCG@10 R@100"

#: Documents that `get_many` keeps in memory, in characters of text; a larger corpus is streamed at each call.
KEPT_CHARACTERS = 256_000_000

Opener = Callable[[], Iterator[Document]]
Lookup = Callable[[Collection[str]], dict[str, Document]]


@dataclass
class Dataset:
    """One collection, as `load_dataset` makes it; any field can also be given by hand.

    `open_documents` starts a new pass over the corpus at each call (None: the documents are not here). `lookup` fetches
    documents by id where that is faster than a pass. `excluded` names, per query, documents that must not be ranked
    (BRIGHT); `drop_self` says that a document with the query's own id is the query itself and does not count (ArguAna).
    `candidates` is a first-stage run that came with the data. `search_texts` are what a first stage searches with instead of a
    query's text (BRIGHT's reasoning); rerankers see the query itself. `num_documents` is a hint for progress bars. `version` tells
    states of the documents apart without reading them (sizes and times of files), so that no index of an old state is used.
    """

    id: str
    queries: list[Query] = field(repr=False)
    qrels: Qrels | None = None
    open_documents: Opener | None = field(default=None, repr=False)
    lookup: Lookup | None = field(default=None, repr=False)
    num_documents: int | None = None
    drop_self: bool = False
    excluded: dict[str, frozenset[str]] = field(default_factory=dict, repr=False)
    parts: dict[str, Dataset] = field(default_factory=dict, repr=False)
    measures: str = DEFAULT_MEASURES
    candidates: Run | None = None
    description: str = ""
    version: str = ""
    search_texts: dict[str, str] = field(default_factory=dict, repr=False)
    _kept: dict[str, Document] | None = field(default=None, init=False, repr=False, compare=False)
    _too_large: bool = field(default=False, init=False, repr=False, compare=False)

    @property
    def has_documents(self) -> bool:
        return self.open_documents is not None

    def documents(self) -> Iterator[Document]:
        """A new pass over the corpus, in its own order; `UsageError` when the collection came without documents."""
        if self.open_documents is None:
            raise UsageError(f"{self.id} has no documents, only queries and judgements: name a dataset with a corpus")
        return self.open_documents()

    def get_many(self, ids: Collection[str]) -> dict[str, Document]:
        """The documents among `ids` that exist, in the order of `ids`; a missing one is absent, never an error.

        Without a `lookup`, the first call passes over the corpus and keeps it if it has up to `KEPT_CHARACTERS`; a
        larger one is passed over again at each call: ask an index's text store instead.
        """
        if self.lookup is not None:
            return self.lookup(ids)
        if not self._too_large and self._kept is None:
            self._kept = self._keep_all()
        if self._kept is not None:
            return {i: self._kept[i] for i in ids if i in self._kept}
        wanted = set(ids)
        found: dict[str, Document] = {}
        for document in self.documents():
            if document.id in wanted:
                found[document.id] = document
                if len(found) == len(wanted):
                    break
        return {i: found[i] for i in ids if i in found}

    def _keep_all(self) -> dict[str, Document] | None:
        kept, characters = {}, 0
        for document in self.documents():
            kept[document.id] = document
            characters += len(document.text) + len(document.title)
            if characters > KEPT_CHARACTERS:
                self._too_large = True
                return None
        return kept

    def exclusions(self) -> dict[str, frozenset[str]]:
        """Per query the ids that must not be ranked: `excluded`, and the query's own id where `drop_self` holds."""
        if not self.drop_self:
            return dict(self.excluded)
        own = {query.id: frozenset([query.id]) for query in self.queries}
        return own | {q: ids | own.get(q, frozenset()) for q, ids in self.excluded.items()}

    def unknown_judged(self) -> set[str]:
        """Ids of judged documents that the corpus lacks (ArguAna has one, beir#101). Costs one pass over the corpus."""
        judged = set(self.qrels.doc_ids.to_pylist()) if self.qrels is not None else set()
        for document in self.documents() if judged else ():
            judged.discard(document.id)
            if not judged:
                break
        return judged


class PartedDataset(Dataset):
    """A collection of collections, whose score is the mean over `parts` (CQADupStack). It has nothing of its own: ids of
    different parts name different documents, so a merged corpus, query list or judgement table would be wrong in silence.
    """

    def __init__(self, id: str, parts: dict[str, Dataset], measures: str, description: str = "") -> None:
        self.id, self.parts, self.measures, self.description = id, parts, measures, description
        self.open_documents = self.lookup = self.num_documents = self.candidates = None
        self.drop_self, self.excluded, self.search_texts = False, {}, {}

    def _refuse(self) -> UsageError:
        names = ", ".join(self.parts)
        return UsageError(
            f"{self.id} has {len(self.parts)} parts and nothing of its own: use one of them ({names}) or loop over .parts"
        )

    def __repr__(self) -> str:
        return f"PartedDataset({self.id!r}, parts={list(self.parts)})"

    @property
    def queries(self) -> list[Query]:  # type: ignore[override]
        raise self._refuse()

    @property
    def qrels(self) -> Qrels | None:  # type: ignore[override]
        raise self._refuse()

    def documents(self) -> Iterator[Document]:
        raise self._refuse()

    def get_many(self, ids: Collection[str]) -> dict[str, Document]:
        raise self._refuse()

    def exclusions(self) -> dict[str, frozenset[str]]:
        return {}
