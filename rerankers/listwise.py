"""Rerankers whose model writes the order down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..registry import register
from .first import sliding_spec
from .llm import LLMReranker, Spec


@dataclass
class Listwise(LLMReranker):
    """Shared by rerankers that generate a list of ids.

    `template` names the prompt, `ids` the id scheme (numbers or letters), `words` cuts passages at so many words.
    `constrained` allows the model no other answer than a list of the ids, `forced_length` makes it as long as such a
    list, `thinking_tokens` is the budget of a reasoning model before its answer, `temperature` 0 is greedy, `seed` is
    of the sampling otherwise. None means the model card's value, or else the judge's default.
    """

    template: str | None = None
    ids: str | None = None
    words: int | None = None
    constrained: bool | None = None
    forced_length: bool | None = None
    thinking_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None

    #: The prompt of models that have no card.
    usual_template: ClassVar[str | None] = None

    def judge_spec(self) -> Spec:
        names = ("template", "ids", "words", "constrained", "forced_length", "thinking_tokens", "temperature", "seed")
        spec = {"use": "generate"} | {name: getattr(self, name) for name in names}
        if self.template is None and self.model_card.judge.get("use") != "generate":
            spec["template"] = self.usual_template
        return spec


@register("rankgpt")
@dataclass
class RankGPT(Listwise):
    """Sliding windows whose order the model generates (Sun et al. 2023): RankGPT, RankVicuna, RankZephyr, ReasonRank.

    `window`, `stride` and `passes` are the sliding window's, `compat` its official arithmetic (`sliding`).
    """

    window: int | None = None
    stride: int | None = None
    passes: int | None = None
    compat: str | None = None

    usual_template = "rankgpt"

    def strategy_spec(self) -> Spec:
        return sliding_spec(self)


@register("fullrank")
@dataclass
class FullRank(Listwise):
    """All candidates in one prompt, ranked in one pass (Liu et al., ACL 2025, arXiv 2412.14574).

    `top` generates only the best so many ids; the others keep their given order beneath.
    """

    top: int | None = None

    usual_template = "fullrank-chat"

    def judge_spec(self) -> Spec:
        return {**super().judge_spec(), "top": self.top}

    def strategy_spec(self) -> Spec:
        return {"use": "single", "top": self.top}


@register("tourrank")
@dataclass
class TourRank(Listwise):
    """Tournaments of groups whose best go on and score a point (Chen et al. 2024).

    `repeats` tournaments with groups shuffled anew are added up, `shuffle_seed` is of the shuffling.
    """

    repeats: int | None = None
    shuffle_seed: int | None = None

    def strategy_spec(self) -> Spec:
        return {"use": "tournament", "repeats": self.repeats, "seed": self.shuffle_seed}
