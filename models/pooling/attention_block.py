"""Cross-attention and a gated feed-forward network with residual connections: the block of both pooling heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class CrossAttentionBlock(nn.Module):
    """x + attention(norm(x), norm(context)), then x + feed-forward(norm(x)) with GEGLU (Shazeer, arXiv 2002.05202).

    `heads` heads are `head_width` wide each; the feed-forward network is `expansion` times as wide as x.
    """

    def __init__(self, width: int, heads: int, head_width: int, expansion: int) -> None:
        super().__init__()
        self.heads, self.head_width = heads, head_width
        inner = heads * head_width
        self.norm, self.context_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, inner, bias=False)
        self.key = nn.Linear(width, inner, bias=False)
        self.value = nn.Linear(width, inner, bias=False)
        self.attended = nn.Linear(inner, width, bias=False)
        self.feed_norm = nn.LayerNorm(width)
        self.gated = nn.Linear(width, 2 * expansion * width)
        self.outer = nn.Linear(expansion * width, width)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """`x` (batch, n, width) looks at `context` (batch or 1, m, width) where `mask` (batch, m) is true."""
        context = self.context_norm(context)
        query, key, value = (
            self._split(self.query(self.norm(x))),
            self._split(self.key(context)),
            self._split(self.value(context)),
        )
        shape = (x.shape[0], -1, -1, -1)
        seen = None if mask is None else mask[:, None, None, :]
        mixed = functional.scaled_dot_product_attention(query, key.expand(shape), value.expand(shape), attn_mask=seen)
        x = x + self.attended(mixed.transpose(1, 2).flatten(2))
        values, gates = self.gated(self.feed_norm(x)).chunk(2, dim=-1)
        fed: Tensor = x + self.outer(values * functional.gelu(gates))
        return fed

    def _split(self, projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)


def initial_latents(count: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(count, width) * width**-0.5)
