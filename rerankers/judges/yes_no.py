"""Pointwise by two words: how much likelier the model says yes than no about one document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...models.calls import Call, LabelCall, Reply, Request, Tokens
from ...registry import register
from . import Answer
from .prompted import Prompted
from .values import check_scores, score_of


class Scored(Prompted):
    """Base of judges that score one document by the logits of one or two labels."""

    asks = "score"
    verbs = frozenset({"score"})
    labels: Sequence[str] | None

    @property
    def said(self) -> tuple[str, ...]:
        """The labels, the one that speaks for the document first."""
        return tuple(self.shown.labels if self.labels is None else self.labels)

    @property
    def scored(self) -> str:
        """What the score is made of (`values.SCORES`)."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scores(self.registered_name, self.scored, self.said)

    def ask(self, request: Request, tokens: Tokens, instruction: str | None = None) -> tuple[Call, Mapping[str, int]]:
        prompt, counts = self.prompt(request, (), tokens, reserve=1, instruction=instruction)
        self.check_labels(prompt, self.said, tokens)
        return LabelCall(prompt, self.said, request), counts

    def call(self, request: Request, tokens: Tokens) -> tuple[Call, Mapping[str, int]]:
        return self.ask(request, tokens)

    def read(self, request: Request, call: Call, reply: Reply) -> Answer | Call:
        score, counts = score_of(reply.values, self.scored)
        return Answer((), (score,), counts)


@register("yes-no")
@dataclass
class YesNo(Scored):
    """The logit of yes against that of no: Qwen3-Reranker, mxbai-rerank-v2, bge-reranker-v2-gemma.

    `template` names a prompt about one document, `labels` are the words for and against it (None: the template's),
    `instruction` says what the task is (None: the template's), `words` cuts passages at so many words (None as the
    template does). `scores` is difference (of the two logits), prob (of yes, by softmax of the two), log_prob, or
    positive (the logit of yes alone); None means difference, or positive where there is one label.
    """

    template: str = "qwen3-reranker"
    labels: Sequence[str] | None = None
    instruction: str | None = None
    words: int | None = None
    scores: str | None = None

    @property
    def scored(self) -> str:
        return self.scores or ("difference" if len(self.said) == 2 else "positive")

    def __post_init__(self) -> None:
        check_scores("yes-no", self.scores, self.said)
        super().__post_init__()

    def call(self, request: Request, tokens: Tokens) -> tuple[Call, Mapping[str, int]]:
        return self.ask(request, tokens, self.instruction)
