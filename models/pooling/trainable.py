"""Trainable pooling over the last layer's tokens, or over all layers (Tang and Yang, arXiv 2409.02727)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...errors import UsageError, suggest
from .attention_block import CrossAttentionBlock, initial_latents
from .saved_module import SavedModule

#: How a layer's states become one vector: the mean over tokens for attention both ways, the last token for causal.
SUMMARIES = ("mean", "lasttoken")


class TrainablePooling(SavedModule):
    """`latents` learned queries look at a text's states; the vector is their mean after a GEGLU network.

    With `layers` 0 the states are the last layer's at all tokens but padding. Otherwise they are one vector for each of
    the network's `layers` layers, its `summary` over tokens (mean or lasttoken) plus a learned embedding of the layer.
    Other than the official code, which lets last-layer pooling see padding, no padding is ever looked at. The paper: 768
    latents, 32 heads of 2,048, then unit vectors (a Normalize module).
    """

    config_keys: list[str] = ["embedding_dimension", "layers", "summary", "latents", "heads", "head_width", "expansion"]  # noqa: RUF012  as the base class has it

    def __init__(
        self,
        embedding_dimension: int,
        layers: int = 0,
        summary: str = "mean",
        latents: int = 768,
        heads: int = 32,
        head_width: int = 2048,
        expansion: int = 4,
    ) -> None:
        super().__init__()
        if summary not in SUMMARIES:
            raise UsageError(f"trainable pooling: summary {summary!r} is unknown: {suggest(summary, SUMMARIES)}")
        self.embedding_dimension, self.layers, self.summary = embedding_dimension, layers, summary
        self.latents, self.heads, self.head_width, self.expansion = latents, heads, head_width, expansion
        self.latent_vectors = initial_latents(latents, embedding_dimension)
        self.block = CrossAttentionBlock(embedding_dimension, heads, head_width, expansion)
        self.layer_embeddings = nn.Parameter(torch.zeros(layers, embedding_dimension)) if layers else None

    def on_model_ready(self, model: Any) -> None:
        """Ask the network for all its layers' states."""
        if self.layers:
            model.transformers_model.config.output_hidden_states = True

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        mask = features["attention_mask"].bool()
        if self.layer_embeddings is not None:
            context, mask = self._layer_vectors(features, mask) + self.layer_embeddings, None
        else:
            context = features["token_embeddings"].to(self.latent_vectors.dtype)
            context = context.masked_fill(~mask.unsqueeze(-1), 0.0)
            mask = mask | ~mask.any(1, keepdim=True)  # a text without any token looks at zeros
        queries = self.latent_vectors.unsqueeze(0).expand(len(context), -1, -1)
        return features | {"sentence_embedding": self.block(queries, context, mask).mean(1)}

    def _layer_vectors(self, features: dict[str, Any], mask: Tensor) -> Tensor:
        """One vector per layer: (texts, layers, width)."""
        states = features.get("all_layer_embeddings", ())[1:]  # the first are the word embeddings
        if len(states) != self.layers:
            raise UsageError(
                f"trainable pooling: made for the states of {self.layers} layers, the network gives {len(states)}: "
                "leave out layer, or train for so many"
            )
        if self.summary == "mean":
            weights = mask.to(self.latent_vectors.dtype)
            weights = weights / weights.sum(1, keepdim=True).clamp(min=1)
        else:
            positions = torch.arange(1, mask.shape[1] + 1, device=mask.device) * mask
            weights = torch.nn.functional.one_hot(positions.argmax(1), mask.shape[1]) * mask
            weights = weights.to(self.latent_vectors.dtype)
        stacked = torch.stack(
            [layer.to(weights.dtype).masked_fill(~mask.unsqueeze(-1), 0.0) for layer in states], dim=1
        )
        return torch.einsum("nlth,nt->nlh", stacked, weights)
