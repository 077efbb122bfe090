"""Compiled: sums of tokens by centroid, and tokens of unit length."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiling import compiled


@compiled
def add_tokens(tokens: Any, codes: Any, sums: Any, counts: Any) -> None:
    """Add each of `tokens` (T, d) to the row `codes[t]` of `sums` (K, d) float64, and count it in `counts` (K,)."""
    for t in range(len(tokens)):
        code = codes[t]
        counts[code] += 1
        for i in range(tokens.shape[1]):
            sums[code, i] += tokens[t, i]


@compiled
def make_unit(tokens: Any, found: Any) -> None:
    """Divide `tokens` (T, d) float32 by their lengths in place; `found` (T,) bool says which have one, others stay."""
    for t in range(len(tokens)):
        total = 0.0
        for i in range(tokens.shape[1]):
            total += np.float64(tokens[t, i]) * np.float64(tokens[t, i])
        found[t] = total > 0
        factor = np.float32(1 / np.sqrt(total)) if total > 0 else np.float32(0)
        for i in range(tokens.shape[1]):
            tokens[t, i] *= factor
