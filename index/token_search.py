"""What searches of token vectors share: checked queries, the rows that may be found, the best in order, recall."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from ..errors import InputError, UsageError
from ..records import Ranking
from ..vectors import MultiVector
from .best import sort_descending
from .filtering import selected_rows
from .maxsim_blocks import prepared
from .texts import TextStore

NO_RANKING = Ranking(np.empty(0, object), np.empty(0))


def checked_queries(path: Path, queries: MultiVector, k: int, dim: int, similarity: str) -> MultiVector:
    """The queries as they are multiplied, of unit length where scores are cosines.

    Raises `UsageError` for k below 1, `InputError` for query tokens of another width than `dim`, or not finite.
    """
    if k < 1:
        raise UsageError(f"k is {k}, expected at least 1")
    if len(queries) and queries.tokens.shape[1] != dim:
        raise InputError(
            f"{path}: query tokens have {queries.tokens.shape[1]} dimensions, the index {dim}: use its encoder"
        )
    finite = np.isfinite(queries.tokens).all(axis=1)
    if not finite.all():
        number = int(np.searchsorted(queries.offsets, int(np.argmin(finite)), side="right")) - 1
        raise InputError(f"{path}: a token of query {number} holds NaN or infinity: check the model's dtype")
    return MultiVector(prepared(queries.tokens, similarity), queries.offsets)


def findable_rows(
    texts: TextStore,
    filled: np.ndarray,
    allow: Collection[str] | None,
    deny: Collection[str] | None,
    where: str | None,
) -> np.ndarray | None:
    """The rows that may be found, ascending, of those that are `filled` (n,) bool; None where these are all."""
    mask = selected_rows(texts, allow=allow, deny=deny, where=where)
    if mask is None:
        return None if filled.all() else np.flatnonzero(filled)
    return np.flatnonzero(mask & filled)


def best_of(texts: TextStore, ranks: np.ndarray, rows: np.ndarray, values: np.ndarray, k: int) -> Ranking:
    """The best `k` of `rows` (m,) by `values` (m,) float64; equal ones by document id descending, as `ranks` (n,) has it."""
    if not len(rows):
        return NO_RANKING
    best_rows, best_values = np.empty(min(k, len(rows)), np.int64), np.empty(min(k, len(rows)))
    count = sort_descending(rows, values, ranks, best_rows, best_values)
    return Ranking(texts.kept_ids_at(best_rows[:count]), best_values[:count])


def share_found(exact: Sequence[Ranking], found: Sequence[Ranking]) -> float:
    """The share of the `exact` rankings' documents, of all queries together, that are `found`."""
    both = sum(len(set(a.ids) & set(b.ids)) for a, b in zip(exact, found, strict=True))
    return both / max(1, sum(len(a.ids) for a in exact))
