"""One bag of terms of a masked language model's logits, without holding the logits of a batch: SPLADE's pooling.

SPLADE v1 (arXiv 2107.05720) sums log(1 + relu(logit)) over a text's tokens, v2 and later (arXiv 2109.10086) take the
largest; OpenSearch's v3 (arXiv 2504.14839) takes the logarithm twice. The logarithms are monotone, so that the largest
logit of a few tokens is kept and the rest of the work is done once a text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

POOLINGS = ("max", "sum")
#: Names as in sentence-transformers' SpladePooling: one logarithm, or two.
ACTIVATIONS = ("relu", "log1p_relu")

#: Tokens whose logits are held at a time: 128 of BERT's vocabulary take 16 MB of float32.
_TOKENS = {"cpu": 128, "cuda": 4096}

#: Largest difference of logits that counts as rounding, relative to the largest logit.
_TOLERANCE = 1e-4


def activate(logits: Tensor, activation: str) -> Tensor:
    """log(1 + relu(x)) of float32 logits; of `log1p_relu` the same logarithm once more."""
    weights = logits.relu().log1p()
    return weights.log1p() if activation == "log1p_relu" else weights


def pool(
    states: Tensor,
    mask: Tensor,
    output: Callable[[Tensor], Tensor],
    *,
    pooling: str = "max",
    activation: str = "relu",
    tokens: int | None = None,
) -> Tensor:
    """Weights (n, V) float32 of n texts from their `states` (n, t, d), where `mask` (n, t) is true.

    `output` makes logits (…, V) of states (…, d); it is called with at most `tokens` states at a time, or one.
    """
    held = tokens or _TOKENS.get(states.device.type, 128)
    length = states.shape[1]
    rows, step = max(1, held // max(1, length)), min(length, held)
    unseen = ~mask.bool()
    return torch.cat(
        [
            _pooled(states[first : first + rows], unseen[first : first + rows], output, pooling, activation, step)
            for first in range(0, len(states), rows)
        ]
    )


def _pooled(
    states: Tensor, unseen: Tensor, output: Callable[[Tensor], Tensor], pooling: str, activation: str, step: int
) -> Tensor:
    """`pool` of a few texts, `step` positions of them at a time."""
    total: Tensor | None = None
    for start in range(0, states.shape[1], step):
        logits = output(states[:, start : start + step])
        hidden = unseen[:, start : start + step, None]
        if pooling == "max":
            part = logits.masked_fill(hidden, -torch.inf).amax(1) if hidden.any() else logits.amax(1)
            total = part if total is None else torch.maximum(total, part)
        else:
            part = activate(logits.float(), activation).masked_fill_(hidden, 0.0).sum(1)
            total = part if total is None else total + part
    if total is None:
        raise ValueError("a batch without a position")
    return activate(total.float(), activation) if pooling == "max" else total


class TermPooling(nn.Module):
    """`pool` as a module of sentence-transformers, after a network whose output matrix was taken out (`take_output`)."""

    def __init__(self, output: nn.Module, pooling: str, activation: str) -> None:
        super().__init__()
        self.output, self.pooling_strategy, self.activation_function = output, pooling, activation

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        states = features.pop("token_embeddings")
        weights = pool(
            states,
            features["attention_mask"],
            self.output,
            pooling=self.pooling_strategy,
            activation=self.activation_function,
        )
        return features | {"sentence_embedding": weights}


def take_output(transformer: Any) -> nn.Module | None:
    """Take the output matrix out of a sentence-transformers Transformer for masked language modelling: its "logits" are
    then the states before it. None, and nothing done, where these do not make the logits by that matrix alone.
    """
    model = transformer.model
    output = model.get_output_embeddings()
    places = [(m, name) for m in model.modules() for name, child in m.named_children() if child is output]
    if output is None or len(places) != 1:
        return None
    features = dict(transformer.preprocess(["a b"]))
    features = {
        name: value.to(model.device) if isinstance(value, Tensor) else value for name, value in features.items()
    }
    with torch.inference_mode():
        logits = transformer(dict(features))["token_embeddings"]
        setattr(*places[0], nn.Identity())
        states = transformer(dict(features))["token_embeddings"]
        again = output(states) if states.shape[-1] == output.in_features else states
    bound = (_TOLERANCE if logits.dtype == torch.float32 else 0.05) * float(logits.nan_to_num(0.0).abs().max() + 1e-30)
    if again.shape != logits.shape or not torch.allclose(again, logits, atol=bound, equal_nan=True):
        setattr(*places[0], output)
        return None
    return output
