"""Rerankers that ask for the best of a few documents."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError, suggest
from ..registry import register
from .llm import LLMReranker, Spec

_SORTS = {"heapsort": "setwise-heapsort", "bubble": "setwise-bubble"}


@dataclass
class BestOf(LLMReranker):
    """Shared by rerankers that ask which of some documents is the best (Setwise; Zhuang et al., SIGIR 2024).

    `sort` is heapsort or bubble, `num_children` the documents that are compared with their parent in one prompt, `k` the
    best that are sorted; the others keep their given order beneath. `template` names the prompt, `words` cuts passages
    at so many words. `compat` ielab skips windows of a bubble sort as that implementation does. None means the model
    card's value, or else the default.
    """

    sort: str = "heapsort"
    num_children: int | None = None
    k: int | None = None
    compat: str | None = None
    template: str | None = None
    words: int | None = None

    def strategy_spec(self) -> Spec:
        if self.sort not in _SORTS:
            raise UsageError(f"{self.label}: sort {self.sort!r} is unknown: {suggest(self.sort, _SORTS)}")
        return {"use": _SORTS[self.sort], "children": self.num_children, "k": self.k, "compat": self.compat}


@register("setwise")
@dataclass
class Setwise(BestOf):
    """Setwise prompting: one call picks the best of a parent and its children.

    `mode` is generate (the model writes a label) or likelihood (the labels' logits), `permutations` the number of
    shuffled copies of a prompt that vote, `seed` is of the shuffling.
    """

    mode: str | None = None
    permutations: int | None = None
    seed: int | None = None

    def judge_spec(self) -> Spec:
        names = ("template", "words", "mode", "permutations", "seed")
        return {"use": "setwise"} | {name: getattr(self, name) for name in names}


@register("rank-r1")
@dataclass
class RankR1(BestOf):
    """Rank-R1 (Zhuang et al. 2025): setwise with reasoning before the answer.

    `thinking_tokens` is the budget of the reasoning.
    """

    thinking_tokens: int | None = None

    def judge_spec(self) -> Spec:
        names = ("template", "words", "thinking_tokens")
        return {"use": "rank-r1"} | {name: getattr(self, name) for name in names}
