"""In-context reranking: how much a query's tokens attend to the tokens of each passage before it (Chen et al. 2024).

Score of a passage: Σ over its tokens of c_t = a_t(query) - a_t(null query), where a_t sums, over layers and heads, the
mean over the query's tokens of their attention to token t; tokens with c_t <= mean - 2·std of their passage are left
out (arXiv 2410.02642; the official code's `masked_NA_calibration`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError
from .attention_spans import Spans
from .packed_attention import Form, attention_weights
from .packed_forward import PackedModel, Reading
from .shared_prefix import Piece


class _Watch:
    """Adds up, layer by layer, the attention of a query's rows to the tokens [0, common): (common,) float32."""

    def __init__(self, common: int, query: tuple[int, int], heads: Sequence[tuple[int, int]]) -> None:
        self.common, self.query, self.heads = common, query, heads
        self.total = torch.zeros(common)

    def see(self, form: Form, query: Tensor, key: Tensor, value: Tensor) -> None:
        chosen = sorted({head for layer, head in self.heads if layer == form.layer}) if self.heads else None
        if chosen == []:
            return
        first = len(key) - len(query)  # the position of the first row
        start, end = (min(max(at - first, 0), len(query)) for at in self.query)
        if start == end:
            return
        rows = query[start:end].transpose(0, 1)[None]
        at = torch.arange(first + start, first + end, device=key.device)
        keys = torch.arange(len(key), device=key.device)
        mask = keys <= at[:, None]
        if form.window is not None:
            mask &= keys > at[:, None] - form.window
        weights = attention_weights(rows, key.transpose(0, 1)[None], mask, form)[0].sum(dim=1)
        weights = weights if chosen is None else weights[chosen]
        self.total += weights[:, : self.common].sum(dim=0).cpu() / (self.query[1] - self.query[0])


def check_heads(heads: Sequence[tuple[int, int]], layers: int, width: int, name: str) -> None:
    """Raise `UsageError` for a (layer, head) that the model does not have."""
    for layer, head in heads:
        if not (0 <= layer < layers and 0 <= head < width):
            raise UsageError(
                f"{name} has no head {head} in layer {layer}: layers go from 0 to {layers - 1}, heads from 0 to {width - 1}"
            )


def attention_scores(
    model: PackedModel, asked: Spans, null: Spans, heads: Sequence[tuple[int, int]]
) -> tuple[tuple[float, ...], int]:
    """Scores of the passages, and how many tokens after the passages both readings shared. `heads` empty: all heads."""
    readings = (asked, null)
    most = min(len(asked.ids), len(null.ids), asked.query[0], null.query[0])
    different = np.flatnonzero(asked.ids[:most] != null.ids[:most])
    common = int(different[0]) if len(different) else most
    pieces = [Piece(asked.ids[:common], 0, None, first=0)] if common else []
    parent = pieces[0] if pieces else None
    pieces += [Piece(spans.ids[common:], common, parent, [row], row) for row, spans in enumerate(readings)]
    watches = {row: _Watch(common, spans.query, heads) for row, spans in enumerate(readings)}
    asking = [Reading(spans.ids, len(spans.ids) - common) for spans in readings]
    for _ in model.read(asking, observers=watches, pieces=pieces):
        pass
    calibrated = (watches[0].total - watches[1].total).numpy()
    scores = tuple(_passage_score(calibrated[places[places < common]]) for places in asked.passages)
    return scores, max(0, common - asked.passages_end)


def _passage_score(calibrated: np.ndarray) -> float:
    """The sum over a passage's tokens without its low outliers."""
    if len(calibrated) > 1:
        calibrated = calibrated[calibrated > calibrated.mean() - 2 * calibrated.std(ddof=1)]
    return float(calibrated.sum(dtype=np.float64))
