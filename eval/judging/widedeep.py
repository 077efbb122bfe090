"""WideDeep: several reviewers, who then read one another and decide."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...errors import UsageError
from ...models.calls import Failure, GenerateCall, Reply, Tokens
from ...records import Document, Query
from ...registry import register
from . import Grader, Grading, Verdict
from .asked import ANSWERS, call_of, check_sampling, labels_of, load_prompt, prompt_of
from .votes import check_vote, vote

_NUMBERED = re.compile(r"^[ \t*#-]*(?:\d+[.):]+[ \t]*)?(?:\*\*)?(?:reviewer[ \t]*\d*[ \t]*:[ \t]*)?", re.I)
#: Who reviews where the model's own proposal can't be read.
DEFAULT_ROLES = (
    "A searcher, who looks whether the passage answers what was meant by the query",
    "A specialist of the query's subject, who looks whether what the passage says is right and complete",
    "An editor, who looks how much of the passage is about the query at all",
)


@register("widedeep")
@dataclass
class WideDeep(Grader):
    """WideDeep (Zhang et al. 2023): roles for this pair, a review by each, and a second layer in which each role reads
    all reviews and decides; then a vote. Its prompts are ours: the authors' are not published.

    `roles` is how many the model proposes, or their list, which saves that call. A proposal that can't be read is
    replaced by roles of ours, and counted. `temperature` and `seed` are of every call, `vote` is majority or mean,
    `max_tokens` is how long each answer may be, `words` cuts documents at so many words.
    """

    roles: int | Sequence[str] = 3
    temperature: float = 0.0
    seed: int = 0
    vote: str = "majority"
    max_tokens: int = 512
    words: int | None = None

    def __post_init__(self) -> None:
        check_sampling("widedeep", 1, self.temperature, self.seed, self.max_tokens)
        check_vote(self.vote)
        count = self.roles if isinstance(self.roles, int) else len(self.roles)
        if not 1 <= count <= 12:
            raise UsageError(f"widedeep: roles is {self.roles!r}, expected a number from 1 to 12, or a list of roles")
        if self.words is not None and self.words < 1:
            raise UsageError(f"widedeep: words is {self.words}, expected at least 1")

    def grade(self, query: Query, document: Document, tokens: Tokens) -> Grading:
        repairs: set[str] = set()

        def asked(step: str, instructions: Sequence[str], answers: Sequence[str] = ()) -> list[GenerateCall]:
            calls, cut = self._calls(step, query, document, tokens, instructions, answers)
            repairs.update({"cut_documents"} if cut else ())
            return calls

        if isinstance(self.roles, int):
            (proposal,) = yield asked("roles", [str(self.roles)])
            roles = proposed_roles(proposal, self.roles)
            if not roles:
                roles = list(DEFAULT_ROLES)
                repairs.add("default_roles")
        else:
            roles = list(self.roles)
        reviews = yield asked("review", roles)
        heard = [(role, said(r)) for role, r in zip(roles, reviews, strict=True) if isinstance(r, Reply)]
        if not heard:
            return Verdict(None, (), ("no_reply",), tuple(sorted(repairs)))
        together = "\n\n".join(f"Review by {role}:\n{text}" for role, text in heard)
        instructions = [f"You are this reviewer: {role}\n\n{together}" for role, _ in heard]
        labels, failures = labels_of((yield asked("decide", instructions, ANSWERS)), bare=False)
        return Verdict(vote(labels, self.vote), labels, failures, tuple(sorted(repairs)))

    def _calls(
        self,
        step: str,
        query: Query,
        document: Document,
        tokens: Tokens,
        instructions: Sequence[str],
        answers: Sequence[str],
    ) -> tuple[list[GenerateCall], bool]:
        """One call an instruction, and whether the document was cut in any."""
        template = load_prompt("widedeep", step)
        calls, any_cut = [], False
        for i, instruction in enumerate(instructions):
            prompt, cut = prompt_of(
                template, query, document, tokens,
                reserve=self.max_tokens, words=self.words, instruction=instruction,
            )  # fmt: skip
            seed = self.seed + i if self.temperature else 0
            limits = {"max_tokens": self.max_tokens, "seed": seed}
            calls.append(call_of(prompt, query, document, temperature=self.temperature, answers=answers, **limits))
            any_cut |= cut
        return calls, any_cut


def proposed_roles(reply: Reply | Failure, count: int) -> list[str]:
    """The roles of a proposal, one a line and without their numbers; none where there are fewer lines than asked for."""
    if isinstance(reply, Failure):
        return []
    lines = [_NUMBERED.sub("", line).strip(" *") for line in said(reply).splitlines() if line.strip()]
    named = [line for line in lines if line]
    return named[:count] if len(named) >= count else []


def said(reply: Reply) -> str:
    """What a model said, without what it thought before."""
    return reply.text.rpartition("</think>")[2].strip()
