"""The options of a MUVERA index. Imports nothing compiled."""

from __future__ import annotations

from typing import Any

from .ann_rules import BUILD_OPTIONS

#: What can search the encodings: a scan of all, or an approximate kind.
STRUCTURES = ("flat", "ivf-flat", "hnsw", "pq", "ivf-pq", "opq-ivf-pq", "sq8", "sq4", "fp16", "bf16")

#: Options of a build → type: of the encodings, and of what searches them.
OPTIONS: dict[str, Any] = {
    "structure": str,
    "partition_bits": int,
    "projected": int | None,
    "repetitions": int,
    "encoding_seed": int,
    "numbering": str,
    "encoding_storage": str,
    **{name: kind for name, kind in BUILD_OPTIONS.items() if name != "factory"},
}

#: Documents that are scored exactly, where it is not said: so many, and twice the number that is asked for.
LEAST_CANDIDATES = 256
