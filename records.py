"""What travels between the rooms: queries, documents, runs and judgements.

Runs and judgements are columns (Arrow strings and numpy numbers), so that seven million rows cost megabytes. One tie
rule holds everywhere: score descending, then document id descending by UTF-8 bytes, as trec_eval orders a run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np
import pyarrow as pa

from .errors import InputError, UsageError, suggest
from .per_query import PerQuery, best_first, flatten, refuse_duplicates

if TYPE_CHECKING:
    import ranx

#: What a score means. Scores of different kinds are never added without an explicit normalisation.
SCORE_KINDS = ("", "bm25", "dot", "cosine", "l2", "logit", "prob", "votes", "rank", "maxsim", "fused", "normalised")


class Query(NamedTuple):
    id: str
    text: str


class Document(NamedTuple):
    id: str
    text: str
    title: str = ""

    @property
    def full_text(self) -> str:
        """Title, one space, text, stripped: the field rule of BEIR and Pyserini's flat index."""
        return f"{self.title} {self.text}".strip() if self.title else self.text


class DescribedDocument(Document):
    """A document with metadata beside, which equality does not look at: fields by name, values as JSON has them."""

    metadata: Mapping[str, Any]

    @classmethod
    def of(cls, document: Document, metadata: Mapping[str, Any]) -> Self:
        described = cls(*document)
        described.metadata = metadata
        return described


def metadata_of(document: Document) -> Mapping[str, Any]:
    """A document's metadata; empty for one that has none."""
    metadata: Mapping[str, Any] = getattr(document, "metadata", {})
    return metadata


class TextSource(Protocol):
    """Where document texts come from: an index's text store or a dataset."""

    def get_many(self, ids: Collection[str]) -> dict[str, Document]:
        """The documents among `ids` that exist; a missing one is absent from the answer, never an error."""
        ...


class Ranking(NamedTuple):
    """One query's candidates, best first: `ids` (n,) str objects, `scores` (n,) float64."""

    ids: np.ndarray
    scores: np.ndarray


