"""BERT-like encoders run without padding, and without the last layer's rows that nothing reads: for CPUs, in float32.

transformers pads a batch to its longest text, masks the padding in attention, and computes the last layer for every
token. Here the tokens of all texts lie one after another in a matrix (tokens, hidden); linear layers, norms and the
activation are the model's own modules over that matrix, and attention runs over runs of texts of equal length, with no
mask and no copies. Where only the first token's last state is asked for (`first_row_only`; see `first_row`), the last
layer is computed for that token alone, and its key and value projections move to the other side of the products:

    q · (K x) = (Kᵀ q) · x        Σ p (V x + b) = V (Σ p x) + b

so that they work on one row a head instead of on every token. Results differ from transformers' by rounding (1e-7 on
unit vectors). What is not known to be right (`unpad` says what) stays with transformers' own code.
"""

from __future__ import annotations

import itertools
import logging
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutputWithPooling

_log = logging.getLogger("cribble")

#: Model classes of transformers that differ by their embeddings and heads only.
FAMILIES = ("Bert", "Camembert", "Electra", "Roberta", "XLMRoberta")

#: Largest difference of last hidden states that counts as rounding, relative to the largest state.
TOLERANCE = 1e-4

_first_row_only: ContextVar[bool] = ContextVar("first_row_only", default=False)
_given_states: ContextVar[Tensor | None] = ContextVar("given_states", default=None)


@contextmanager
def first_row_only(wanted: bool = True) -> Iterator[None]:
    """Within, unpadded encoders give last hidden states (texts, 1, hidden): the first token's."""
    token = _first_row_only.set(wanted)
    try:
        yield
    finally:
        _first_row_only.reset(token)


@contextmanager
def given_states(states: Tensor) -> Iterator[None]:
    """Within, unpadded encoders compute nothing and give `states` as their last hidden states: a probe of the head."""
    token = _given_states.set(states)
    try:
        yield
    finally:
        _given_states.reset(token)


def unpad(model: nn.Module) -> bool:
    """Let the one BERT-like encoder within `model` run without padding, in place; whether it does now.

    It must be of transformers' own classes (`FAMILIES`; a subclass, or a hook on a part, may compute something else),
    not in training, bidirectional, and give equal states on a probe. Its parameters, modules and names stay as they are.
    """
    encoders = [module for module in model.modules() if type(module).__name__ in {f"{name}Model" for name in FAMILIES}]
    if len(encoders) != 1 or not _is_known(encoders[0]):
        return False
    encoder = encoders[0]
    unpadded = Unpadded(encoder)
    if not _agrees(encoder, unpadded):
        _log.info("%s: runs padded, as running it unpadded gives other states", type(encoder).__name__)
        return False
    encoder.forward = unpadded
    return True


def is_unpadded(model: nn.Module) -> bool:
    """Whether `model` has an encoder that runs without padding."""
    return any(isinstance(module.__dict__.get("forward"), Unpadded) for module in model.modules())


class Run(NamedTuple):
    """Texts of equal length that follow one another: `texts` of `length` tokens from row `start`."""

    start: int
    texts: int
    length: int


class Unpadded:
    """The forward method of a BERT-like model: takes its arguments, returns its last hidden states and pooler output.

    Anything but inference in float32 on the CPU over batches padded on the right, and any argument beyond the token
    columns, goes to transformers' forward.
    """

    def __init__(self, encoder: Any) -> None:
        self._encoder = weakref.ref(encoder)  # it holds this object: no cycle, so that models are freed at once
        last = encoder.encoder.layer[-1].attention.self
        # Kept from before linear layers are packed, which hides their weights.
        self._key, self._value = last.key.weight.detach(), last.value.weight.detach()
        self._value_bias = None if last.value.bias is None else last.value.bias.detach()

    def __call__(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **options: Any,
    ) -> Any:
        encoder = self._encoder()
        assert encoder is not None  # it is running
        if (states := _given_states.get()) is not None:
            return _output(encoder, states)
        lengths = self._lengths(encoder, input_ids, attention_mask, options)
        if lengths is None:
            columns = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
            return type(encoder).forward(encoder, **columns, **options)
        states = encoder.embeddings(input_ids=input_ids, token_type_ids=token_type_ids)
        if hasattr(encoder, "embeddings_project"):  # ELECTRA with narrow embeddings
            states = encoder.embeddings_project(states)
        ragged = min(lengths) < states.shape[1]
        real = attention_mask.bool() if ragged and attention_mask is not None else None
        x = states.flatten(0, 1) if real is None else states[real]
        runs = _runs(lengths)
        *layers, last = encoder.encoder.layer
        for layer in layers:
            x = _layer(layer, x, runs)
        if _first_row_only.get():
            return _output(encoder, self._first_rows(last, x, runs).unsqueeze(1))
        x = _layer(last, x, runs)
        if real is None:
            return _output(encoder, x.view_as(states))
        states = torch.zeros_like(states)
        states[real] = x
        return _output(encoder, states)

    def _lengths(
        self, encoder: Any, input_ids: Tensor | None, mask: Tensor | None, options: dict[str, Any]
    ) -> list[int] | None:
        """Tokens of each text, or None for what transformers' forward has to do."""
        config = encoder.config
        if (
            input_ids is None
            or input_ids.device.type != "cpu"
            or encoder.embeddings.word_embeddings.weight.dtype != torch.float32
            or encoder.training
            or torch.is_grad_enabled()
            or options.get("return_dict") is False
            or any(value not in (None, False) for name, value in options.items() if name != "return_dict")
            or config.output_hidden_states
            or config.output_attentions
            or not input_ids.numel()
        ):
            return None
        if mask is None:
            return [input_ids.shape[1]] * input_ids.shape[0]
        if mask.shape != input_ids.shape or not bool(mask[:, 0].all()) or bool((mask[:, 1:] > mask[:, :-1]).any()):
            return None  # not a mask of tokens, or padded on the left, or with holes
        lengths: list[int] = mask.bool().sum(1).tolist()
        return lengths

    def _first_rows(self, layer: Any, x: Tensor, runs: list[Run]) -> Tensor:
        """The layer's output (texts, hidden) at the first token of each text."""
        attention = layer.attention.self
        heads, width = attention.num_attention_heads, attention.attention_head_size
        first = torch.cat([x[run.start : run.start + run.texts * run.length : run.length] for run in runs])
        query = attention.query(first).view(len(first), heads, width).transpose(0, 1)
        # (texts, heads, hidden): the query as seen by a token's state. The key's bias shifts all tokens alike.
        seen = torch.bmm(query, self._key.view(heads, width, -1)).transpose(0, 1) * width**-0.5
        contexts, done = [], 0
        for run in runs:
            states = x[run.start : run.start + run.texts * run.length].view(run.texts, run.length, -1)
            weights = torch.bmm(seen[done : done + run.texts], states.transpose(1, 2)).softmax(-1)
            contexts.append(torch.bmm(weights, states))
            done += run.texts
        mixed = torch.cat(contexts).transpose(0, 1)  # (heads, texts, hidden)
        values = torch.bmm(mixed, self._value.view(heads, width, -1).transpose(1, 2))
        context = values.transpose(0, 1).reshape(len(first), heads * width)
        if self._value_bias is not None:
            context += self._value_bias
        return _after_attention(layer, context, first)


