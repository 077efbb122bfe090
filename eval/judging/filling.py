"""Human judgements with a machine's labels in their holes, each of these marked, so that no score can hide its share."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ...errors import UsageError
from ...records import Qrels, Run


def top_pairs(runs: Iterable[Run], depth: int, *, without: Qrels | None = None) -> dict[str, list[str]]:
    """Documents by query that stand among the best `depth` of a run, each once, first come first; those that `without`
    judges (label >= 0) are left out, and queries that it does not know: they have no human judgements to fill."""
    if depth < 1:
        raise UsageError(f"depth is {depth}, expected at least 1")
    pairs: dict[str, dict[str, None]] = {}
    for run in runs:
        for query in run:
            if without is not None and query not in without:
                continue
            known = {} if without is None else without[query]
            found = [document for document in run.ids(query)[:depth] if known.get(document, -1) < 0]
            if found:
                pairs.setdefault(query, {}).update(dict.fromkeys(found))
    return {query: list(documents) for query, documents in pairs.items()}


def filled(human: Qrels, machine: Qrels) -> Qrels:
    """`human` and, where it has no label or a negative one, the label of `machine`, marked."""
    rows = {query: human[query] for query in human}
    marked = set(human.machine_pairs())
    for query in machine:
        own = rows.setdefault(query, {})
        for document, label in machine[query].items():
            if own.get(document, -1) < 0:
                own[document] = label
                marked.add((query, document))
    flags = np.array([(query, document) in marked for query, row in rows.items() for document in row], bool)
    return Qrels.from_dict(rows, name=human.name, machine=flags)