class Run(PerQuery):
    """Per query an ordered list of documents with float64 scores, higher is better.

    A run is a value: it is checked and ordered when made, and operations return new ones. NaN, infinite scores and
    duplicate documents are refused, naming query and document. `score_kind` is one of `SCORE_KINDS`; `provenance` says
    what made it (model, parameters, counts of what was truncated or missing).
    """

    def __init__(
        self,
        query_ids: Iterable[str],
        offsets: np.ndarray,
        doc_ids: Iterable[str] | pa.Array | pa.ChunkedArray,
        scores: np.ndarray,
        *,
        name: str = "run",
        score_kind: str = "",
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        if score_kind not in SCORE_KINDS:
            raise UsageError(f"score kind {score_kind!r} is unknown: {suggest(score_kind, SCORE_KINDS)}")
        self._set_rows(query_ids, offsets, doc_ids, f"run {name!r}")
        self.name, self.score_kind, self.provenance = name, score_kind, dict(provenance or {})
        self.scores = np.asarray(scores)
        if self.scores.dtype.kind not in "fiu" and self.scores.size:
            raise InputError(f"run {name!r}: scores are of type {self.scores.dtype}, expected numbers")
        self.scores = self.scores.astype(np.float64, copy=False)
        if self.scores.shape != (self.num_rows,):
            raise InputError(f"run {name!r} has {self.num_rows} documents and {len(self.scores)} scores")
        self._refuse_not_finite()
        refuse_duplicates(self, f"run {name!r}")
        order = best_first(self, self.scores)
        if order is not None:
            self.doc_ids = self.doc_ids.take(pa.array(order))
            self.scores = pa.array(self.scores).take(pa.array(order)).to_numpy()
        self.scores = self.scores.view()
        self.scores.flags.writeable = False  # a run is a value: what is looked at in it can't be changed in passing

    def _refuse_not_finite(self) -> None:
        bad = np.flatnonzero(~np.isfinite(self.scores))
        if len(bad):
            row = int(bad[0])
            query_id = self.query_ids[int(np.searchsorted(self.offsets, row, "right")) - 1]
            raise InputError(
                f"run {self.name!r}: query {query_id!r}, document {self.doc_ids[row].as_py()!r} has the score "
                f"{self.scores[row]}, expected a finite number ({len(bad)} such rows)"
            )

    # ---- making one -------------------------------------------------------------------------------------------------

    @classmethod
    def from_rankings(
        cls, rankings: Iterable[tuple[str, Iterable[str], Iterable[float] | np.ndarray]], **facts: Any
    ) -> Self:
        """From (query id, document ids, scores) triples; `facts` are name, score_kind and provenance."""
        query_ids: list[str] = []
        doc_ids: list[str] = []
        scores: list[np.ndarray] = []
        lengths: list[int] = []
        for query_id, ids, values in rankings:
            ids = ids.tolist() if isinstance(ids, np.ndarray) else list(ids)
            query_ids.append(query_id)
            doc_ids.extend(ids)
            scores.append(np.fromiter(values, np.float64) if not isinstance(values, np.ndarray) else values)
            lengths.append(len(ids))
            if len(scores[-1]) != len(ids):
                raise InputError(f"query {query_id!r} has {len(ids)} documents and {len(scores[-1])} scores")
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return cls(query_ids, offsets, doc_ids, np.concatenate(scores) if scores else np.zeros(0), **facts)

    @classmethod
    def from_dict(cls, data: Mapping[str, Mapping[str, float]], **facts: Any) -> Self:
        """From `{query id: {document id: score}}`; `facts` are name, score_kind and provenance."""
        offsets, ids, scores = flatten(data)
        try:
            values = np.array(scores, np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"run {facts.get('name', 'run')!r} has a score that is no number: {error}") from error
        return cls(data.keys(), offsets, ids, values, **facts)

    @classmethod
    def read(cls, path: str | Path, **facts: Any) -> Run:
        """Read a TREC, JSONL-requests or parquet run, by the file's ending; `.gz` is transparent. See `run_files`."""
        from .run_files import read_run

        return read_run(path, **facts)

    def write(self, path: str | Path) -> None:
        """Write TREC (`.trec`, `.txt`, `.run`, `.res`), or parquet (`.parquet`), whole or not at all; `.gz` compresses."""
        from .run_files import write_run

        write_run(self, path)

    # ---- looking and changing ---------------------------------------------------------------------------------------

    def __getitem__(self, query_id: str) -> Ranking:
        return Ranking(np.array(self.ids(query_id), dtype=object), self.scores[self.rows(query_id)])

    def items(self) -> Iterator[tuple[str, Ranking]]:
        return ((query_id, self[query_id]) for query_id in self.query_ids)

    def __eq__(self, other: object) -> bool:
        """Same queries, documents and scores in the same order; names and provenance do not count."""
        if not isinstance(other, Run):
            return NotImplemented
        return (
            self.query_ids == other.query_ids
            and np.array_equal(self.offsets, other.offsets)
            and np.array_equal(self.scores, other.scores)
            and bool(self.doc_ids.equals(other.doc_ids))
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Run({self.name!r}, {len(self)} queries, {self.num_rows} rows, score_kind={self.score_kind!r})"

    def _keep(self, keep: np.ndarray) -> Run:
        """The rows where `keep` (n,) bool is true; every query stays, perhaps empty."""
        counts = np.add.reduceat(np.append(keep, False), self.offsets[:-1]) if len(self) else np.zeros(0, np.int64)
        counts = np.where(np.diff(self.offsets) > 0, counts, 0)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Run(self.query_ids, offsets, self.doc_ids.filter(pa.array(keep)), self.scores[keep], **self.facts())

    def facts(self, **changes: Any) -> dict[str, Any]:
        """name, score_kind and provenance as keyword arguments for a run made from this one."""
        return {"name": self.name, "score_kind": self.score_kind, "provenance": self.provenance} | changes

    def top(self, k: int) -> Run:
        """The best `k` of each query."""
        if k < 0:
            raise UsageError(f"top({k}): expected a number of documents >= 0")
        rank = np.arange(self.num_rows) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        return self if not (rank >= k).any() else self._keep(rank < k)

    def drop(self, excluded: Mapping[str, Collection[str]]) -> Run:
        """Without the documents `excluded[query id]`: BRIGHT's exclusions, ArguAna's self-matches."""
        keep = np.ones(self.num_rows, bool)
        for query_id, ids in excluded.items():
            if query_id in self and ids:
                rows = self.rows(query_id)
                keep[rows] = [doc_id not in ids for doc_id in self.ids(query_id)]
        return self if keep.all() else self._keep(keep)

    def select(self, query_ids: Iterable[str]) -> Run:
        """Only these queries, in this order; one that the run lacks becomes an empty ranking."""
        wanted = list(query_ids)
        chosen = [self.rows(q) if q in self else slice(0, 0) for q in wanted]
        lengths = np.array([rows.stop - rows.start for rows in chosen], np.int64)
        order = np.concatenate([np.arange(rows.start, rows.stop) for rows in chosen] or [np.zeros(0, np.int64)])
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return Run(wanted, offsets, self.doc_ids.take(pa.array(order, pa.int64())), self.scores[order], **self.facts())

    def renamed(self, name: str) -> Run:
        return Run(self.query_ids, self.offsets, self.doc_ids, self.scores, **self.facts(name=name))

    # ---- other people's forms ---------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, dict[str, float]]:
        """`{query id: {document id: score}}`, best first."""
        return {q: dict(zip(self.ids(q), self.scores[self.rows(q)].tolist(), strict=True)) for q in self}

    def to_ranx(self) -> ranx.Run:
        """As a `ranx.Run` (imports ranx, which compiles on first use)."""
        import ranx

        return ranx.Run(self.to_dict(), name=self.name)

    @classmethod
    def from_ranx(cls, run: ranx.Run, **facts: Any) -> Self:
        return cls.from_dict(
            {str(q): dict(d) for q, d in run.to_dict().items()}, **({"name": run.name or "run"} | facts)
        )


class Qrels(PerQuery):
    """Judgements: per query, documents and integer labels. Negative and graded labels are kept as they are.

    `machine` (n,) bool marks the labels that a machine gave, not a person; no row's unless given.
    """

    def __init__(
        self,
        query_ids: Iterable[str],
        offsets: np.ndarray,
        doc_ids: Iterable[str] | pa.Array | pa.ChunkedArray,
        labels: np.ndarray,
        *,
        name: str = "qrels",
        machine: np.ndarray | bool = False,
    ) -> None:
        self.name = name
        self._set_rows(query_ids, offsets, doc_ids, name)
        self.labels = np.asarray(labels)
        if self.labels.dtype.kind not in "iu" and self.labels.size:
            raise InputError(f"{name}: labels are of type {self.labels.dtype}, expected integers")
        self.labels = self.labels.astype(np.int64)
        if len(self.labels) != self.num_rows:
            raise InputError(f"{name} has {self.num_rows} documents and {len(self.labels)} labels")
        self.machine = np.broadcast_to(np.asarray(machine, bool), (self.num_rows,))
        refuse_duplicates(self, name)

    @classmethod
    def from_dict(
        cls, data: Mapping[str, Mapping[str, int]], *, name: str = "qrels", machine: np.ndarray | bool = False
    ) -> Self:
        """From `{query id: {document id: label}}`; `machine` (n,) bool in the same order, or one for all."""
        offsets, ids, labels = flatten(data)
        for label in labels:
            if not isinstance(label, int | np.integer):
                raise InputError(f"{name}: the label {label!r} is of type {type(label).__name__}, expected int")
        return cls(data.keys(), offsets, ids, np.array(labels, np.int64), name=name, machine=machine)

    @property
    def has_machine_labels(self) -> bool:
        return bool(self.machine.any())

    def machine_pairs(self) -> list[tuple[str, str]]:
        """The (query, document) pairs that a machine judged."""
        rows = np.flatnonzero(self.machine)
        queries = np.searchsorted(self.offsets, rows, "right") - 1
        documents = self.doc_ids.take(pa.array(rows)).to_pylist()
        return [(self.query_ids[q], d) for q, d in zip(queries.tolist(), documents, strict=True)]

    @classmethod
    def read(cls, path: str | Path, *, name: str | None = None) -> Qrels:
        """Read TREC qrels (four columns) or BEIR's (three, with or without a header). See `run_files`."""
        from .run_files import read_qrels

        return read_qrels(path, name=name)

    def write(self, path: str | Path) -> None:
        """Write TREC qrels, or BEIR's three columns with header for `.tsv`; whole or not at all."""
        from .run_files import write_qrels

        write_qrels(self, path)

    def __getitem__(self, query_id: str) -> dict[str, int]:
        return dict(zip(self.ids(query_id), self.labels[self.rows(query_id)].tolist(), strict=True))

    def to_dict(self) -> dict[str, dict[str, int]]:
        return {query_id: self[query_id] for query_id in self}

    def __eq__(self, other: object) -> bool:
        return self.to_dict() == other.to_dict() if isinstance(other, Qrels) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Qrels({self.name!r}, {len(self)} queries, {self.num_rows} judgements)"

    def to_ranx(self) -> ranx.Qrels:
        import ranx

        return ranx.Qrels(self.to_dict())

    @classmethod
    def from_ranx(cls, qrels: ranx.Qrels, *, name: str = "qrels") -> Self:
        return cls.from_dict(
            {str(q): {d: int(v) for d, v in row.items()} for q, row in qrels.to_dict().items()}, name=name
        )
