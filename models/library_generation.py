"""Generation by transformers' own loop, for models that can't be run packed and for encoder–decoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .writing import Writing


def write_by_library(model: Any, inputs: dict[str, Any], writings: Sequence[Writing]) -> None:
    """Write one text, from its beginning, for each row of `inputs` (what `generate` takes)."""
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

    end = _end(model)
    most = max(writing.writer.most for writing in writings)
    for writing in writings:
        writing.restart()
    chooser = _Chooser(writings, end)
    config = GenerationConfig(max_new_tokens=most, do_sample=False, num_beams=1, pad_token_id=end)
    with torch.inference_mode():
        model.generate(
            **inputs,
            generation_config=config,
            logits_processor=LogitsProcessorList([chooser]),
            stopping_criteria=StoppingCriteriaList([chooser.finished]),
        )


def end_tokens(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end an answer, by the model's generation settings and its tokenizer."""
    ends = model.generation_config.eos_token_id
    found = set(ends if isinstance(ends, list) else [ends]) | {tokenizer.eos_token_id}
    return sorted(token for token in found if token is not None)


def _end(model: Any) -> int:
    """What rows get whose text is done."""
    config = model.generation_config
    ends = config.eos_token_id
    for token in (config.pad_token_id, ends[0] if isinstance(ends, list) else ends):
        if token is not None:
            return int(token)
    return 0


def _of(scores: Tensor) -> Callable[[list[int] | None], Tensor]:
    """A row's logits (V,) as `Writing.step` asks for them."""
    return lambda ids: (scores if ids is None else scores[ids]).float()


class _Chooser:
    """The loop's logits processor: leaves each row the one token that its text takes next."""

    def __init__(self, writings: Sequence[Writing], end: int) -> None:
        self.writings, self.end = writings, end
        self.queues: list[list[int]] = [[] for _ in writings]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        chosen = torch.full_like(scores, -torch.inf)
        for row, (writing, queue) in enumerate(zip(self.writings, self.queues, strict=True)):
            if not queue and not writing.writer.done:
                queue += writing.step(_of(scores[row]))
            chosen[row, queue.pop(0) if queue else self.end] = 0.0
        return chosen

    def finished(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        """(B,) whether each row's text is whole."""
        done = [w.writer.done and not queue for w, queue in zip(self.writings, self.queues, strict=True)]
        return torch.tensor(done, device=input_ids.device)
