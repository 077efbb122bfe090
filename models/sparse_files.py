"""Query vectors that were encoded elsewhere: Anserini's pseudo-text, or JSON lines of terms and weights."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import numbered_lines
from ..records import Query
from ..vectors import Sparse

logger = logging.getLogger("cribble")


def read_query_vectors(path: str | Path, queries: Sequence[Query], ids: Mapping[str, int], terms: int) -> Sparse:
    """The vectors of `queries`, by their ids, in the file `path`; `ids` are the vocabulary's tokens by name.

    `.tsv` (`.gz`): query id, a tab, then tokens with spaces between, each repeated as often as it weighs (Anserini's
    topics of learned sparse models). `.jsonl` (`.gz`): `id` (or `_id`, `qid`) and `vector`, weights by token. Tokens that
    the vocabulary lacks are counted in a warning. Raises `InputError` for a query without a vector, a line of another
    form, and a weight that is no positive number.
    """
    wanted = {query.id for query in queries}
    lines = str(path).removesuffix(".gz").endswith(".jsonl")
    found: dict[str, Mapping[str, Any]] = {}
    for number, line in numbered_lines(path):
        name, bag = (_json if lines else _pseudo_text)(f"{path}:{number}", line)
        if name in wanted:
            found[name] = bag
    unknown: Counter[str] = Counter()
    rows = [_row(path, query, found, ids, unknown) for query in queries]
    if unknown:
        logger.warning(
            "%s: %d tokens of %d are not in the index's vocabulary and are left out (first: %s)",
            path, len(unknown), unknown.total(), next(iter(unknown)),
        )  # fmt: skip
    return Sparse.of(rows, terms)


def largest_terms(vectors: Sparse, most: int) -> Sparse:
    """Each text's `most` largest weights; of equal ones those of the terms with lower ids."""
    return Sparse.of([largest(*vectors.row(i), most) for i in range(len(vectors))], vectors.terms)


def largest(ids: np.ndarray, weights: np.ndarray, most: int | None) -> tuple[np.ndarray, np.ndarray]:
    """`largest_terms` of one text."""
    if most is None or len(ids) <= most:
        return ids, weights
    kept = np.sort(np.argsort(-weights, kind="stable")[:most])
    return ids[kept], weights[kept]


def _pseudo_text(where: str, line: str) -> tuple[str, Mapping[str, Any]]:
    name, tab, text = line.partition("\t")
    if not tab:
        raise InputError(f"{where}: no tab after the query's id: expected id, tab, tokens")
    return name, Counter(text.split())


def _json(where: str, line: str) -> tuple[str, Mapping[str, Any]]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: {error}: expected JSON") from error
    name = next((row[key] for key in ("id", "_id", "qid") if isinstance(row, dict) and key in row), None)
    if name is None or not isinstance(row.get("vector"), dict):
        raise InputError(f"{where}: expected an object with id and vector (weights by token)")
    return str(name), row["vector"]


def _row(
    path: str | Path,
    query: Query,
    found: Mapping[str, Mapping[str, Any]],
    ids: Mapping[str, int],
    unknown: Counter[str],
) -> tuple[np.ndarray, np.ndarray]:
    if query.id not in found:
        raise InputError(f"{path}: no vector of the query {query.id!r}: encode it too, or search by a model")
    bag: dict[int, float] = {}
    for token, weight in found[query.id].items():
        if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 < weight < np.inf:
            raise InputError(
                f"{path}: query {query.id!r} has the weight {weight!r} of {token!r}, expected a number above 0"
            )
        if token in ids:
            bag[ids[token]] = float(weight)
        else:
            unknown[token] += 1
    terms = np.array(sorted(bag), np.int32)
    return terms, np.array([bag[term] for term in terms.tolist()], np.float32)
