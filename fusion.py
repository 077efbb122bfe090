"""Runs into one run: reciprocal ranks, weighted sums, and ranx's methods by name.

Fused scores are rounded to float32, so that our order and that of trec_eval (which compares float32) are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from .errors import InputError, UsageError, suggest
from .records import Run

#: Normalisations within a query; `rank` gives 1 - (rank - 1) / n. A constant list becomes 0 by min-max and z-score.
NORMALISATIONS = ("min-max", "max", "sum", "z-score", "rank")

#: Methods computed here, and those that ranx computes (names are ranx's; it compiles for up to a minute on first use).
OWN_METHODS = ("rrf", "sum", "wsum")
RANX_METHODS = (
    "anz", "bordafuse", "condorcet", "gmnz", "isr", "log_isr", "logn_isr", "max", "med", "min", "mixed", "mnz", "rbc",
    "w_bordafuse", "w_condorcet", "wmnz",
)  # fmt: skip
METHODS = OWN_METHODS + RANX_METHODS


def normalise(run: Run, method: str) -> Run:
    """Map each query's scores by one of `NORMALISATIONS`; the order stays, `score_kind` becomes `normalised`."""
    if method not in NORMALISATIONS:
        raise UsageError(f"normalisation {method!r} is unknown: {suggest(method, NORMALISATIONS)}")
    scores = np.empty_like(run.scores)
    for i in range(len(run)):
        rows = slice(run.offsets[i], run.offsets[i + 1])
        if rows.start < rows.stop:
            scores[rows] = _normalised(run.scores[rows], method)
    return Run(run.query_ids, run.offsets, run.doc_ids, scores, **run.facts(score_kind="normalised"))


def _normalised(scores: np.ndarray, method: str) -> np.ndarray:
    low, high = scores.min(), scores.max()
    if method == "min-max":
        return (scores - low) / max(high - low, 1e-9)
    if method == "max":
        return scores / (high if high else 1.0)
    if method == "sum":
        total = (scores - low).sum()
        return (scores - low) / (total if total else 1.0)
    if method == "z-score":
        return (scores - scores.mean()) / max(scores.std(), 1e-9)
    n = len(scores)
    return 1.0 - np.arange(n) / n


def fuse(
    runs: Sequence[Run],
    method: str = "rrf",
    *,
    weights: Sequence[float] | None = None,
    norm: str | None = None,
    k: int | None = None,
    params: Mapping[str, Any] | None = None,
    name: str | None = None,
) -> Run:
    """Fuse runs into one; a query that some runs lack is fused from the others.

    `rrf`: sum of weight / (k + rank), k 60 by default (Cormack et al., SIGIR 2009). `sum`, `wsum`: (weighted) sums of
    scores, refused when score kinds differ and no `norm` is given. Other names go to `ranx.fuse` with `params`.
    """
    runs = list(runs)
    if len(runs) < 2:
        raise UsageError(f"fusion needs at least two runs, got {len(runs)}")
    if method not in METHODS:
        raise UsageError(f"fusion method {method!r} is unknown: {suggest(method, METHODS)}")
    if weights is not None and len(weights) != len(runs):
        raise UsageError(f"{len(weights)} weights for {len(runs)} runs: give one weight a run")
    if weights is not None and not np.isfinite(weights).all():
        raise UsageError(f"weights {list(weights)}: expected finite numbers")
    if weights is not None and method not in ("rrf", "wsum"):
        raise UsageError(f"fusion method {method!r} takes no weights: use rrf or wsum")
    if k is not None and method != "rrf":
        raise UsageError(f"fusion method {method!r} takes no k: only rrf does")
    if k is not None and not k >= 0:
        raise UsageError(f"rrf: k is {k}, expected a number >= 0")
    if norm is not None and method == "rrf":
        raise UsageError("rrf works on ranks and takes no norm: leave it out or use wsum")
    if params and method in OWN_METHODS:
        raise UsageError(f"params {dict(params)} have no effect on {method!r}: they are for ranx's methods")
    if norm is not None and norm not in NORMALISATIONS:
        raise UsageError(f"normalisation {norm!r} is unknown: {suggest(norm, NORMALISATIONS)}")
    facts: dict[str, Any] = {"name": name or method, "score_kind": "fused"}
    facts["provenance"] = {
        "fusion": method,
        "runs": [run.name for run in runs],
        "weights": weights,
        "norm": norm,
        "k": k,
    }
    if method == "rrf":
        contributions = [1.0 / ((60 if k is None else k) + _ranks(run)) for run in runs]
        return _summed(runs, contributions, weights, facts)
    if norm is None:
        kinds = {run.score_kind for run in runs}
        if len(kinds) > 1:
            raise UsageError(
                f"scores of different kinds ({', '.join(sorted(kind or 'unknown' for kind in kinds))}) do not add up: "
                f"name a normalisation (norm: {', '.join(NORMALISATIONS)}) or use rrf"
            )
    else:
        runs = [normalise(run, norm) for run in runs]
    if method in OWN_METHODS:
        return _summed(runs, [run.scores for run in runs], weights, facts)
    return _by_ranx(runs, method, dict(params or {}), facts)


def _ranks(run: Run) -> np.ndarray:
    """Rank from 1 of each row within its query."""
    return np.arange(run.num_rows) - np.repeat(run.offsets[:-1], np.diff(run.offsets)) + 1


def _summed(
    runs: Sequence[Run], contributions: Sequence[np.ndarray], weights: Sequence[float] | None, facts: dict[str, Any]
) -> Run:
    """Sum `contributions` (one array a run, one value a row) by query and document."""
    query_ids = list(dict.fromkeys(query_id for run in runs for query_id in run))
    position = {query_id: i for i, query_id in enumerate(query_ids)}
    weights = [1.0] * len(runs) if weights is None else weights
    codes = [np.array([position[q] for q in run], np.int64)[run.query_of_row] for run in runs]
    table = pa.table(
        {
            "query": np.concatenate(codes),
            "document": pa.concat_arrays([run.doc_ids for run in runs]),
            "score": np.concatenate([w * c for w, c in zip(weights, contributions, strict=True)]),
        }
    )
    # One thread, so that the order of additions, and with it the last bit, is always the same.
    sums = table.group_by(["query", "document"], use_threads=False).aggregate([("score", "sum")])
    queries = sums["query"].to_numpy()
    order = np.argsort(queries, kind="stable")
    offsets = np.searchsorted(queries[order], np.arange(len(query_ids) + 1))
    scores = sums["score_sum"].to_numpy()[order].astype(np.float32)
    return Run(query_ids, offsets, sums["document"].combine_chunks().take(pa.array(order)), scores, **facts)


def _by_ranx(runs: Sequence[Run], method: str, params: dict[str, Any], facts: dict[str, Any]) -> Run:
    import ranx

    query_ids = list(dict.fromkeys(query_id for run in runs for query_id in run))
    for run in runs:
        empty = [q for q in query_ids if q not in run or not len(run[q].ids)]
        if empty:  # ranx pairs queries by position, so it must not see lists of unequal length
            raise InputError(f"fusion by {method!r} needs every query in every run; {run.name!r} lacks {empty[0]!r}")
    try:
        fused = ranx.fuse(
            [run.select(query_ids).to_ranx() for run in runs], norm=None, method=method, params=params or None
        )
    except (KeyError, TypeError) as error:
        raise UsageError(f"ranx's fusion {method!r} failed ({error}): it may need params, e.g. weights") from error
    data = {str(q): {d: float(np.float32(s)) for d, s in row.items()} for q, row in fused.to_dict().items()}
    return Run.from_dict(data, **facts)