def _runs(lengths: list[int]) -> list[Run]:
    """Neighbours of equal length together; texts that were sorted by length make few runs."""
    runs, start = [], 0
    for length, equal in itertools.groupby(lengths):
        texts = len(list(equal))
        runs.append(Run(start, texts, length))
        start += texts * length
    return runs


def _layer(layer: Any, x: Tensor, runs: list[Run]) -> Tensor:
    """A layer's output (tokens, hidden) for the states `x` of the layer before."""
    attention = layer.attention.self
    heads = attention.num_attention_heads
    projected = [module(x) for module in (attention.query, attention.key, attention.value)]
    contexts = []
    for start, texts, length in runs:
        rows = slice(start, start + texts * length)
        query, key, value = (y[rows].view(texts, length, heads, -1).transpose(1, 2) for y in projected)
        context = functional.scaled_dot_product_attention(query, key, value)
        contexts.append(context.transpose(1, 2).reshape(texts * length, -1))
    return _after_attention(layer, torch.cat(contexts), x)


def _after_attention(layer: Any, context: Tensor, x: Tensor) -> Tensor:
    """The rest of a layer: output projection, feed-forward network, and their residual connections and norms."""
    attended = layer.attention.output
    x = attended.LayerNorm(attended.dense(context).add_(x))
    inner = layer.intermediate.intermediate_act_fn(layer.intermediate.dense(x))
    return layer.output.LayerNorm(layer.output.dense(inner).add_(x))


def _output(encoder: Any, states: Tensor) -> BaseModelOutputWithPooling:
    pooler = getattr(encoder, "pooler", None)
    return BaseModelOutputWithPooling(
        last_hidden_state=states, pooler_output=None if pooler is None else pooler(states)
    )


def _is_known(encoder: Any) -> bool:
    """Whether every part that this module bypasses is transformers' own, and nothing listens to it."""
    name = type(encoder).__name__.removesuffix("Model")
    source = type(encoder).__module__
    if not source.startswith("transformers.models.") or encoder.training or encoder.config.is_decoder:
        return False
    parts = [(encoder, "Model"), (encoder.embeddings, "Embeddings"), (encoder.encoder, "Encoder")]
    for layer in encoder.encoder.layer:
        parts += [(layer, "Layer"), (layer.attention, "Attention"), (layer.attention.self, "SelfAttention")]
        parts += [
            (layer.attention.output, "SelfOutput"),
            (layer.intermediate, "Intermediate"),
            (layer.output, "Output"),
        ]
    last = encoder.encoder.layer[-1].attention.self
    return all(
        type(part).__name__ == name + kind
        and type(part).__module__ == source
        and "forward" not in part.__dict__
        and not any((part._forward_hooks, part._forward_pre_hooks, hasattr(part, "_hf_hook")))
        for part, kind in parts
    ) and all(
        type(linear) is nn.Linear and not linear._forward_hooks and not linear._forward_pre_hooks
        for linear in (last.key, last.value)
    )


def _agrees(encoder: Any, unpadded: Unpadded) -> bool:
    """Both ways over texts of 7, 7, 4 and 1 tokens, and over the first rows."""
    device = encoder.embeddings.word_embeddings.weight.device
    ids = torch.arange(28).view(4, 7).remainder(encoder.config.vocab_size - 1).add(1).to(device)
    mask = (torch.arange(7) < torch.tensor([[7], [7], [4], [1]])).long().to(device)
    with torch.inference_mode():
        expected = encoder(input_ids=ids, attention_mask=mask, return_dict=True).last_hidden_state
        got = unpadded(input_ids=ids, attention_mask=mask, return_dict=True).last_hidden_state
        with first_row_only():
            first = unpadded(input_ids=ids, attention_mask=mask, return_dict=True).last_hidden_state
    limit = TOLERANCE * float(expected.abs().max())
    real = mask.bool()
    return bool(((got - expected)[real].abs() <= limit).all() and ((first[:, 0] - expected[:, 0]).abs() <= limit).all())
