"""Join a run to its judgements once, so that every measure works on three short arrays: query, rank and label.

A run has a thousand rows a query and a handful of judged ones. Ids meet as 64-bit hashes, a small table of bits throws
out almost all rows at once, and equal hashes are confirmed by the ids themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import UsageError
from ..ids import hashes, order_descending
from ..per_query import query_blocks
from ..records import Qrels, Run

#: Precision in which scores are compared for ties: trec_eval up to 9.0.8 holds them as float32, 10.0 as float64.
Ties = Literal["float32", "float64"]


@dataclass(frozen=True, eq=False)
class Joined:
    """The judged rows of a run, sorted by query and rank, and what the judgements say about each query.

    `query`, `rank` and `label` are (n,) int64: position in `query_ids`, rank from 1, and judgement (negative labels
    kept). `retrieved` (q,) counts each query's rows in the run. `pool_query` and `pool_label` (m,) are all judgements.
    `row` (n,) is where the judged rows stand in `run`, `judgement` (n,) where in `qrels`: for the few measures that look
    at scores, at documents without a judgement (`listed`), or at who judged.
    """

    query_ids: tuple[str, ...]
    query: np.ndarray
    rank: np.ndarray
    label: np.ndarray
    retrieved: np.ndarray
    pool_query: np.ndarray
    pool_label: np.ndarray
    row: np.ndarray
    judgement: np.ndarray
    run: Run
    qrels: Qrels
    ties: Ties

    def relevant(self, rel: int, cutoff: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Query and rank of the rows labelled `rel` or more among the best `cutoff`."""
        keep = self.label >= rel
        if cutoff is not None:
            keep &= self.rank <= cutoff
        return self.query[keep], self.rank[keep]

    def num_relevant(self, rel: int) -> np.ndarray:
        """(q,) int64: judgements of `rel` or more."""
        return self.count(self.pool_query[self.pool_label >= rel])

    def count(self, query: np.ndarray) -> np.ndarray:
        """How often each query occurs in `query`: (q,) int64."""
        return np.bincount(query, minlength=len(self.query_ids))

    def total(self, query: np.ndarray, amount: np.ndarray) -> np.ndarray:
        """Sum of `amount` by query: (q,) float64."""
        return np.bincount(query, amount, minlength=len(self.query_ids))

    @cached_property
    def condensed(self) -> Joined:
        """The condensed list (trec_eval -J): documents without a judgement are taken out and the rest moves up."""
        keep = self.label >= 0
        query = self.query[keep]
        return replace(
            self,
            query=query,
            rank=place(query),
            label=self.label[keep],
            retrieved=self.count(query),
            row=self.row[keep],
            judgement=self.judgement[keep],
        )

    def listed(self, cutoff: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Query and row in `run` of each judged query's best `cutoff` documents, judged or not, best first."""
        lengths = self.retrieved if cutoff is None else np.minimum(self.retrieved, cutoff)
        query = np.repeat(np.arange(len(self.query_ids)), lengths)
        starts = np.array([self.run.rows(q).start if q in self.run else 0 for q in self.query_ids], np.int64)
        at = starts[query] + place(query) - 1
        rows = np.arange(self.run.num_rows)
        places = _places(self.run, rows, self.ties)
        return query, at if places is rows else np.argsort(places)[at]


def place(query: np.ndarray) -> np.ndarray:
    """Place from 1 of each row among the rows of its query; `query` (n,) is sorted."""
    if not len(query):
        return np.zeros(0, np.int64)
    first = np.flatnonzero(np.concatenate([[True], query[1:] != query[:-1]]))
    return np.arange(len(query)) - np.repeat(first, np.diff(np.append(first, len(query)))) + 1


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Elementwise quotient (q,) float64 that is 0 where the denominator is 0, as trec_eval has it."""
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator != 0)


def join(run: Run, qrels: Qrels, ties: Ties = "float32") -> Joined:
    """Find the run's judged rows. Queries are those of `qrels` that have a judgement, in its order; one that the run
    lacks has no rows. Rows whose scores are equal in the precision `ties` stand in descending order of document id.
    """
    if ties not in ("float32", "float64"):
        raise UsageError(f"ties={ties!r}: expected 'float32' (trec_eval up to 9.0.8) or 'float64' (trec_eval 10)")
    judged = np.flatnonzero(np.diff(qrels.offsets))
    position = {qrels.query_ids[i]: n for n, i in enumerate(judged.tolist())}
    pool_query = np.repeat(np.arange(len(judged)), np.diff(qrels.offsets)[judged])
    query_of_run = np.array([position.get(query_id, -1) for query_id in run.query_ids], np.int64)
    row, judgement = _judged_rows(run, qrels, pool_query, query_of_run)
    run_query = np.searchsorted(run.offsets, row, "right") - 1
    query = query_of_run[run_query]
    rank = _places(run, row, ties) - run.offsets[run_query] + 1
    order = np.lexsort((rank, query))
    retrieved = np.zeros(len(judged), np.int64)
    known = query_of_run >= 0
    retrieved[query_of_run[known]] = np.diff(run.offsets)[known]
    return Joined(
        query_ids=tuple(position),
        query=query[order],
        rank=rank[order],
        label=qrels.labels[judgement[order]],
        retrieved=retrieved,
        pool_query=pool_query,
        pool_label=qrels.labels,
        row=row[order],
        judgement=judgement[order],
        run=run,
        qrels=qrels,
        ties=ties,
    )


def _judged_rows(
    run: Run, qrels: Qrels, pool_query: np.ndarray, query_of_run: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the run that are judged and their rows in `qrels`: two (n,) int64."""
    keys = hashes(qrels.doc_ids, _seeds(pool_query))
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    bits = np.uint64(64 - min(24, max(10, len(keys).bit_length() + 4)))
    maybe = np.zeros(1 << (64 - int(bits)), bool)
    maybe[(keys >> bits).astype(np.intp)] = True
    rows, found = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)]
    for first, last in query_blocks(run.offsets):
        start, stop = int(run.offsets[first]), int(run.offsets[last])
        query = np.repeat(query_of_run[first:last], np.diff(run.offsets[first : last + 1]))
        key = hashes(run.doc_ids.slice(start, stop - start), _seeds(query))
        likely = np.flatnonzero(maybe[(key >> bits).astype(np.intp)])
        rows.append(likely + start)
        found.append(key[likely])
    row, key = np.concatenate(rows), np.concatenate(found)
    return _confirm(run, qrels, row, query_of_run, pool_query, order, np.searchsorted(keys, key), key, keys)


