"""In-context reranking: the attention that the query pays to each document, with nothing generated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..registry import register
from .llm import LLMReranker, Spec


@register("icr")
@dataclass
class ICR(LLMReranker):
    """ICR (Chen et al. 2024, arXiv 2410.02642): attention from query to documents, less that from the query N/A.

    `template` names the prompt, `words` cuts passages at so many words, `reverse` puts the first candidate last, next to
    the query. `heads` are [layer, head] pairs whose attention counts; none means all.
    """

    template: str | None = None
    words: int | None = None
    reverse: bool | None = None
    heads: Sequence[Sequence[int]] | None = None

    def judge_spec(self) -> Spec:
        names = ("template", "words", "reverse", "heads")
        return {"use": "icr"} | {name: getattr(self, name) for name in names}

    def strategy_spec(self) -> Spec:
        return {"use": "single"}
