"""Which rows of an index a search may find: those allowed by id, not denied, that meet a condition, and not deleted."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

import numpy as np

from ..errors import UsageError
from .texts import TextStore

logger = logging.getLogger("cribble")


def selected_rows(
    texts: TextStore,
    *,
    allow: Collection[str] | None = None,
    deny: Collection[str] | None = None,
    where: str | None = None,
) -> np.ndarray | None:
    """The mask (rows,) bool of the rows that may be found, or None when all may. `texts` is the index's text store.

    `allow` are ids: only they may be found. `deny` are ids that may not. `where` is a condition on the documents'
    metadata, in SQL (`conditions.py`). All that are given must hold, and deleted rows are never among them. Ids that the
    index does not have are counted in a warning. Raises `UsageError` for a condition that can't be used.
    """
    if allow is None and deny is None and where is None and not len(texts.deleted):
        return None
    mask = np.ones(len(texts.ids), bool)
    if allow is not None:
        mask[:] = False
        mask[_rows_of(texts, allow, "allowed")] = True
    if deny is not None:
        mask[_rows_of(texts, deny, "denied")] = False
    if where is not None:
        met = np.zeros(len(mask), bool)
        met[rows_where(texts, where)] = True
        mask &= met
    mask[texts.deleted] = False
    return mask


def rows_where(texts: TextStore, where: str) -> np.ndarray:
    """The rows (m,) int64 that meet the condition `where`; those of the last conditions are remembered."""
    if texts.metadata is None:
        raise UsageError(f"{texts.root}: where={where!r}: no document of the index has metadata")
    return texts.metadata.rows(where)


def _rows_of(texts: TextStore, ids: Collection[str], what: str) -> np.ndarray:
    if isinstance(ids, str | Path):
        raise UsageError(f"the {what} ids are {str(ids)!r}, expected a list of document ids")
    rows = texts.rows_of(list(ids))
    if missing := int((rows < 0).sum()):
        logger.warning("%s: %d of the %d %s document ids are not in the index", texts.root, missing, len(rows), what)
    found: np.ndarray = rows[rows >= 0]
    return found
