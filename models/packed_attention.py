"""Attention over token sequences that lie one behind the other in one row, without padding, and over kept keys.

transformers lets a model's attention be computed by a named function. Ours knows, from the plan that is active, which
rows of the batch belong together, so that everything else in the network (linear layers, norms) runs on exactly the
tokens that there are. A network whose attention has a form that is not known here is refused with `Unsupported`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

#: The name under which transformers knows the function.
NAME = "cribble_packed"

#: Query rows of one product with a mask: longer stretches are cut, which also leaves out keys that none of them sees.
_CHUNK = 256
#: Up to so many rows, those of heads that share keys are taken together.
_FEW = 8
#: Stretches that are at least this share of the longest are padded to it and computed together,
_ALIKE = 0.75
#: as long as there are no more keys than this (on a CPU they should stay in its caches).
_KEYS = {"cpu": 4096, "cuda": 131072}

#: What models hand to attention functions and what makes no difference here.
_HARMLESS = {
    *("position_ids", "use_cache", "is_causal", "cache_position", "output_attentions", "output_hidden_states"),
    *("deterministic", "head_mask", "return_dict", "logits_to_keep", "num_items_in_batch"),
}


class Unsupported(Exception):
    """This network can't be run packed; the reason."""


@dataclass(frozen=True)
class Form:
    """How a layer attends: its number, the factor of the products, a window (keys further back are not seen) and a cap
    (scores are squeezed to ±cap by tanh)."""

    layer: int
    scaling: float
    window: int | None = None
    softcap: float | None = None


class Plan(Protocol):
    """What a forward pass attends to. `calls` counts the layers that asked."""

    calls: int

    def attend(self, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        """query (T, H, D), key and value (T, G, D) → (T, H, D)."""


_active: ContextVar[Plan] = ContextVar("packed_attention_plan")


@contextmanager
def packed(model: Any, plan: Plan) -> Iterator[None]:
    """Within, the attention of `model` is computed by `plan`."""
    config, before = model.config, model.config._attn_implementation
    token = _active.set(plan)
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before
        _active.reset(token)


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None, **options: Any
) -> tuple[Tensor, None]:
    """The function that transformers calls: query (1, H, T, D), key and value (1, G, T, D) → (1, T, H, D)."""
    plan = _active.get()
    options = {name: option for name, option in options.items() if option is not None}
    scaling, window = options.pop("scaling", query.shape[-1] ** -0.5), options.pop("sliding_window", None)
    softcap = options.pop("softcap", None)
    if options.pop("dropout", 0.0):
        raise Unsupported("it drops out while it is evaluated")
    if unknown := sorted(set(options) - _HARMLESS):
        raise Unsupported(f"its attention takes {', '.join(unknown)}")
    if attention_mask is not None or query.shape[0] != 1:
        raise Unsupported("its attention takes a mask of its own")
    form = Form(plan.calls, float(scaling), window, softcap)
    plan.calls += 1
    out = plan.attend(query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1), form)
    return out[None], None


def register() -> None:
    """Tell transformers of the function; without a mask function of that name models make no masks."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, _attention)


# ---- stretches of rows that attend to stretches of keys --------------------------------------------------------------


@dataclass
class Stretch:
    """Rows of the batch that see the same keys. `rows` (n,) are places in the batch, `keys` (m,) places in the kept keys
    followed by the batch's own, `last` (n,) for each row the number, among `keys`, of the last one that it sees."""

    rows: np.ndarray
    keys: np.ndarray
    last: np.ndarray


@dataclass
class Part:
    """Stretches of like size as one product: rows (B, S), keys (B, K), mask (B or 1, 1, S, K), or causal without mask.
    `real` says which of the B·S rows are none of the padding; None where all are."""

    rows: Tensor
    keys: Tensor
    mask: Tensor | None
    causal: bool
    real: Tensor | None


@dataclass
class Stretches:
    """A pass's attention as few products of like size."""

    stretches: Sequence[Stretch]
    _parts: dict[tuple[int | None, torch.device], list[Part]] = field(default_factory=dict)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, form: Form) -> Tensor:
        """query (T, H, D), key and value (M, G, D): kept keys and the batch's own. Rows in no stretch give zeros."""
        out = query.new_zeros(query.shape[0], query.shape[1], value.shape[2])
        for part in self.parts(form.window, query.device):
            result = product(_rows(query, part.rows), _rows(key, part.keys), _rows(value, part.keys), part, form)
            flat = result.transpose(1, 2).reshape(-1, *out.shape[1:])
            rows = part.rows.reshape(-1)
            if part.real is not None:
                flat, rows = flat[part.real], rows[part.real]
            out[rows] = flat
        return out

    def parts(self, window: int | None, device: torch.device) -> list[Part]:
        if window is not None and all(len(s.keys) <= window for s in self.stretches):
            window = None  # nothing is out of sight
        if (window, device) not in self._parts:
            cut = [piece for stretch in self.stretches for piece in _cut(stretch, window)]
            self._parts[window, device] = [
                _part(group, window, device) for group in _alike(cut, _KEYS.get(str(device.type), 131072))
            ]
        return self._parts[window, device]


def _rows(tensor: Tensor, places: Tensor) -> Tensor:
    """(M, H, D) → (B, H, S, D), the rows at `places` (B, S)."""
    taken = tensor.index_select(0, places.reshape(-1))
    return taken.view(*places.shape, *tensor.shape[1:]).transpose(1, 2)


