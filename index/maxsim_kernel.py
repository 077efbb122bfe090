"""Compiled: the best match of every query token within each document, from a block of similarities."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..compiling import compiled


@compiled
def sum_of_best(
    similarities: Any,
    scales: Any,
    bias: Any,
    starts: Any,
    query_starts: Any,
    added: Any,
    least: Any,
    out: Any,
    first: int,
) -> None:
    """Write into `out[q, first + i]` the sum over the tokens of query q of their best match in document i, and `added[q]`.

    `similarities` (T, t) are products of T document tokens and t query tokens, `starts` (n + 1,) and `query_starts`
    (b + 1,) say where texts begin in either. A match is `similarity · scales[T] + bias[T]`, each of which may be empty. A
    document without tokens, or with none above minus infinity, gets `least[q]`. Sums are float64.
    """
    best = np.empty(similarities.shape[1], np.float32)
    for i in range(len(starts) - 1):
        best[:] = -np.inf
        for row in range(starts[i], starts[i + 1]):
            scale = scales[row] if len(scales) else np.float32(1)
            add = bias[row] if len(bias) else np.float32(0)
            for j in range(len(best)):
                value = similarities[row, j] * scale + add
                best[j] = value if value > best[j] else best[j]
        for q in range(len(query_starts) - 1):
            total = 0.0
            for j in range(query_starts[q], query_starts[q + 1]):
                total += best[j]
            out[q, first + i] = total + added[q] if total > -np.inf else least[q]


@compiled
def _dot(a: Any, b: Any) -> float:
    """The inner product in float64, in one order whatever the machine."""
    one, two, three, four = 0.0, 0.0, 0.0, 0.0
    whole = len(a) // 4 * 4
    for i in range(0, whole, 4):
        one += np.float64(a[i]) * np.float64(b[i])
        two += np.float64(a[i + 1]) * np.float64(b[i + 1])
        three += np.float64(a[i + 2]) * np.float64(b[i + 2])
        four += np.float64(a[i + 3]) * np.float64(b[i + 3])
    for i in range(whole, len(a)):
        one += np.float64(a[i]) * np.float64(b[i])
    return (one + two) + (three + four)


@compiled
def exact_sum_of_best(
    query: Any, tokens: Any, similarities: Any, scales: Any, bias: Any, starts: Any, errors: Any, l2: bool, out: Any
) -> None:
    """Write into `out` (n,) the sum over the tokens of `query` (t, d) of their best match in each document, in float64.

    `similarities`, `scales`, `bias` and `starts` are as in `sum_of_best`, of one query and of documents that all have
    tokens; they err by at most `errors` (t,). Only matches that rounding could have hidden behind another are multiplied
    again, so that the result depends on `query` and `tokens` alone. `l2` makes a match minus the squared distance.
    """
    terms = len(query)
    best, limit = np.empty(terms, np.float64), np.empty(terms, np.float32)
    norms = np.zeros(terms, np.float64)
    if l2:
        for j in range(terms):
            norms[j] = _dot(query[j], query[j])
    for i in range(len(starts) - 1):
        limit[:] = -np.inf
        best[:] = -np.inf
        for row in range(starts[i], starts[i + 1]):
            scale = scales[row] if len(scales) else np.float32(1)
            add = bias[row] if len(bias) else np.float32(0)
            for j in range(terms):
                value = similarities[row, j] * scale + add
                limit[j] = value if value > limit[j] else limit[j]
        for j in range(terms):
            limit[j] -= 2 * errors[j]
        for row in range(starts[i], starts[i + 1]):
            scale = scales[row] if len(scales) else np.float32(1)
            add = bias[row] if len(bias) else np.float32(0)
            for j in range(terms):
                if similarities[row, j] * scale + add >= limit[j]:
                    value64 = _dot(query[j], tokens[row])
                    if l2:
                        value64 = 2 * value64 - norms[j] - _dot(tokens[row], tokens[row])
                    elif len(scales):
                        value64 *= np.float64(scale)
                    best[j] = max(best[j], value64)
        total = 0.0
        for j in range(terms):
            total += best[j]
        out[i] = total
