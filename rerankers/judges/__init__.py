"""The model side of LLM reranking: from a request to a call (prompt and what to read), from the reply to an answer.

A judge is a registered dataclass whose fields are its options. It holds no model and no loop: `call` and `read` are
pure, so that the ledger, the scheduler and a dry run work for every judge alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from ...models.calls import Call, Reply, Request, Tokens
from ...records import Document

ROOM = "rerankers/judges"

#: What can be asked. `score`: one document, a number. `prefer`: two documents, which is better. `choose`: the best of
#: some. `ends`: the best and the worst of some. `order`: all of them, best first.
VERBS = ("score", "prefer", "choose", "ends", "order")


@dataclass(frozen=True)
class Answer:
    """What a judge read. `order` are positions in the request's documents, best first: all of them for `order`, the
    best for `choose`, best and worst for `ends`, the better one and the other for `prefer`; empty where the reply named
    none (`prefer`: no preference). `scores` go with the documents in the request's order where the judge has such.
    `counts` are oddities by kind, repairs among them (`repaired_missing`, `repaired_repeated`, `missing_labels`)."""

    order: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


class Judge:
    """Base of all judges. `verbs` are what it can answer; one made with options may have fewer than its class."""

    registered_name: ClassVar[str] = ""
    verbs: frozenset[str] = frozenset()

    def call(self, request: Request, tokens: Tokens) -> tuple[Call, Mapping[str, int]]:
        """What to ask the model, and oddities counted on the way (`shrunk_prompts`). `tokens` is the backend's
        tokenizer: prompts that are too long are shrunk here. Raises `TooLong` where even that does not help."""
        raise NotImplementedError

    def cuts(self, document: Document) -> bool:
        """Whether the judge shows only the document's first words."""
        return False

    def read(self, request: Request, call: Call, reply: Reply) -> Answer | Call:
        """What the reply says; or one more call, whose reply is read in its turn."""
        raise NotImplementedError


class TooLong(Exception):
    """A prompt that does not fit even when shrunk: the request fails, and its query keeps its order."""