def _cut(stretch: Stretch, window: int | None) -> Iterator[Stretch]:
    """Pieces of at most `_CHUNK` rows with the keys that they can see. What is causal from its first key on needs no
    mask, whatever its length, and stays whole."""
    if window is None and (len(stretch.rows) <= _CHUNK or _plainly_causal(stretch)):
        yield stretch
    else:
        for start in range(0, len(stretch.rows), _CHUNK):
            last = stretch.last[start : start + _CHUNK]
            low = max(0, int(last.min()) - window + 1) if window is not None else 0
            high = int(last.max()) + 1
            yield Stretch(stretch.rows[start : start + _CHUNK], stretch.keys[low:high], last - low)


def _plainly_causal(stretch: Stretch) -> bool:
    return len(stretch.rows) == len(stretch.keys) and bool((stretch.last == np.arange(len(stretch.rows))).all())


def _alike(stretches: Sequence[Stretch], limit: int) -> Iterator[list[Stretch]]:
    """Groups of stretches with about as many rows and about as many keys, at most `limit` in all, longest first."""
    group: list[Stretch] = []
    for stretch in sorted(stretches, key=lambda s: (-len(s.rows), -len(s.keys))):
        rows, keys = len(stretch.rows), len(stretch.keys)
        if group and (
            rows < _ALIKE * len(group[0].rows)
            or (len(group) + 1) * max(keys, len(group[0].keys)) > limit
            or not _ALIKE * len(group[0].keys) <= keys <= len(group[0].keys) / _ALIKE
            or _plainly_causal(stretch) != _plainly_causal(group[0])
        ):
            yield group
            group = []
        group.append(stretch)
    if group:
        yield group


def _part(group: Sequence[Stretch], window: int | None, device: torch.device) -> Part:
    """One product for all stretches of `group`, padded at the end."""
    width, depth = max(len(s.rows) for s in group), max(len(s.keys) for s in group)
    rows, keys = np.zeros((len(group), width), np.int64), np.zeros((len(group), depth), np.int64)
    last, real = np.zeros((len(group), width), np.int64), np.zeros((len(group), width), bool)
    for i, stretch in enumerate(group):
        n = len(stretch.rows)
        rows[i, :n], keys[i, : len(stretch.keys)], real[i, :n] = stretch.rows, stretch.keys, True
        last[i, :n], last[i, n:] = stretch.last, stretch.last[-1]
    plain = window is None and all(_plainly_causal(s) for s in group)
    seen = np.arange(depth) <= last[:, :, None]
    if window is not None:
        seen &= np.arange(depth) > last[:, :, None] - window
    if (last == last[0]).all():
        seen = seen[:1]
    return Part(
        rows=torch.from_numpy(rows).to(device),
        keys=torch.from_numpy(keys).to(device),
        mask=None if plain or seen.all() else torch.from_numpy(seen[:, None]).to(device),
        causal=plain,
        real=None if real.all() else torch.from_numpy(real.reshape(-1)).to(device),
    )


def product(query: Tensor, key: Tensor, value: Tensor, part: Part, form: Form) -> Tensor:
    """Attention of query (B, H, S, D) over key and value (B, G, K, D), H a multiple of G."""
    if form.softcap is not None:
        return _capped(query, key, value, part, form)
    if query.shape[1] != key.shape[1] and query.shape[2] <= _FEW and not part.causal:
        return _folded(query, key, value, part.mask, form)
    if query.shape[1] != key.shape[1] and part.mask is not None and query.device.type == "cuda":
        # CUDA's fused kernels take shared keys or a mask, not both.
        share = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(share, dim=1), value.repeat_interleave(share, dim=1)
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=part.mask,
        is_causal=part.causal,
        scale=form.scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def _folded(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, form: Form) -> Tensor:
    """The same for few rows: heads that share keys become rows, so that the keys are gone through once for all of them."""
    batch, heads, rows, width = query.shape
    share = heads // key.shape[1]
    out = functional.scaled_dot_product_attention(
        query.reshape(batch, key.shape[1], share * rows, width),
        key,
        value,
        attn_mask=None if mask is None else mask.repeat(1, 1, share, 1),
        scale=form.scaling,
    )
    return out.reshape(batch, heads, rows, value.shape[-1])


def _capped(query: Tensor, key: Tensor, value: Tensor, part: Part, form: Form) -> Tensor:
    """The same with scores under a cap (Gemma 2), which the fused kernels don't have."""
    mask = part.mask
    if part.causal:
        size = query.shape[2]
        mask = torch.ones(size, size, dtype=torch.bool, device=query.device).tril()[None, None]
    weights = attention_weights(query, key, mask, form)
    groups = query.shape[1] // value.shape[1]
    return weights.to(value.dtype) @ value.repeat_interleave(groups, dim=1)


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None, form: Form) -> Tensor:
    """softmax(q·kᵀ) in float32: query (B, H, S, D), key (B, G, K, D) → (B, H, S, K)."""
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = (query @ key.transpose(2, 3)).float() * form.scaling
    if form.softcap is not None:
        scores = form.softcap * torch.tanh(scores / form.softcap)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return scores.softmax(dim=-1)
