"""FIRST: a window is ranked by the logits of its single-token ids, with no text generated."""

from __future__ import annotations

from dataclasses import dataclass

from ..registry import register
from .llm import LLMReranker, Spec


@register("first")
@dataclass
class First(LLMReranker):
    """FIRST (Reddy et al. 2024, arXiv 2406.15657): sliding windows, each ranked by one forward pass.

    `window`, `stride` and `passes` are the sliding window's, `compat` its official arithmetic (`sliding`). `template`
    names the prompt, `ids` the id scheme (letters or numbers), `words` cuts passages at so many words. None means the
    model card's value, or else the judge's or strategy's default.
    """

    window: int | None = None
    stride: int | None = None
    passes: int | None = None
    compat: str | None = None
    template: str | None = None
    ids: str | None = None
    words: int | None = None

    def judge_spec(self) -> Spec:
        return {"use": "first", "template": self.template, "ids": self.ids, "words": self.words}

    def strategy_spec(self) -> Spec:
        return sliding_spec(self)


def sliding_spec(stage: LLMReranker) -> Spec:
    """The sliding window's options as a stage's fields have them; a window without a stride goes up by half of it."""
    spec = {"use": "sliding"} | {name: getattr(stage, name) for name in ("window", "stride", "passes", "compat")}
    if spec["window"] is not None and spec["stride"] is None:
        spec["stride"] = max(1, spec["window"] // 2)
    return spec
