"""Batches by token budget: texts of like length together, so that little is computed on padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

#: Texts that are tokenised and sorted at a time. It bounds memory (some 30 MB of token ids at 256 tokens a text); a
#: larger one saves no more padding.
BUFFER_TEXTS = 2048


def buffers(total: int, size: int = BUFFER_TEXTS) -> Iterator[slice]:
    """Slices of at most `size` items that cover `range(total)`."""
    for start in range(0, total, size):
        yield slice(start, min(start + size, total))


def plan_batches(lengths: Sequence[int] | np.ndarray, token_budget: int) -> list[np.ndarray]:
    """Positions grouped into batches of at most `token_budget` padded tokens, longest texts first.

    Every position occurs once. A text longer than the budget makes a batch of its own. The longest come first, so that
    a batch that does not fit into memory fails at once.
    """
    lengths = np.maximum(np.asarray(lengths, np.int64), 1)
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        rows = max(1, token_budget // int(lengths[order[start]]))
        batches.append(order[start : start + rows])
        start += rows
    return batches


def pad(
    columns: Mapping[str, Sequence[Sequence[int]]],
    rows: Sequence[int] | np.ndarray,
    fill: Mapping[str, int],
    *,
    left: bool,
) -> dict[str, Any]:
    """The `rows` of token columns as int64 tensors (len(rows), longest); `fill[column]` goes where a row is short."""
    import torch

    padded = {}
    for name, column in columns.items():
        chosen = [column[row] for row in rows]
        width = max(1, *(len(values) for values in chosen))
        matrix = np.full((len(chosen), width), fill.get(name, 0), np.int64)
        for i, values in enumerate(chosen):
            start = width - len(values) if left else 0
            matrix[i, start : start + len(values)] = values
        padded[name] = torch.from_numpy(matrix)
    return padded
