"""NV-Embed's latent attention (arXiv 2405.17428): token states look at learned latents before they are averaged."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .attention_block import CrossAttentionBlock, initial_latents
from .saved_module import SavedModule


class LatentAttention(SavedModule):
    """Each token's state (the query) looks at `latents` learned vectors (keys and values), then a GEGLU network.

    It changes `token_embeddings` in place of making a vector: sentence-transformers' own Pooling (mean,
    include_prompt=False as NV-Embed leaves the instruction out) and Normalize follow it, so that padding and prompt are
    masked where they are for every other model. NV-Embed: 512 latents, 8 heads as wide as the network, expansion 4.
    """

    config_keys: list[str] = ["embedding_dimension", "latents", "heads", "head_width", "expansion"]  # noqa: RUF012  as the base class has it

    def __init__(
        self,
        embedding_dimension: int,
        latents: int = 512,
        heads: int = 8,
        head_width: int | None = None,
        expansion: int = 4,
    ) -> None:
        super().__init__()
        self.embedding_dimension, self.latents, self.heads, self.expansion = (
            embedding_dimension,
            latents,
            heads,
            expansion,
        )
        self.head_width = head_width or embedding_dimension
        self.latent_vectors = initial_latents(latents, embedding_dimension)
        self.block = CrossAttentionBlock(embedding_dimension, heads, self.head_width, expansion)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        states: Tensor = features["token_embeddings"]
        changed = self.block(states.to(self.latent_vectors.dtype), self.latent_vectors.unsqueeze(0))
        return features | {"token_embeddings": changed}
