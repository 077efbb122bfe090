"""Any judge with any strategy that asks what it can answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from ..registry import register
from .llm import LLMReranker, Spec


@register("llm")
@dataclass
class LLM(LLMReranker):
    """A free choice of judge and strategy: first with tournament, setwise with bubble, what a model card says.

    `judge` and `strategy` are names, or `{use: NAME, option: value}`; None means the model card's.
    """

    judge: str | Mapping[str, Any] | None = None
    strategy: str | Mapping[str, Any] | None = None

    def judge_spec(self) -> Spec:
        return self._spec("judge", self.judge, self.model_card.judge)

    def strategy_spec(self) -> Spec:
        return self._spec("strategy", self.strategy, self.model_card.strategy)

    def _spec(self, what: str, given: str | Mapping[str, Any] | None, carded: Spec) -> Spec:
        spec = {"use": given} if isinstance(given, str) else dict(given or carded)
        if "use" not in spec:
            raise UsageError(
                f"llm: no {what} is named and the model {self.model!r} has no card that names one: "
                f"add {what}=NAME or {what}={{use: NAME, …}}; `cribble list {what.replace('strategy', 'strategie')}s` has the names"
            )
        return spec
