"""FIRST: documents are ranked by the logits of their names, as the first token of the list that is never written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...models.calls import Call, LabelCall, Reply, Request, Tokens
from ...registry import register
from ..identifiers import check_scheme
from . import Answer
from .prompted import Prompted
from .values import by_values


@register("first")
@dataclass
class First(Prompted):
    """Single-token listwise (FIRST; Reddy et al. 2024): one forward pass orders all documents by their ids' logits.

    `template` names a listwise prompt; what it puts before an answer's first id is the prompt's end. `ids` are letters or
    numbers, None as the template has them; each must be one token there, and more documents than ids are refused.
    `words` cuts passages at so many words, None as the template does.
    """

    template: str = "first-rankllm"
    ids: str | None = None
    words: int | None = None

    asks = "order"
    verbs = frozenset({"order", "choose", "ends", "prefer"})

    def __post_init__(self) -> None:
        check_scheme("first", self.ids)
        super().__post_init__()

    def call(self, request: Request, tokens: Tokens) -> tuple[Call, Mapping[str, int]]:
        names = self.names(len(request.documents), self.ids)
        labels = tuple(map(self.shown.label, names))
        prompt, counts = self.prompt(request, names, tokens, reserve=1)
        self.check_labels(prompt, labels, tokens)
        return LabelCall(prompt, labels, request), counts

    def read(self, request: Request, call: Call, reply: Reply) -> Answer | Call:
        return by_values(request.verb, reply.values)
