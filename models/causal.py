"""A causal language model read in batches: packed with common beginnings computed once, or padded, as the model allows.

Which of both is right for a network is found out by trying: at opening a few short sequences are read in every way and
compared with the model's own logits, one sequence at a time.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .batching import pad, plan_batches
from .label_head import LabelHead, WholeHead
from .memory import in_halves, out_of_memory
from .packed_attention import Unsupported
from .packed_forward import Observer, PackedModel, Read, Reading

_log = logging.getLogger("cribble")

#: Relative error of logits (norm of the difference by norm) up to which two ways agree: float32, and 16 bits or fewer.
_EXACT, _ROUNDED = 1e-4, 0.08
#: Rotary embeddings that depend on the longest sequence of the batch: packed neighbours would change them.
_BY_LENGTH = {"dynamic", "longrope"}


class CausalModel:
    """`model` is a `…ForCausalLM`. `share_prefix` False reads every sequence whole, by the model's own attention."""

    def __init__(self, name: str, model: Any, token_budget: int, *, exact: bool = True, share_prefix: bool = True):
        self.name, self.model, self.token_budget = name, model, token_budget
        self.tolerance = _EXACT if exact else _ROUNDED
        self.head: LabelHead | WholeHead = LabelHead(model)
        self.packed: PackedModel | None = None
        self.padded = True
        self.why_plain = "share_prefix is off"
        self._takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        self._try_out(share_prefix)

    # ---- reading -----------------------------------------------------------------------------------------------------

    def read(
        self, readings: Sequence[Reading], observers: Mapping[int, Observer] | None = None
    ) -> Iterator[list[Read]]:
        """What was read, batch by batch: states for `head`. Only a packed model takes `observers`."""
        if self.packed is not None:
            yield from self.packed.read(readings, observers=observers)
        else:
            yield from self._read_padded(readings)

    def _read_padded(self, readings: Sequence[Reading]) -> Iterator[list[Read]]:
        """Batches by the token budget, padded on the left; equal sequences once."""
        unique: dict[tuple[bytes, int], list[int]] = {}
        for i, reading in enumerate(readings):
            unique.setdefault((reading.ids.tobytes(), reading.rows), []).append(i)
        rows = list(unique.values())
        lengths = [len(readings[members[0]].ids) for members in rows]

        def run(batch: np.ndarray) -> list[Read]:
            states = self._padded([readings[rows[i][0]] for i in batch])
            return [
                Read(row, state, 0 if row == rows[i][0] else lengths[i])
                for i, state in zip(batch, states, strict=True)
                for row in rows[i]
            ]

        for batch in self.batches(lengths, self.token_budget):
            yield from in_halves(run, batch)

    def batches(self, lengths: Sequence[int], token_budget: int) -> list[np.ndarray]:
        """Places of sequences that go together through the model's own forward pass, padded if it allows that."""
        return plan_batches(lengths, token_budget) if self.padded else _of_equal_length(lengths, token_budget)

    def padded_inputs(self, sequences: Sequence[np.ndarray]) -> dict[str, Tensor]:
        """Ids and, where the lengths differ, the mask (B, longest), padded on the left."""
        columns: dict[str, list[Any]] = {
            "input_ids": list(sequences),
            "attention_mask": [np.ones(len(ids), np.int64) for ids in sequences],
        }
        batch = pad(columns, range(len(sequences)), {}, left=True)
        if batch["attention_mask"].all():
            del batch["attention_mask"]
        return {name: tensor.to(self.model.device) for name, tensor in batch.items()}

    def _padded(self, readings: Sequence[Reading]) -> list[Tensor]:
        """States (rows, ·) of each, by the model's own forward pass."""
        inputs: dict[str, Any] = self.padded_inputs([reading.ids for reading in readings])
        if self._takes_positions and "attention_mask" in inputs:
            inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
        deepest = max(r.rows for r in readings)
        with torch.inference_mode():
            if isinstance(self.head, LabelHead):
                states = self.model.get_decoder()(**inputs, use_cache=False).last_hidden_state[:, -deepest:]
            else:
                states = self.model(**inputs, use_cache=False, logits_to_keep=deepest).logits
        return [state[-reading.rows :] for state, reading in zip(states, readings, strict=True)]

    # ---- trying out --------------------------------------------------------------------------------------------------

    def _try_out(self, share_prefix: bool) -> None:
        sequences = _probe(int(self.model.config.get_text_config().vocab_size))
        with torch.inference_mode():
            expected = [self._alone(ids) for ids in sequences]
        if isinstance(self.head, LabelHead) and (not self.head.usable or self._objection(sequences[:1], expected)):
            self.head = WholeHead()
        self.padded = not self._objection(sequences, expected)
        if not share_prefix:
            return
        self.why_plain = self._unfit()
        if not self.why_plain:
            self.packed = PackedModel(self.model, 40, whole_head=isinstance(self.head, WholeHead))
            self.why_plain = self._objection(sequences, expected)
            self.packed.token_budget = self.token_budget
        if self.why_plain:
            self.packed = None
            _log.warning("%s: prompts can't share their common beginnings: %s", self.name, self.why_plain)

    def _unfit(self) -> str:
        """What in the configuration forbids packing though short sequences might not show it; "" if nothing does."""
        config = self.model.config.get_text_config()
        others = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
        if others or getattr(config, "attention_chunk_size", None):
            return f"its layers are of other kinds ({', '.join(sorted(others)) or 'chunked attention'})"
        if not getattr(config, "is_causal", True):
            return "its tokens see later ones"
        rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
        kinds = {str(part.get("rope_type", "")) for part in (rope, *rope.values()) if isinstance(part, dict)}
        if kinds & _BY_LENGTH:
            return f"its positions depend on the batch ({', '.join(sorted(kinds & _BY_LENGTH))} rotary embeddings)"
        return ""

    def _alone(self, ids: np.ndarray) -> Tensor:
        """The model's own logits (V,) after one sequence."""
        output = self.model(torch.from_numpy(ids.astype(np.int64))[None].to(self.model.device), use_cache=False)
        logits: Tensor = output.logits[0, -1].float()
        return logits

    def _objection(self, sequences: Sequence[np.ndarray], expected: Sequence[Tensor]) -> str:
        """Why `read` does not give the logits that the model gives for each sequence alone; "" if it does."""
        everything = tuple(range(len(expected[0])))
        try:
            for part in self.read([Reading(ids) for ids in sequences]):
                for row, hidden, _ in part:
                    got, want = self.head.labels(hidden[-1:], everything)[0].cpu(), expected[row].cpu()
                    error = float((got - want).norm() / want.norm()) if got.shape == want.shape else math.inf
                    if not error <= self.tolerance:
                        return f"its logits would change by {error:.1e}"
        except (Unsupported, AttributeError, TypeError, ValueError, RuntimeError) as error:
            if out_of_memory(error):
                raise
            return " ".join(str(error).split())[:200] or type(error).__name__
        return ""


def _probe(vocabulary: int) -> list[np.ndarray]:
    """Sequences of different lengths, two of which begin alike and one of which is within another."""
    chance = np.random.default_rng(7)
    common, a, b, c = (chance.integers(0, vocabulary, n).astype(np.int32) for n in (24, 9, 17, 12))
    return [np.concatenate([common, a]), np.concatenate([common, b]), c, common]


def _of_equal_length(lengths: Sequence[int], token_budget: int) -> list[np.ndarray]:
    """Batches without padding, for networks that padding would disturb."""
    groups: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        groups.setdefault(length, []).append(i)
    batches = []
    for length in sorted(groups, reverse=True):
        size = max(1, token_budget // length)
        batches += [np.asarray(groups[length][i : i + size]) for i in range(0, len(groups[length]), size)]
    return batches
