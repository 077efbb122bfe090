"""Query likelihood: how probable the model finds the query after having read one document."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ...models.calls import Call, LikelihoodCall, Reply, Request, Tokens
from ...registry import register
from . import Answer
from .prompted import Prompted
from .values import FLOOR


@register("query-likelihood")
@dataclass
class QueryLikelihood(Prompted):
    """The log-probability of the query's tokens given the document, summed (Sachan et al. 2022; Zhuang et al. 2023).

    `template` names a prompt that asks for a question about one document, `words` cuts passages at so many words (None
    as the template does).
    """

    template: str = "qlm"
    words: int | None = None

    asks = "score"
    verbs = frozenset({"score"})

    def call(self, request: Request, tokens: Tokens) -> tuple[Call, Mapping[str, int]]:
        target = self.shown.label(request.query.text)
        prompt, counts = self.prompt(request, (), tokens, reserve=tokens.length(target))
        return LikelihoodCall(prompt, (target,), request), counts

    def read(self, request: Request, call: Call, reply: Reply) -> Answer | Call:
        value = reply.values[0]
        unknown = math.isnan(value)
        return Answer((), (FLOOR if unknown else value,), {"missing_labels": 1} if unknown else {})
