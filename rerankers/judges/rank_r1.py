"""Rank-R1: the model reasons, then names the most relevant of some documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...models.calls import Call, GenerateCall, Reply, Request, Tokens
from ...registry import register
from ..parsing import read_choice
from . import Answer
from .prompted import Prompted, check_not_negative

#: Tokens of `<answer>[20]</answer>` and the end of the reasoning.
_ANSWER = 24


@register("rank-r1")
@dataclass
class RankR1(Prompted):
    """Rank-R1 (Zhuang et al. 2025): setwise with reasoning in `<think>` and the best document in `<answer>`.

    `template` names a prompt that asks for the best, `thinking_tokens` is the budget of the reasoning, `words` cuts
    passages at so many words (None as the template does). A text that names no document, or several, is counted.
    Documents stand in the given order; upstream shuffles them.
    """

    template: str = "rank-r1"
    thinking_tokens: int = 8000
    words: int | None = None

    asks = "choose"
    verbs = frozenset({"choose", "prefer"})

    def __post_init__(self) -> None:
        check_not_negative("rank-r1", thinking_tokens=self.thinking_tokens)
        super().__post_init__()

    def call(self, request: Request, tokens: Tokens) -> tuple[Call, Mapping[str, int]]:
        names = self.names(len(request.documents))
        form = self.form(names)
        length = self.thinking_tokens + _ANSWER
        prompt, counts = self.prompt(request, names, tokens, reserve=length)
        choices = tuple(map(form.written, range(len(names))))
        return GenerateCall(prompt, length, choices=choices, request=request), counts

    def read(self, request: Request, call: Call, reply: Reply) -> Answer | Call:
        n = len(request.documents)
        unfinished = bool(self.thinking_tokens) and reply.finish == "length"
        best, counts = read_choice(reply.text, self.form(self.names(n)), reasoning=unfinished)
        if best is None:
            return Answer((), (), counts)
        return Answer((best,) if request.verb == "choose" else (best, 1 - best), (), counts)
