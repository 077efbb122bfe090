"""What each run gave each query: the best documents side by side, with judgements, for the report's page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..records import Qrels, Run, TextSource
from .evaluation import Evaluation
from .matched_words import MatchedWords
from .measure import Measure

#: Documents of a query that are shown, and queries at most: a page of more opens slowly.
DEPTH, LIMIT = 10, 1000
_TITLE = 140


class Shown(NamedTuple):
    """A document in a run's list; `label` is its judgement, None where it has none."""

    doc_id: str
    score: float
    label: int | None


@dataclass(frozen=True)
class Explorer:
    """Per query: its text, each run's value by `measure`, and each run's best documents. `titles` has the beginnings of their
    texts. `left_out` counts queries that are not shown, those on which the runs differ least.
    """

    measure: str
    runs: tuple[str, ...]
    query_ids: tuple[str, ...]
    texts: Mapping[str, str]
    values: Mapping[str, tuple[float, ...]]
    tops: Mapping[str, Mapping[str, tuple[Shown, ...]]]
    relevant: Mapping[str, int]
    titles: Mapping[str, str] = field(default_factory=dict)
    left_out: int = 0
    #: By run, what late interaction matched in its best documents.
    matched: Mapping[str, MatchedWords] = field(default_factory=dict)

    def most_different(self, count: int) -> tuple[str, ...]:
        """So many of the queries: those on which the runs differ most, or of one run those that it does worst."""
        table = np.array([self.values[query_id] for query_id in self.query_ids]).reshape(-1, len(self.runs))
        return tuple(self.query_ids[i] for i in np.sort(np.argsort(-_spread(table), kind="stable")[:count]))

    def to_json(self) -> dict[str, Any]:
        """For the page's script: documents by number, so that an id is written once."""
        ids = list(dict.fromkeys(shown.doc_id for rows in self.tops.values() for row in rows.values() for shown in row))
        number = {doc_id: i for i, doc_id in enumerate(ids)}
        queries: list[dict[str, Any]] = [
            {
                "id": query_id,
                "text": self.texts.get(query_id, ""),
                "relevant": self.relevant.get(query_id, 0),
                "values": [round(self.values[query_id][i], 6) for i in range(len(self.runs))],
                "tops": [
                    [[number[s.doc_id], float(f"{s.score:.6g}"), s.label] for s in self.tops[run].get(query_id, ())]
                    for run in self.runs
                ],
            }
            for query_id in self.query_ids
        ]
        matched = [self.matched.get(run) for run in self.runs]
        for query, query_id in zip(queries, self.query_ids, strict=True):
            rows = [own.documents.get(query_id, {}) if own else {} for own in matched]
            if any(rows):
                query["matched"] = [{number[doc_id]: parts for doc_id, parts in row.items()} for row in rows]
        return {
            "measure": self.measure,
            "runs": list(self.runs),
            "documents": [[doc_id, self.titles.get(doc_id, "")] for doc_id in ids],
            "queries": queries,
            "notes": [list(own.notes) if own else [] for own in matched],
        }


def make_explorer(
    evaluations: Sequence[Evaluation],
    tops: Mapping[str, Run],
    qrels: Mapping[str, Qrels],
    measure: Measure,
    *,
    query_texts: Mapping[str, str] | None = None,
    documents: Mapping[str, TextSource] | None = None,
    limit: int = LIMIT,
) -> Explorer:
    """From evaluations of the same queries and the runs' best documents by run name. `qrels` and `documents` go by the part of
    the collection, "" where it has none; queries of parts are named `part/query`, in `tops` as well.
    """
    first = evaluations[0]
    table = np.column_stack([evaluation[measure] for evaluation in evaluations])
    chosen = np.sort(np.argsort(-_spread(table), kind="stable")[:limit])
    query_ids = tuple(first.query_ids[i] for i in chosen)
    shown = {
        name: {query_id: _shown(run, query_id, qrels) for query_id in query_ids if query_id in run}
        for name, run in tops.items()
    }
    relevant = {query_id: sum(label > 0 for label in _labels(query_id, qrels).values()) for query_id in query_ids}
    return Explorer(
        measure=str(measure),
        runs=tuple(evaluation.name for evaluation in evaluations),
        query_ids=query_ids,
        texts=dict(query_texts or {}),
        values={query_id: tuple(table[i].tolist()) for query_id, i in zip(query_ids, chosen.tolist(), strict=True)},
        tops={evaluation.name: shown.get(evaluation.name, {}) for evaluation in evaluations},
        relevant=relevant,
        titles=_titles(shown, documents or {}, qrels),
        left_out=len(first) - len(query_ids),
    )


def _spread(table: np.ndarray) -> np.ndarray:
    """(queries,) how much runs differ, of their values (queries, runs); of one run how bad it is."""
    spread: np.ndarray = np.ptp(table, axis=1) if table.shape[1] > 1 else -table[:, 0]
    return spread


def _part(query_id: str, qrels: Mapping[str, Qrels]) -> tuple[str, str]:
    """Part and the query's own id in it."""
    if "" in qrels:
        return "", query_id
    part, _, inner = query_id.partition("/")
    return part, inner


def _labels(query_id: str, qrels: Mapping[str, Qrels]) -> dict[str, int]:
    part, inner = _part(query_id, qrels)
    return qrels[part][inner]


def _shown(run: Run, query_id: str, qrels: Mapping[str, Qrels]) -> tuple[Shown, ...]:
    ids, scores = run[query_id]
    labels = _labels(query_id, qrels)
    return tuple(
        Shown(doc_id, float(score), labels.get(doc_id))
        for doc_id, score in zip(ids[:DEPTH], scores[:DEPTH], strict=True)
    )


def _titles(
    shown: Mapping[str, Mapping[str, tuple[Shown, ...]]],
    documents: Mapping[str, TextSource],
    qrels: Mapping[str, Qrels],
) -> dict[str, str]:
    """The beginnings of the shown documents' texts, of the first part that has the id."""
    wanted: dict[str, dict[str, None]] = {}
    for rows in shown.values():
        for query_id, row in rows.items():
            ids = wanted.setdefault(_part(query_id, qrels)[0], {})
            ids.update(dict.fromkeys(hit.doc_id for hit in row))
    titles: dict[str, str] = {}
    for part, ids in wanted.items():
        if part in documents:
            for doc_id, document in documents[part].get_many(list(ids)).items():
                text = " ".join((document.title or document.text).split())
                titles.setdefault(doc_id, text if len(text) <= _TITLE else text[: _TITLE - 1] + "…")
    return titles
