"""A weight for each token of a text: the heads of uniCOIL (arXiv 2106.14807) and DeepImpact (arXiv 2104.12016)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .saved_module import SavedModule


class TokenWeights(SavedModule):
    """One number per token state by `layers` linear layers with ReLU; a term's weight is the largest of its tokens'.

    It follows a Transformer and reads `token_embeddings` (n, t, d), `input_ids` and `attention_mask`; the bag is over the
    tokenizer's `vocabulary_size` terms. uniCOIL has one layer, DeepImpact two (with as many units between). Tokens of
    `skipped` ids ([CLS], [SEP], [PAD]) have no weight. DeepImpact's own code gives whole words one weight by their first
    piece; here every piece is a term of its own.
    """

    config_keys: list[str] = ["embedding_dimension", "vocabulary_size", "layers", "skipped"]  # noqa: RUF012  as the base class has it

    def __init__(
        self, embedding_dimension: int, vocabulary_size: int, layers: int = 1, skipped: list[int] | None = None
    ) -> None:
        super().__init__()
        self.embedding_dimension, self.vocabulary_size, self.layers = embedding_dimension, vocabulary_size, layers
        self.skipped = list(skipped or [])
        inner: list[nn.Module] = []
        for _ in range(layers - 1):
            inner += [nn.Linear(embedding_dimension, embedding_dimension), nn.ReLU()]
        self.head = nn.Sequential(*inner, nn.Linear(embedding_dimension, 1), nn.ReLU())

    @property
    def terms(self) -> int:
        """Size of the vocabulary."""
        return self.vocabulary_size

    def get_embedding_dimension(self) -> int:
        return self.vocabulary_size

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        ids: Tensor = features["input_ids"]
        weights = self.head(features["token_embeddings"].to(self.head[-2].weight.dtype)).squeeze(-1).float()
        seen = features["attention_mask"].bool()
        for token in self.skipped:
            seen = seen & (ids != token)
        bags = torch.zeros(len(ids), self.vocabulary_size, device=ids.device)
        bags.scatter_reduce_(1, ids, weights.masked_fill(~seen, 0.0), "amax")
        return features | {"sentence_embedding": bags}
