"""Compiled: documents by centroid."""

from __future__ import annotations

from typing import Any

from ..compiling import compiled


@compiled
def count_postings(codes: Any, offsets: Any, first: int, last: Any, counts: Any, sizes: Any) -> None:
    """Add to `counts` (K,) the documents and to `sizes` (K,) the tokens of each centroid in a shard, whose rows begin at
    `first`. `last` (K,) int64 is the last row that each centroid has been seen in, -1 for none.
    """
    for i in range(len(offsets) - 1):
        for t in range(offsets[i], offsets[i + 1]):
            code = codes[t]
            sizes[code] += 1
            if last[code] != first + i:
                last[code] = first + i
                counts[code] += 1


@compiled
def fill_postings(codes: Any, offsets: Any, first: int, last: Any, ends: Any, rows: Any) -> None:
    """Write the rows that `count_postings` counted into `rows`; those of centroid c go to `ends[c]`, which moves on."""
    for i in range(len(offsets) - 1):
        for t in range(offsets[i], offsets[i + 1]):
            code = codes[t]
            if last[code] != first + i:
                last[code] = first + i
                rows[ends[code]] = first + i
                ends[code] += 1
