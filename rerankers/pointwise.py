"""Rerankers whose language model scores one document at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..registry import register
from .llm import LLMReranker, Spec


@dataclass
class Pointwise(LLMReranker):
    """Shared by rerankers that score each document by itself.

    `template` names the prompt, `words` cuts passages at so many words. None means the model card's value, or else the
    judge's default.
    """

    template: str | None = None
    words: int | None = None
    score_kind: str = field(default="logit", init=False)

    def strategy_spec(self) -> Spec:
        return {"use": "pointwise"}


@register("yes-no")
@dataclass
class YesNo(Pointwise):
    """The logit of yes against that of no: Qwen3-Reranker, mxbai-rerank-v2, bge-reranker-v2-gemma.

    `labels` are the words for and against a document, `instruction` replaces the template's, `scores` is difference (of
    the two logits), prob (of yes, by softmax), log_prob, or positive (the logit of yes alone).
    """

    labels: Sequence[str] | None = None
    instruction: str | None = None
    scores: str | None = None

    def judge_spec(self) -> Spec:
        names = ("template", "words", "labels", "instruction", "scores")
        return {"use": "yes-no"} | {name: getattr(self, name) for name in names}


@register("monot5")
@dataclass
class MonoT5(Pointwise):
    """monoT5 (Nogueira et al. 2020): log-probability of true against false at the decoder's first step.

    `labels` are the words for and against a document.
    """

    labels: Sequence[str] | None = None

    def judge_spec(self) -> Spec:
        return {"use": "monot5", "template": self.template, "words": self.words, "labels": self.labels}


@register("rankt5")
@dataclass
class RankT5(Pointwise):
    """RankT5 (Zhuang et al. 2022): the logit of one reserved token at the decoder's first step.

    `labels` is a list of that token.
    """

    labels: Sequence[str] | None = None

    def judge_spec(self) -> Spec:
        return {"use": "rankt5", "template": self.template, "words": self.words, "labels": self.labels}


@register("query-likelihood")
@dataclass
class QueryLikelihood(Pointwise):
    """The probability of the query's words given the document (Sachan et al. 2022; Zhuang et al. 2023)."""

    def judge_spec(self) -> Spec:
        return {"use": "query-likelihood", "template": self.template, "words": self.words}


@register("rank1")
@dataclass
class Rank1(Pointwise):
    """Rank1 (Weller et al. 2025, arXiv 2502.18418): reasoning, then the probability of true against false.

    `instruction` is a task's, after the query; `thinking_tokens` is the budget of the reasoning.
    """

    instruction: str | None = None
    thinking_tokens: int | None = None

    def judge_spec(self) -> Spec:
        names = ("template", "words", "instruction", "thinking_tokens")
        return {"use": "rank1"} | {name: getattr(self, name) for name in names}
