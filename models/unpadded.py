"""BERT-like encoders run without padding, and without the last layer's rows that nothing reads: for CPUs, in float32.

transformers pads a batch to its longest text, masks the padding in attention, and computes the last layer for every
token. Here the tokens of all texts lie one after another in a matrix (tokens, hidden); linear layers, norms and the
activation are the model's own modules over that matrix, and attention runs over runs of texts of equal length, with no
mask and no copies. Where only the first token's last state is asked for (`first_row_only`; see `first_row`), the last
layer is computed for that token alone, and its key and value projections move to the other side of the products,

    q · (K x) = (Kᵀ q) · x        Σ p (V x + b) = V (Σ p x) + b

so that they work on one row a head instead of on every token. Results differ from transformers' by rounding (1e-7 on
unit vectors). What is not known to be right (`unpad` says what) stays with transformers' own code.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.activations import GELUActivation
from transformers.modeling_outputs import BaseModelOutputWithPooling

_log = logging.getLogger("cribble")

#: Largest difference of last hidden states that counts as rounding, relative to the largest state.
TOLERANCE = 1e-4

_first_row_only: ContextVar[bool] = ContextVar("first_row_only", default=False)
_given_states: ContextVar[Tensor | None] = ContextVar("given_states", default=None)
_with_padding: ContextVar[bool] = ContextVar("with_padding", default=False)


class Parts(NamedTuple):
    """What a layer computes with; norms come after the residual connections."""

    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    attended: nn.Linear
    attended_norm: nn.LayerNorm
    inner: nn.Linear
    activation: Callable[[Tensor], Tensor]
    outer: nn.Linear
    outer_norm: nn.LayerNorm


class Family(NamedTuple):
    """Where a model class keeps its layers and a layer its `Parts`, in their order."""

    layers: attrgetter[Any]
    parts: attrgetter[Any]


_BERT = Family(
    attrgetter("encoder.layer"),
    attrgetter(
        *("attention.self.query", "attention.self.key", "attention.self.value"),
        *("attention.output.dense", "attention.output.LayerNorm"),
        *("intermediate.dense", "intermediate.intermediate_act_fn", "output.dense", "output.LayerNorm"),
    ),
)
_DISTILBERT = Family(
    attrgetter("transformer.layer"),
    attrgetter(
        *("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm"),
        *("ffn.lin1", "ffn.activation", "ffn.lin2", "output_layer_norm"),
    ),
)

#: Model classes of transformers whose layers compute the same function.
FAMILIES = {
    **dict.fromkeys(("BertModel", "CamembertModel", "ElectraModel", "RobertaModel", "XLMRobertaModel"), _BERT),
    "DistilBertModel": _DISTILBERT,
}


@contextmanager
def first_row_only(wanted: bool = True) -> Iterator[None]:
    """Within, unpadded encoders give last hidden states (texts, 1, hidden): the first token's."""
    token = _first_row_only.set(wanted)
    try:
        yield
    finally:
        _first_row_only.reset(token)


