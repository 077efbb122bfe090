"""Runs the first layers of a network only, and lets a decoder attend both ways: done to the network, then asked of it.

A network's code may ignore either. So its last hidden states on a probe are compared with what they have to be, and a
network that gives others is refused by name.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import UsageError

_log = logging.getLogger("cribble")

#: Names that architectures give the norm after their last layer.
_FINAL_NORMS = ("norm", "final_norm", "final_layer_norm", "final_layernorm", "ln_f", "layer_norm")

#: Largest difference of states that counts as rounding, relative to the largest state, by number format.
_TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}


def cut_layers(name: str, model: Any, layer: int) -> None:
    """Keep the first `layer` layers of `model` (Li et al., 2D Matryoshka, arXiv 2402.14776, counted as there: the
    states are `hidden_states[layer]` of the whole network, without a norm that follows the last layer).

    The others are neither run nor kept in memory. `UsageError` for a number that the network does not have, or a network
    that cannot be cut.
    """
    network = _network(name, model, f"layer={layer}")
    total = network.config.get_text_config().num_hidden_layers
    if layer > total:
        raise UsageError(f"layer={layer}: {name} has {total} layers; use at most that")
    if layer == total:
        return
    stacks = [
        (parent, attribute, child)
        for parent in network.modules()
        for attribute, child in parent.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == total
    ]
    if len(stacks) != 1:
        raise UsageError(f"layer={layer}: the layers of {name} ({type(network).__name__}) can't be told: leave it out")
    parent, attribute, layers = stacks[0]
    ids = _probe(network)
    expected = _states(network, ids, torch.ones_like(ids), all_layers=True)[layer]
    setattr(parent, attribute, layers[:layer])
    network.config.get_text_config().num_hidden_layers = layer
    if not _agrees(network, expected):
        for norm in _FINAL_NORMS:
            if isinstance(getattr(parent, norm, None), nn.Module):
                setattr(parent, norm, nn.Identity())
                break
    if not _agrees(network, expected):
        raise UsageError(
            f"layer={layer}: the first layers of {name} ({type(network).__name__}) alone give other states than within "
            "the whole network: leave it out"
        )


def attend(name: str, model: Any, *, both_ways: bool) -> None:
    """Let every token see those after it, or (False) only those before it. `UsageError` where the network's code can't."""
    network = _network(name, model, f"bidirectional={both_ways}")
    if _see_later_tokens(network) == {both_ways}:
        return
    for config in _configs(network.config):
        config.is_causal = not both_ways
        if hasattr(config, "use_bidirectional_attention"):
            config.use_bidirectional_attention = both_ways
    for module in network.modules():
        if isinstance(getattr(module, "is_causal", None), bool):
            module.is_causal = not both_ways
    if _see_later_tokens(network) != {both_ways}:
        raise UsageError(
            f"bidirectional={both_ways}: the attention of {name} ({type(network).__name__}) can't be changed: leave it out"
        )


def _see_later_tokens(network: Any) -> set[bool]:
    """Whether a text's first state depends on its last token: for texts with and without padding, on either side.

    Masks are made by other code where there is padding: transformers 5.24 takes `is_causal=False` of a configuration in
    that case only.
    """
    ids, seen = _probe(network), set()
    for padding in (slice(0, 0), slice(4, 6), slice(0, 2)):
        mask = torch.ones_like(ids)
        mask[1:, padding] = 0
        first = (0, int(mask[1].argmax()))
        last = (5, int(mask[1].nonzero().max()))
        other = ids.clone()
        rows = torch.arange(2)
        other[rows, last] = (other[rows, last] + 1) % network.get_input_embeddings().num_embeddings
        one, two = (_states(network, batch, mask)[-1][rows, first] for batch in (ids, other))
        seen |= set(((one - two).abs().amax(1) > 1e-6 * one.abs().max()).tolist())
    return seen


def _agrees(network: Any, expected: Tensor) -> bool:
    ids = _probe(network)
    got = _states(network, ids, torch.ones_like(ids))[-1]
    limit = _TOLERANCES.get(expected.dtype, 3e-2) * float(expected.abs().max())
    return got.shape == expected.shape and bool(((got - expected).abs() <= limit).all())


def _states(network: Any, ids: Tensor, mask: Tensor, *, all_layers: bool = False) -> tuple[Tensor, ...]:
    """The states of all layers, or of the last alone: each (texts, tokens, hidden)."""
    with torch.inference_mode():
        output = network(input_ids=ids, attention_mask=mask, output_hidden_states=all_layers, return_dict=True)
    return tuple(output.hidden_states) if all_layers else (output.last_hidden_state,)


def _probe(network: Any) -> Tensor:
    """Two texts of six tokens from the middle of the vocabulary."""
    words = network.get_input_embeddings().num_embeddings
    return (torch.arange(12, device=network.device).view(2, 6) * 7 + words // 2) % words


def _configs(config: Any) -> Iterator[Any]:
    yield config
    text = config.get_text_config()
    if text is not config:
        yield text


def _network(name: str, model: Any, option: str) -> Any:
    network = getattr(model, "transformers_model", None)
    if network is None or not hasattr(network, "get_input_embeddings"):
        raise UsageError(f"{option}: {name} is no transformer: leave it out")
    return network
