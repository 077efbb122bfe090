"""Logits of a few tokens from hidden states, without the vocabulary's other rows of the output matrix."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class LabelHead:
    """The output matrix of a causal language model with what models do to its products.

    logits = cap·tanh(factor·(h·Wᵀ + b) / cap): Gemma's `final_logit_softcapping`, Cohere's `logit_scale`, Granite's
    `logits_scaling` (a divisor). Whether that is all that this model does is for `probing` to find out.
    """

    def __init__(self, model: Any) -> None:
        config = model.config.get_text_config()
        self.module = model.get_output_embeddings()
        self.factor = float(getattr(config, "logit_scale", None) or 1.0)
        self.factor /= float(getattr(config, "logits_scaling", None) or 1.0)
        self.cap: float | None = getattr(config, "final_logit_softcapping", None)
        self._rows: dict[tuple[int, ...], tuple[Tensor, Tensor | None]] = {}

    @property
    def usable(self) -> bool:
        """Whether there is a plain matrix in memory to take rows from (none is when it is quantised or offloaded)."""
        weight = getattr(self.module, "weight", None)
        return isinstance(weight, Tensor) and weight.is_floating_point() and weight.device.type != "meta"

    @torch.inference_mode()
    def labels(self, hidden: Tensor, ids: tuple[int, ...]) -> Tensor:
        """hidden (n, d) → logits (n, len(ids)) float32, products included."""
        if ids not in self._rows:
            if len(self._rows) > 64:
                self._rows.clear()
            self._rows[ids] = self._take(ids)
        weight, bias = self._rows[ids]
        return self._finish(functional.linear(hidden.to(weight.device).float(), weight, bias))

    @torch.inference_mode()
    def all(self, hidden: Tensor) -> Tensor:
        """hidden (n, d) → logits (n, V) of the whole vocabulary, products in the model's own number format."""
        return self._finish(self.module(hidden.to(self.module.weight.device)).float())

    def _take(self, ids: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
        weight, bias = self.module.weight, getattr(self.module, "bias", None)
        places = torch.tensor(ids, device=weight.device)
        return weight.detach()[places].float(), None if bias is None else bias.detach()[places].float()

    def _finish(self, logits: Tensor) -> Tensor:
        logits = logits * self.factor if not math.isclose(self.factor, 1.0) else logits
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


class WholeHead:
    """Where hidden states stand for the model's own logits of the whole vocabulary already."""

    @torch.inference_mode()
    def labels(self, hidden: Tensor, ids: tuple[int, ...]) -> Tensor:
        """Logits (n, V) → (n, len(ids)) float32."""
        return hidden[:, torch.tensor(ids, device=hidden.device)].float()

    @torch.inference_mode()
    def all(self, hidden: Tensor) -> Tensor:
        return hidden.float()
