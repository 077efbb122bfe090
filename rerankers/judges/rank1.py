"""Rank1: the model reasons about one document, then the probability of true against false is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...models.calls import Call, GenerateCall, LabelCall, Reply, Request, Tokens
from ...registry import register
from . import Answer
from .prompted import check_positive
from .yes_no import Scored

_END = "</think>"
#: Tokens of the end of the reasoning with its line breaks, and of the answer.
_ANSWER = 8


@register("rank1")
@dataclass
class Rank1(Scored):
    """Rank1 (Weller et al. 2025): reasoning until `</think>`, then the logit of true less that of false.

    The official score is that difference's sigmoid. Two calls a document: the reasoning, then the two words after it.
    Reasoning that uses its budget up is cut after its last sentence and closed, as upstream, and counted in
    `cut_reasonings`.

    `template` names a prompt about one document, `instruction` is a task's, after the query (None: the template's),
    `thinking_tokens` is the budget of the reasoning, `words` cuts passages at so many words (None as the template does).
    """

    template: str = "rank1"
    instruction: str | None = None
    thinking_tokens: int = 8192
    words: int | None = None

    labels = None
    scored = "difference"

    def __post_init__(self) -> None:
        check_positive("rank1", thinking_tokens=self.thinking_tokens)
        super().__post_init__()

    def call(self, request: Request, tokens: Tokens) -> tuple[Call, Mapping[str, int]]:
        # Upstream leaves out an instruction that says the same as the query.
        same = self.instruction is not None and self.instruction.strip() == request.query.text.strip()
        reserve = self.thinking_tokens + _ANSWER
        prompt, counts = self.prompt(request, (), tokens, reserve, None if same else self.instruction)
        closed = replace(prompt, tail=prompt.tail + _END)
        self.check_labels(closed, self.said, tokens)
        return GenerateCall(prompt, self.thinking_tokens, stop=(_END,), request=request), counts

    def read(self, request: Request, call: Call, reply: Reply) -> Answer | Call:
        if isinstance(call, GenerateCall):
            cut = reply.finish == "length"
            thought = f"\n{_whole_sentences(reply.text)}\n{_END}" if cut else reply.text + _END
            prompt = replace(call.prompt, tail=call.prompt.tail + thought)
            return LabelCall(prompt, self.said, request, so_far=(float(cut),))
        assert isinstance(call, LabelCall)
        answer = super().read(request, call, reply)
        assert isinstance(answer, Answer)
        cut = bool(call.so_far and call.so_far[0])
        return replace(answer, counts={**answer.counts, **({"cut_reasonings": 1} if cut else {})})


def _whole_sentences(text: str) -> str:
    """The text up to its last full stop, exclamation or question mark; all of it where it has none."""
    text = text.rstrip()
    end = max(text.rfind(mark) for mark in ".!?")
    return (text if end == -1 else text[: end + 1]).strip()
