"""Pairwise ranking prompting: which of two passages is more relevant to the query?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...models.calls import Call, GenerateCall, LabelCall, Reply, Request, Tokens
from ...registry import register
from ..parsing import exactly_named, read_choice
from . import Answer
from .prompted import Prompted, answer_tokens, check_mode
from .values import by_values

_MODES = ("generate", "scoring")


@register("prp")
@dataclass
class PRP(Prompted):
    """Pairwise ranking prompting (Qin et al. 2023): the model names the better of two passages.

    `template` names a prompt about two documents; both orders of a pair share its beginning up to the first passage.
    `mode` is generate (the model writes a label; any other text is no preference, and counted) or scoring (the labels'
    logits; the answer's scores are their probabilities among the two). `words` cuts passages at so many words, None as
    the template does.
    """

    template: str = "prp"
    mode: str = "generate"
    words: int | None = None

    asks = "prefer"
    verbs = frozenset({"prefer"})

    def __post_init__(self) -> None:
        check_mode("prp", self.mode, _MODES)
        super().__post_init__()

    @property
    def said(self) -> tuple[str, ...]:
        """What is said of the first and of the second passage, after the prompt's tail."""
        return tuple(self.shown.labels) or tuple(map(self.shown.label, self.names(2)))

    def call(self, request: Request, tokens: Tokens) -> tuple[Call, Mapping[str, int]]:
        names = self.names(len(request.documents))
        if self.mode == "scoring":
            prompt, counts = self.prompt(request, names, tokens, reserve=1)
            self.check_labels(prompt, self.said, tokens)
            return LabelCall(prompt, self.said, request), counts
        form = self.form(names)
        length = answer_tokens(self.shown, form, self.said, tokens)
        prompt, counts = self.prompt(request, names, tokens, reserve=length)
        return GenerateCall(prompt, length, choices=(form.written(0), form.written(1)), request=request), counts

    def read(self, request: Request, call: Call, reply: Reply) -> Answer | Call:
        if isinstance(call, LabelCall):
            return by_values("prefer", reply.values)
        form = self.form(self.names(2))
        if self.shown.tail:
            better, counts = exactly_named(reply.text, form, self.said), {"repaired_unreadable": 1}
        else:
            better, counts = read_choice(reply.text, form, self.said)
        if better is None:
            return Answer((), (), counts)
        return Answer((better, 1 - better), (), {} if self.shown.tail else counts)