@contextmanager
def with_padding(wanted: bool = True) -> Iterator[None]:
    """Within, encoders run as transformers does, padding included: somebody reads the states of what is masked."""
    token = _with_padding.set(wanted)
    try:
        yield
    finally:
        _with_padding.reset(token)


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

    It must be of transformers' own classes (`FAMILIES`), all of its parts transformers' or torch's own without hooks
    (a subclass, an adapter or a hook may compute something else), bidirectional, not in training, and give equal states
    on a probe. Its parameters, modules and names stay as they are.
    """
    if is_unpadded(model):
        return True
    encoders = [module for module in model.modules() if type(module).__name__ in FAMILIES]
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
    """Texts of equal length that follow one another: `texts` of `length` tokens each, which are `rows` of the matrix."""

    rows: slice
    texts: int
    length: int


class Unpadded:
    """The forward method of a BERT-like model: takes its arguments, returns its last hidden states and pooler output.

    Anything but inference in float32 on the CPU over batches padded on the right, and any argument beyond the token
    columns, goes to transformers' forward.
    """

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self._family = FAMILIES[type(encoder).__name__]
        self._heads: int = encoder.config.num_attention_heads
        last = self._parts(self._family.layers(encoder)[-1])
        # Kept from before linear layers are packed, which hides their weights; (heads, head width, hidden).
        key, value = (linear.weight.detach() for linear in (last.key, last.value))
        self._key, self._value = (weight.view(self._heads, -1, weight.shape[1]) for weight in (key, value))

    def __call__(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        token_type_ids: Tensor | None = None,
        **options: Any,
    ) -> Any:
        encoder = self._encoder
        if (states := _given_states.get()) is not None:
            return _output(encoder, states)
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        lengths = None
        if not _with_padding.get():
            lengths = _lengths(encoder, input_ids, attention_mask, types | options)
        if lengths is None:
            forward = type(encoder).forward
            return forward(encoder, input_ids=input_ids, attention_mask=attention_mask, **types, **options)
        states = encoder.embeddings(input_ids=input_ids, **types)
        if hasattr(encoder, "embeddings_project"):  # ELECTRA with narrow embeddings
            states = encoder.embeddings_project(states)
        real = None if min(lengths) == states.shape[1] else attention_mask.bool()  # type: ignore[union-attr]
        x = states.flatten(0, 1) if real is None else states[real]
        runs = _runs(lengths)
        *layers, last = (self._parts(layer) for layer in self._family.layers(encoder))
        for layer in layers:
            x = self._layer(layer, x, runs)
        if _first_row_only.get():
            return _output(encoder, self._first_rows(last, x, runs).unsqueeze(1))
        x = self._layer(last, x, runs)
        if real is None:
            return _output(encoder, x.view_as(states))
        states = torch.zeros_like(states)
        states[real] = x
        return _output(encoder, states)

    def _parts(self, layer: nn.Module) -> Parts:
        """Looked up for every batch: packing linear layers puts others in their places."""
        return Parts(*self._family.parts(layer))

    def _layer(self, layer: Parts, x: Tensor, runs: list[Run]) -> Tensor:
        """A layer's output (tokens, hidden) for the states `x` of the layer before."""
        projected = [linear(x) for linear in (layer.query, layer.key, layer.value)]
        contexts = []
        for rows, texts, length in runs:
            query, key, value = (y[rows].view(texts, length, self._heads, -1).transpose(1, 2) for y in projected)
            context = functional.scaled_dot_product_attention(query, key, value)
            contexts.append(context.transpose(1, 2).reshape(texts * length, -1))
        return _after_attention(layer, torch.cat(contexts), x)

    def _first_rows(self, layer: Parts, x: Tensor, runs: list[Run]) -> Tensor:
        """A layer's output (texts, hidden) at the first token of each text."""
        first = torch.cat([x[rows][::length] for rows, _, length in runs])
        query = layer.query(first).view(len(first), self._heads, -1).transpose(0, 1)
        # (texts, heads, hidden): the query as a token's state meets it. The key's bias adds the same to all tokens.
        seen = torch.bmm(query, self._key).transpose(0, 1) * self._key.shape[1] ** -0.5
        contexts = []
        for part, (rows, texts, length) in zip(seen.split([run.texts for run in runs]), runs, strict=True):
            states = x[rows].view(texts, length, -1)
            contexts.append(torch.bmm(torch.bmm(part, states.transpose(1, 2)).softmax(-1), states))
        mixed = torch.cat(contexts).transpose(0, 1)  # (heads, texts, hidden)
        context = torch.bmm(mixed, self._value.transpose(1, 2)).transpose(0, 1).reshape(len(first), -1)
        return _after_attention(layer, context + layer.value.bias, first)


