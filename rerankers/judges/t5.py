"""monoT5, RankT5 and duoT5: labels at the first step of an encoder–decoder's decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...models.calls import Call, LabelCall, Reply, Request, Tokens
from ...registry import register
from . import Answer
from .prompted import Prompted
from .values import by_values, check_scores
from .yes_no import Scored


@register("monot5")
@dataclass
class MonoT5(Scored):
    """monoT5 (Nogueira et al. 2020): log-probability of true among true and false, as pygaggle scores.

    `template` names a prompt about one document, `labels` are the words for and against it (None: the template's; yes
    and no for mT5), `words` cuts passages at so many words (None as the template does).
    """

    template: str = "monot5"
    labels: Sequence[str] | None = None
    words: int | None = None

    scored = "log_prob"


@register("rankt5")
@dataclass
class RankT5(Scored):
    """RankT5 (Zhuang et al. 2022): the logit of one reserved token, `<extra_id_10>`.

    `template` names a prompt about one document, `labels` is the token (None: the template's), `words` cuts passages at
    so many words (None as the template does).
    """

    template: str = "rankt5"
    labels: Sequence[str] | None = None
    words: int | None = None

    scored = "positive"


@register("duot5")
@dataclass
class DuoT5(Prompted):
    """duoT5 (Pradeep et al. 2021): the probability that the first of two passages is the more relevant one.

    The answer's scores are that probability and what is left to one. `template` names a prompt about two documents,
    `labels` are the words for the first and the second (None: the template's), `words` cuts passages at so many words
    (None as the template does).
    """

    template: str = "duot5"
    labels: Sequence[str] | None = None
    words: int | None = None

    asks = "prefer"
    verbs = frozenset({"prefer"})

    @property
    def said(self) -> tuple[str, ...]:
        return tuple(self.shown.labels if self.labels is None else self.labels)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scores("duot5", "prob", self.said)

    def call(self, request: Request, tokens: Tokens) -> tuple[Call, Mapping[str, int]]:
        prompt, counts = self.prompt(request, (), tokens, reserve=1)
        self.check_labels(prompt, self.said, tokens)
        return LabelCall(prompt, self.said, request), counts

    def read(self, request: Request, call: Call, reply: Reply) -> Answer | Call:
        return by_values("prefer", reply.values)
