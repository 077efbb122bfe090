"""What a corpus is worth without the sources that harm it: utilities of runs and of RAG answers, thresholds, votes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from ..errors import InputError, UsageError
from ..files import numbered_lines
from ..records import Qrels, Run
from .importance import Retrievals, check_k

#: Percentiles of the learned weights that are tried as thresholds.
PERCENTILES = tuple(range(0, 100, 5))


@dataclass(frozen=True, eq=False)
class Answers:
    """RAG answers: what each retrieved item alone made the model say (n,), and the right answers of each query."""

    retrievals: Retrievals
    said: tuple[str, ...]
    right: tuple[frozenset[str], ...]

    def select(self, queries: Sequence[int] | np.ndarray) -> Answers:
        """Only these queries, by position."""
        offsets = self.retrievals.offsets
        said = tuple(answer for q in queries for answer in self.said[int(offsets[q]) : int(offsets[q + 1])])
        return Answers(self.retrievals.select(queries), said, tuple(self.right[q] for q in queries))


#: The worth of queries if only the items of a mask (items,) bool are there: (q,) float64.
Worth = Callable[[np.ndarray], np.ndarray]


def run_utilities(run: Run, qrels: Qrels, *, gain: str = "binary", rel: int = 1, depth: int = 100) -> Retrievals:
    """A run's best `depth` documents of the judged queries, with the gain of a judged hit: binary (1 from the label `rel`
    on), or label (the label over the judgements' highest). Judged queries that the run lacks are left out.
    """
    if gain not in ("binary", "label"):
        raise UsageError(f"gain is {gain!r}, expected binary or label")
    if depth < 1:
        raise UsageError(f"depth is {depth}, expected at least 1")
    most = max(int(qrels.labels.max(initial=0)), 1)
    rows = []
    for query in qrels:
        documents = run.ids(query)[:depth] if query in run else []
        if documents:
            labels = [qrels[query].get(document, 0) for document in documents]
            gains = [float(v >= rel) if gain == "binary" else max(v, 0) / most for v in labels]
            rows.append((query, documents, gains))
    if not rows:
        raise InputError(f"run {run.name!r} has no judged query: do run and judgements belong together?")
    return Retrievals.of(rows)


def read_answers(path: str | Path) -> Answers:
    """RAG answers from JSON Lines: `query`, `retrieved` (items, best first), `answers` (what each made the model say) and
    `correct` (the right ones). Answers count as equal without regard to case and outer white space.

    Raises `InputError` naming file and line.
    """
    rows: list[tuple[str, list[str], list[float]]] = []
    said: list[str] = []
    right: list[frozenset[str]] = []
    for number, line in numbered_lines(path):
        if line.strip():
            query, items, answers, correct = _answer_row(f"{path}:{number}", line)
            own = frozenset(map(_normal, correct))
            rows.append((query, items, [float(_normal(answer) in own) for answer in answers]))
            said += map(_normal, answers)
            right.append(own)
    if not rows:
        raise InputError(f"{path} holds no answers")
    return Answers(Retrievals.of(rows), tuple(said), tuple(right))


def _answer_row(where: str, line: str) -> tuple[str, list[str], list[str], list[str]]:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: no valid JSON ({error})") from error
    lists = [row.get(name) for name in ("retrieved", "answers", "correct")] if isinstance(row, Mapping) else [None]
    texts = [part for part in lists if isinstance(part, list) and all(isinstance(text, str) for text in part)]
    if len(texts) < len(lists):
        raise InputError(
            f"{where}: expected an object with query and the lists of texts retrieved, answers and correct"
        )
    if not isinstance(row.get("query"), str):
        raise InputError(f"{where}: the query is {row.get('query')!r}, expected a text")
    retrieved, answers, correct = texts
    if len(retrieved) != len(answers):
        raise InputError(f"{where}: {len(retrieved)} retrieved items and {len(answers)} answers, expected one of each")
    return row["query"], retrieved, answers, correct


def _normal(answer: str) -> str:
    return " ".join(answer.casefold().split())


# ---- sources ----------------------------------------------------------------------------------------------------------


def sources_of(names: Sequence[str], spec: str) -> list[str]:
    """The source of each item: `domain` of an address, `before:SEP` (the id up to its first SEP), or the tab-separated
    file `spec` of item and source. Raises where the file lacks an item."""
    if spec == "domain":
        return [urlsplit(name if "//" in name else f"//{name}").hostname or name for name in names]
    if spec.startswith("before:") and len(spec) > len("before:"):
        return [name.split(spec.removeprefix("before:"))[0] for name in names]
    if not Path(spec).is_file():
        raise UsageError(f"sources {spec!r}: expected domain, before:SEP, or a file of item, tab, source")
    table = dict(
        line.rstrip("\n").split("\t", 1) for _, line in numbered_lines(spec) if re.match(r"[^\t\n]+\t[^\t\n]", line)
    )
    missing = [name for name in names if name not in table]
    if missing:
        raise InputError(f"{spec}: {len(missing)} of {len(names)} items have no source ({missing[0]!r} is one)")
    return [table[name] for name in names]


# ---- worth of what is left --------------------------------------------------------------------------------------------


def retrieval_worth(retrievals: Retrievals, k: int) -> Worth:
    """u(S) = (1 / K) Σ utilities of the first K items that are there."""
    check_k(k)
    query = np.repeat(np.arange(len(retrievals)), np.diff(retrievals.offsets))

    def worth(kept: np.ndarray) -> np.ndarray:
        first = _first(retrievals, kept[retrievals.item], k)
        return np.bincount(query[first], retrievals.utility[first], len(retrievals)) / k

    return worth


def answer_worth(answers: Answers, k: int, weights: np.ndarray | None = None) -> Worth:
    """1 where the most frequent answer of the first K items that are there is right, else 0; of equally frequent ones
    that which came first. `weights` (items,) weigh the votes."""
    check_k(k)
    retrievals = answers.retrievals
    votes = np.ones(len(retrievals.item)) if weights is None else np.asarray(weights)[retrievals.item]

    def worth(kept: np.ndarray) -> np.ndarray:
        first = _first(retrievals, kept[retrievals.item], k)
        values = np.zeros(len(retrievals))
        for q in range(len(retrievals)):
            tally: dict[str, float] = {}
            for row in range(int(retrievals.offsets[q]), int(retrievals.offsets[q + 1])):
                if first[row]:
                    tally[answers.said[row]] = tally.get(answers.said[row], 0.0) + float(votes[row])
            values[q] = bool(tally) and max(tally, key=tally.__getitem__) in answers.right[q]
        return values

    return worth


def _first(retrievals: Retrievals, there: np.ndarray, k: int) -> np.ndarray:
    """Whether each row (n,) is among the first K of its query that are there."""
    count = np.concatenate([[0], np.cumsum(there)])
    before = np.repeat(count[retrievals.offsets[:-1]], np.diff(retrievals.offsets))
    found: np.ndarray = there & (count[1:] - before <= k)
    return found


@dataclass(frozen=True)
class Pruned:
    """The threshold that left the validation queries best off, and the items that stay: weight >= threshold, or never
    seen in validation. `before` and `after` are the mean worth of those queries."""

    threshold: float
    percentile: int
    kept: np.ndarray
    before: float
    after: float


def prune(weights: np.ndarray, seen: np.ndarray, worth: Worth) -> Pruned:
    """Try the `PERCENTILES` of the weights of items that validation has `seen` (items,) bool; of equally good thresholds
    the highest. `worth` is of the validation queries."""
    everything = np.ones(len(weights), bool)
    best = Pruned(-np.inf, 0, everything, float(worth(everything).mean()), -np.inf)
    for percentile in PERCENTILES:
        threshold = float(np.percentile(weights[seen], percentile))
        kept = (weights >= threshold) | ~seen
        after = float(worth(kept).mean())
        if after >= best.after:
            best = Pruned(threshold, percentile, kept, best.before, after)
    return best


def without(run: Run, names: Sequence[str], kept: np.ndarray) -> Run:
    """The run without the items that were pruned; documents that are no item stay."""
    dropped = {name for name, stays in zip(names, kept.tolist(), strict=True) if not stays}
    return run.drop({query: dropped.intersection(run.ids(query)) for query in run})


def reweighted(run: Run, names: Sequence[str], weights: np.ndarray) -> Run:
    """The run with each score times its item's weight; documents that are no item keep theirs.

    Negative scores are refused: a lower weight would raise them.
    """
    if run.num_rows and run.scores.min() < 0:
        raise InputError(f"run {run.name!r} has negative scores, which a weight below 1 would raise: prune instead")
    table = dict(zip(names, np.asarray(weights, np.float64).tolist(), strict=True))
    factors = np.array([table.get(document, 1.0) for document in run.doc_ids.to_pylist()])
    return Run(run.query_ids, run.offsets, run.doc_ids, run.scores * factors, **run.facts())