def _confirm(
    run: Run,
    qrels: Qrels,
    row: np.ndarray,
    query_of_run: np.ndarray,
    pool_query: np.ndarray,
    order: np.ndarray,
    at: np.ndarray,
    key: np.ndarray,
    keys: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the pairs whose query and document are really equal. Different ids may share a hash, so each of the
    neighbours with that hash is tried.
    """
    rows, judgements = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    query = query_of_run[np.searchsorted(run.offsets, row, "right") - 1]
    while len(at):
        inside = at < len(keys)
        inside[inside] = keys[at[inside]] == key[inside]
        at, key, row, query = at[inside], key[inside], row[inside], query[inside]
        judgement = order[at]
        same = pc.equal(run.doc_ids.take(pa.array(row)), qrels.doc_ids.take(pa.array(judgement)))
        equal = (pool_query[judgement] == query) & same.to_numpy(zero_copy_only=False).astype(bool)
        rows.append(row[equal])
        judgements.append(judgement[equal])
        at, key, row, query = at[~equal] + 1, key[~equal], row[~equal], query[~equal]
    return np.concatenate(rows), np.concatenate(judgements)


def _seeds(query: np.ndarray) -> np.ndarray:
    return (query + 1).astype(np.uint64)


def _places(run: Run, row: np.ndarray, ties: Ties) -> np.ndarray:
    """Where each of the rows `row` (n,) stands in the run's order: itself, unless scores that differ in float64 are
    equal in float32. Such groups are sorted anew by document id.
    """
    if ties == "float64" or run.num_rows < 2:
        return row
    blocks = [_near_ties(run, first, last) for first, last in query_blocks(run.offsets)]
    rows = np.concatenate([rows for rows, _ in blocks])
    if not len(rows):
        return row
    group = np.concatenate([group for _, group in blocks])
    came_from = rows[order_descending(run.doc_ids.take(pa.array(rows)), group)]
    by_origin = np.argsort(came_from)
    at = np.minimum(np.searchsorted(came_from, row, sorter=by_origin), len(rows) - 1)
    moved = came_from[by_origin[at]] == row
    return np.where(moved, rows[by_origin[at]], row)


def _near_ties(run: Run, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the queries first..last in a group of equal float32 scores of which not all are equal in float64, and each
    row's group (a number that ascends): two (n,) int64.
    """
    start, stop = int(run.offsets[first]), int(run.offsets[last])
    exact = run.scores[start:stop]
    with np.errstate(over="ignore"):  # beyond float32's range scores are infinite, and equal, in trec_eval too
        scores = exact.astype(np.float32)
    together = scores[1:] == scores[:-1]
    borders = run.offsets[first + 1 : last] - start
    together[borders[(borders > 0) & (borders < len(exact))] - 1] = False
    near = np.flatnonzero(together & (exact[1:] != exact[:-1]))
    if not len(near):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    group = np.cumsum(np.append(False, ~together))
    rows = np.flatnonzero(np.isin(group, group[near]))
    return rows + start, group[rows] + start
