"""Compiled: the nearest of a group's centroids for the tokens that look into the group."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiling import compiled
from .maxsim_tile import COLUMNS, ROWS, float32_tile

#: Tokens that are multiplied at a time.
_ROWS = max(ROWS, 1)

#: Steps in which a margin is narrowed.
_HALVINGS = 6

#: What sums begin with.
ZEROS = np.zeros(COLUMNS, np.float32)


@compiled
def look_into(to_centres: Any, groups: int, margin: float, most: int, rows: Any, counts: Any) -> None:
    """Append each token t to `rows[g, : counts[g]]` of the groups g whose centre is near it: within `margin` of the nearest,
    and where these are more than `most`, about so many of the nearest, rather fewer. `to_centres` (T, `groups` and more) are products.
    """
    lanes = np.empty(COLUMNS, np.float32)
    for t in range(len(to_centres)):
        own = to_centres[t]
        greatest = _greatest(own, lanes)
        bound = np.float32(greatest - np.float32(margin))
        if _count(own, 0, groups, bound) > most:
            above = greatest
            for _ in range(_HALVINGS):
                middle = np.float32(0.5) * (bound + above)
                if _count(own, 0, groups, middle) > most:
                    bound = middle
                else:
                    above = middle
            bound = above
        for first in range(0, groups, COLUMNS):
            last = min(first + COLUMNS, groups)
            if _count(own, first, last, bound):
                for g in range(first, last):
                    if own[g] >= bound:
                        rows[g, counts[g]] = t
                        counts[g] += 1


@compiled
def _count(row: Any, first: int, last: int, bound: float) -> Any:
    count = np.int32(0)
    for i in range(first, last):
        count += np.int32(row[i] >= bound)
    return count


@compiled
def nearest_in_groups(
    tokens: Any, rows: Any, counts: Any, columns: Any, starts: Any, members: Any, zeros: Any, best: Any, found: Any
) -> None:
    """Write into `best` and `found` (T,) the greatest product of each token with a centroid, and its number, where that is
    greater than what is there, or equal and of a smaller number.

    The tokens `rows[g, : counts[g]]` look into group g, which has the centroids `members[starts[g]:starts[g + 1]]`, and as
    many columns, a multiple of `COLUMNS`: `columns`, flat, holds those of one group (d, width) after another's.
    """
    dim = tokens.shape[1]
    held, lanes = np.zeros((_ROWS, dim), np.float32), np.empty(COLUMNS, np.float32)
    for g in range(len(counts)):
        width = starts[g + 1] - starts[g]
        own = columns[starts[g] * dim : starts[g + 1] * dim].reshape(dim, width)
        products = np.zeros((_ROWS, width), np.float32)
        for first in range(0, counts[g], _ROWS):
            some = min(_ROWS, counts[g] - first)
            for r in range(some):
                held[r] = tokens[rows[g, first + r]]
            _multiply(held, own, zeros, products)
            for r in range(some):
                t = rows[g, first + r]
                value = _greatest(products[r], lanes)
                if value >= best[t]:
                    at = 0
                    while products[r, at] != value:
                        at += 1
                    code = members[starts[g] + at]
                    if value > best[t] or code < found[t]:
                        best[t] = value
                        found[t] = code


@compiled
def _multiply(held: Any, columns: Any, zeros: Any, products: Any) -> None:
    dim, width = columns.shape
    if ROWS > 0:
        tokens = held.ctypes.data
        for first in range(0, width, COLUMNS):
            at = 4 * first
            float32_tile(
                tokens, 4 * dim, columns.ctypes.data + at, dim, 4 * width, zeros.ctypes.data, tokens, 0,
                products.ctypes.data + at,
            )  # fmt: skip
        return
    for r in range(len(held)):
        products[r] = 0
        for i in range(dim):
            value = held[r, i]
            for j in range(width):
                products[r, j] += value * columns[i, j]


@compiled
def _greatest(row: Any, lanes: Any) -> float:
    """The greatest of `row`, whose length is a multiple of that of `lanes`, which are written over."""
    for lane in range(COLUMNS):
        lanes[lane] = row[lane]
    for first in range(COLUMNS, len(row), COLUMNS):
        for lane in range(COLUMNS):
            value = row[first + lane]
            lanes[lane] = value if value > lanes[lane] else lanes[lane]
    half = COLUMNS
    while half > 1:
        half //= 2
        for lane in range(half):
            value = lanes[half + lane]
            lanes[lane] = value if value > lanes[lane] else lanes[lane]
    return lanes[0]
