"""Whether what a model makes of its encoder's last states depends on the first token's alone: asked, not guessed."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from .unpadded import given_states, is_unpadded

_log = logging.getLogger("cribble")

#: What may be in a batch when the question is put; with anything else in it, all rows are computed.
_KNOWN = {"input_ids", "attention_mask", "token_type_ids", "modality", "prompt_length"}


def reads_first_row_only(model: Any, features: dict[str, Any], task: str | None) -> bool:
    """Whether `model`'s scores or sentence vectors can be had from each text's first row, for batches like `features`.

    True for the classification heads of BERT-like cross-encoders and for [CLS] pooling. The model's modules after the
    encoder are run over random last states: its output must be the same, bit for bit, when all other rows are redrawn,
    and equal up to rounding when they are absent. It must change with the first rows: a head that looks at token ids too may
    give nothing at all for the probe's.
    """
    if not is_unpadded(model) or not set(features) <= _KNOWN:
        return False
    # Some pooling skips the prompt: texts must be longer than it for that to show.
    width = 5 + int(features.get("prompt_length") or 0)
    probe = {key: value for key, value in features.items() if not isinstance(value, Tensor)}
    probe["attention_mask"] = (torch.arange(width) < width - torch.arange(4)[:, None]).long()
    for key in ("input_ids", "token_type_ids"):
        if key in features:
            probe[key] = torch.zeros(4, width, dtype=torch.long)
    random = torch.Generator().manual_seed(0)
    hidden = model.transformers_model.config.hidden_size
    states = torch.randn(4, width, hidden, generator=random)
    others = torch.cat([states[:, :1], torch.randn(4, width - 1, hidden, generator=random)], dim=1)
    try:
        full, redrawn, alone = (_head(model, probe, rows, task) for rows in (states, others, states[:, :1]))
        changed = _head(model, probe, torch.randn(4, width, hidden, generator=random), task)
    except Exception as error:  # a head that needs all rows may fail in any way over one
        _log.debug("all rows of the last layer are needed: %s", error)
        return False
    if full.shape != alone.shape or torch.equal(full, changed):
        return False
    return torch.equal(full, redrawn) and torch.allclose(full, alone, atol=1e-6)


def _head(model: Any, features: dict[str, Any], states: Tensor, task: str | None) -> Tensor:
    """What the modules after the encoder make of `states` (texts, rows, hidden)."""
    with torch.inference_mode(), given_states(states):
        output = model(dict(features), **({"task": task} if task else {}))
    result: Tensor = output["scores"] if "scores" in output else output["sentence_embedding"]
    return result
