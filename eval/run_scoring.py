"""Score run files, several at a time, keeping of each only its values and best documents: thirty runs need the memory of two."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ..records import Qrels, Run
from ..run_files import read_run
from .engine import Ties
from .evaluation import Evaluation, evaluate
from .explorer import DEPTH
from .measure import Measure
from .report import counts_of

#: Runs in memory at once. Reading and measuring leave the interpreter's lock to others most of the time; more than two
#: threads wait for it, and each run of seven million rows takes half a gigabyte.
_AT_ONCE = 2


class Scored(NamedTuple):
    """A run file's evaluation, its best documents, and what its making counted as cut or repaired."""

    evaluation: Evaluation
    top: Run
    made: dict[str, int]


def score_files(
    paths: Mapping[str, Path],
    qrels: Qrels,
    measures: Sequence[Measure],
    *,
    exclude: Mapping[str, frozenset[str]] | None = None,
    ties: Ties = "float32",
) -> Iterator[Scored]:
    """The scored runs by the names of `paths`, in their order. `exclude` are documents that must not count, by query."""

    def score(item: tuple[str, Path]) -> Scored:
        name, path = item
        run = read_run(path).drop(exclude or {})
        return Scored(evaluate(run, qrels, measures, ties=ties, name=name), run.top(DEPTH), counts_of(run.provenance))

    with ThreadPoolExecutor(min(_AT_ONCE, len(os.sched_getaffinity(0)), len(paths))) as pool:
        yield from pool.map(score, paths.items())
