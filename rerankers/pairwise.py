"""Rerankers that compare two documents at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..registry import register
from .llm import LLMReranker, Spec


@dataclass
class Pairwise(LLMReranker):
    """Pairwise ranking prompting (PRP; Qin et al. 2023, arXiv 2306.17563): each pair is asked in both orders.

    `template` names the prompt, `mode` is generate or scoring, `words` cuts passages at so many words. None means the
    model card's value, or else the judge's default.
    """

    template: str | None = None
    mode: str | None = None
    words: int | None = None

    def judge_spec(self) -> Spec:
        return {"use": "prp", "template": self.template, "mode": self.mode, "words": self.words}


@register("prp-allpair")
@dataclass
class AllPair(Pairwise):
    """PRP over all pairs: a document's score is its number of wins, a tie counts half."""

    def strategy_spec(self) -> Spec:
        return {"use": "allpair"}


@register("prp-heapsort")
@dataclass
class Heapsort(Pairwise):
    """PRP by a heap: the best `k` are sorted, the others keep their given order beneath.

    `compat` ielab breaks ties as that implementation does.
    """

    k: int | None = None
    compat: str | None = None

    def strategy_spec(self) -> Spec:
        return {"use": "heapsort", "k": self.k, "compat": self.compat}


@register("prp-sliding")
@dataclass
class SlidingPairs(Pairwise):
    """PRP-Sliding-K: `k` passes from the bottom to the top, each carries the best that it meets up.

    `compat` ielab skips what a pass left unchanged, as that implementation does.
    """

    k: int | None = None
    compat: str | None = None

    def strategy_spec(self) -> Spec:
        return {"use": "bubble", "k": self.k, "compat": self.compat}


@register("duot5")
@dataclass
class DuoT5(LLMReranker):
    """duoT5 (Pradeep et al. 2021): probabilities that one passage is more relevant, over all ordered pairs.

    `template` names the prompt, `labels` are its words for the first and the second passage, `words` cuts passages at
    so many words, `aggregate` adds probabilities (SYM-SUM) or counts wins. None means the model card's value, or else
    the default.
    """

    template: str | None = None
    labels: Sequence[str] | None = None
    words: int | None = None
    aggregate: str | None = None

    def judge_spec(self) -> Spec:
        return {"use": "duot5", "template": self.template, "labels": self.labels, "words": self.words}

    def strategy_spec(self) -> Spec:
        return {"use": "allpair", "aggregate": self.aggregate or "probability"}