def _after_attention(layer: Parts, context: Tensor, x: Tensor) -> Tensor:
    """The rest of a layer: output projection, feed-forward network, and their residual connections and norms."""
    x = layer.attended_norm(layer.attended(context).add_(x))
    inner = layer.inner(x)
    if type(layer.activation) is GELUActivation and layer.activation.act is functional.gelu:
        torch.ops.aten.gelu_(inner)  # in place, the widest matrix of all stays in the cache
    else:
        inner = layer.activation(inner)
    return layer.outer_norm(layer.outer(inner).add_(x))


def _runs(lengths: list[int]) -> list[Run]:
    """Neighbours of equal length together; texts that were sorted by length make few runs."""
    runs, start = [], 0
    for length, equal in itertools.groupby(lengths):
        texts = len(list(equal))
        runs.append(Run(slice(start, start + texts * length), texts, length))
        start += texts * length
    return runs


def _lengths(encoder: Any, ids: Tensor | None, mask: Tensor | None, options: dict[str, Any]) -> list[int] | None:
    """Tokens of each text, or None for what transformers' forward has to do."""
    has_types = hasattr(encoder.embeddings, "token_type_embeddings")
    known = {"return_dict", "token_type_ids"} if has_types else {"return_dict"}
    if (
        ids is None
        or not ids.numel()
        or ids.device.type != "cpu"
        or encoder.embeddings.word_embeddings.weight.dtype != torch.float32
        or encoder.training
        or torch.is_grad_enabled()
        or options.get("return_dict") is False
        or any(value is not None and value is not False for name, value in options.items() if name not in known)
        or encoder.config.output_hidden_states
        or encoder.config.output_attentions
    ):
        return None
    if mask is None:
        return [ids.shape[1]] * ids.shape[0]
    if mask.shape != ids.shape or not bool(mask[:, 0].all()) or bool((mask[:, 1:] > mask[:, :-1]).any()):
        return None  # not a mask of tokens, or padded on the left, or with holes
    lengths: list[int] = mask.bool().sum(1).tolist()
    return lengths


def _output(encoder: Any, states: Tensor) -> BaseModelOutputWithPooling:
    pooler = getattr(encoder, "pooler", None)
    return BaseModelOutputWithPooling(
        last_hidden_state=states, pooler_output=None if pooler is None else pooler(states)
    )


def _is_known(encoder: Any) -> bool:
    """Whether all that runs within the encoder is transformers' and torch's own, and nothing listens to it."""
    source = type(encoder).__module__
    own = (source, "transformers.activations", "torch.nn.modules")
    return (
        source.startswith("transformers.models.")
        and not encoder.training
        and not getattr(encoder.config, "is_decoder", False)
        and not encoder.config.output_hidden_states
        and all(
            type(module).__module__.startswith(own)
            and not {"forward", "_hf_hook"} & module.__dict__.keys()
            and not (module._forward_hooks or module._forward_pre_hooks)
            for module in encoder.modules()
        )
        and all(linear.bias is not None for linear in encoder.modules() if isinstance(linear, nn.Linear))
    )


def _agrees(encoder: Any, unpadded: Unpadded) -> bool:
    """Both ways over texts of 7, 7, 4 and 1 tokens, and the first rows of it."""
    ids = torch.arange(28).view(4, 7).remainder(encoder.config.vocab_size)
    mask = (torch.arange(7) < torch.tensor([[7], [7], [4], [1]])).long()
    with torch.inference_mode():
        expected = encoder(input_ids=ids, attention_mask=mask, return_dict=True).last_hidden_state
        got = unpadded(input_ids=ids, attention_mask=mask, return_dict=True).last_hidden_state
        with first_row_only():
            first = unpadded(input_ids=ids, attention_mask=mask, return_dict=True).last_hidden_state
    limit = TOLERANCE * float(expected.abs().max())
    differences = ((got - expected)[mask.bool()], first[:, 0] - expected[:, 0])
    return all(bool((difference.abs() <= limit).all()) for difference in differences)
