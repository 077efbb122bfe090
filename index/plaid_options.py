"""The options of a PLAID index. Imports nothing compiled."""

from __future__ import annotations

import math
from typing import Any

from ..errors import UsageError, suggest

#: Options of a build → type.
OPTIONS: dict[str, Any] = {
    "bits": int,
    "buckets": str,
    "centroids": int | None,
    "kmeans_iterations": int,
    "seed": int,
}

#: How a residual's buckets are chosen (residual_buckets.py).
BUCKETS = ("least-squares", "quantiles")

#: Bits of a residual a dimension.
BITS = (1, 2, 4, 8)


def codec_options(
    name: str, bits: int, buckets: str, centroids: int | None, kmeans_iterations: int, seed: int
) -> dict[str, Any]:
    """The options of the codec, checked; raises `UsageError`."""
    if bits not in BITS:
        raise UsageError(f"{name} index: bits is {bits}, expected 1, 2, 4 or 8")
    if buckets not in BUCKETS:
        raise UsageError(f"{name} index: buckets {buckets!r} is unknown: {suggest(buckets, BUCKETS)}")
    if centroids is not None and centroids < 1:
        raise UsageError(f"{name} index: centroids is {centroids}, expected at least 1, or none to go by the tokens")
    if kmeans_iterations < 1:
        raise UsageError(f"{name} index: kmeans_iterations is {kmeans_iterations}, expected at least 1")
    if seed < 0:
        raise UsageError(f"{name} index: seed is {seed}, expected 0 or more")
    return {
        "bits": bits,
        "buckets": buckets,
        "centroids": centroids,
        "kmeans_iterations": kmeans_iterations,
        "seed": seed,
    }


def sample_size(documents: int) -> int:
    """Documents that centroids are learnt from: 16 · √(120 · documents), or all (Stanford's `collection_indexer.py`)."""
    return min(documents, int(16 * math.sqrt(120 * documents)))


def centroid_count(tokens: float) -> int:
    """Centroids for an estimated number of tokens: the power of two up to 16 · √tokens (ibidem)."""
    return 1 << max(0, math.floor(math.log2(16 * math.sqrt(max(1.0, tokens)))))


def held_out(tokens: int) -> int:
    """Tokens of the sample that cut-offs and weights are taken from, and not the centroids: 5 %, at most 50,000 (ibidem).

    None where these were fewer than 50: then they are taken from the tokens that centroids are learnt from.
    """
    return min(tokens // 20, 50_000) if tokens >= 1000 else 0
