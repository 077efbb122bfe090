"""What judges that ask by a template share: the shrunk prompt, names of documents, labels looked up once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from ...errors import UsageError, suggest
from ...models.calls import Prompt, Request, Tokens
from ...records import Document
from ..identifiers import identifiers
from ..parsing import Form
from ..prompts import Template, load_template, shrink
from . import Judge

#: Tokens for what a model may say around a label: `The most relevant passage is`, tags.
_WORDS_AROUND = 16


class Prompted(Judge):
    """Base of judges with the options `template` and `words`. `asks` is the verb that their templates must have."""

    asks: ClassVar[str] = ""
    template: str
    words: int | None

    def __post_init__(self) -> None:
        if self.words is not None and self.words < 1:
            raise UsageError(f"{self.registered_name}: words is {self.words}, expected a number of words >= 1")
        if self.asks not in self.shown.verbs:
            raise UsageError(
                f"{self.registered_name}: the template {self.template} asks to {' or '.join(sorted(self.shown.verbs))}, "
                f"expected one that asks to {self.asks}"
            )

    @cached_property
    def shown(self) -> Template:
        """The template."""
        return load_template(self.template)

    def cuts(self, document: Document) -> bool:
        words = self.words if self.words is not None else self.shown.words
        return words is not None and self.shown.document.longest(document) > words

    def names(self, n: int, scheme: str | None = None) -> tuple[str, ...]:
        """What `n` documents are called: by `scheme`, or else as the template has it."""
        most = self.shown.max_documents
        if most is not None and n > most:
            raise UsageError(
                f"{self.registered_name}: {n} documents in one prompt, the template {self.template} holds at most {most}: "
                "show fewer at a time (a smaller window, fewer children)"
            )
        return self.shown.default_names(n) if scheme is None else identifiers(scheme, n)

    def form(self, names: Sequence[str]) -> Form:
        """How answers by this template name the documents."""
        before, _, after = self.shown.answer("\0").partition("\0")
        return Form(tuple(names), before, after, self.shown.separator)

    def prompt(
        self, request: Request, names: Sequence[str], tokens: Tokens, reserve: int, instruction: str | None = None
    ) -> tuple[Prompt, dict[str, int]]:
        """The prompt, shrunk until `reserve` tokens are left for the answer, and the count of that."""
        self.check_verb(request)
        prompt, shrunk = shrink(
            self.shown,
            request.query.text,
            request.documents,
            names,
            tokens,
            reserve,
            instruction=instruction,
            words=self.words,
        )
        return prompt, {"shrunk_prompts": shrunk} if shrunk else {}

    def check_verb(self, request: Request) -> None:
        if request.verb not in self.verbs:
            raise UsageError(
                f"the judge {self.registered_name} can't {request.verb}, only {', '.join(sorted(self.verbs))}"
            )

    def check_labels(self, prompt: Prompt, labels: Sequence[str], tokens: Tokens) -> None:
        """Refuse labels that are not one token each after the prompt: looked up when first used."""
        known, seen = self.__dict__.get("_checked", (None, frozenset()))
        if known is not tokens:
            seen = frozenset()
        if new := [label for label in labels if label not in seen]:
            tokens.check_labels(prompt, new)
            self.__dict__["_checked"] = (tokens, seen | frozenset(new))


def check_positive(judge: str, **values: float | None) -> None:
    """Refuse numbers below 1; None is a default."""
    for name, value in values.items():
        if value is not None and value < 1:
            raise UsageError(f"{judge}: {name} is {value}, expected a whole number >= 1")


def check_not_negative(judge: str, **values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not value >= 0:
            raise UsageError(f"{judge}: {name} is {value}, expected a number >= 0")


def check_mode(judge: str, mode: str, modes: Sequence[str]) -> None:
    if mode not in modes:
        raise UsageError(f"{judge}: mode {mode!r} is unknown: {suggest(mode, modes)}")


def answer_tokens(template: Template, form: Form, labels: Sequence[str], tokens: Tokens) -> int:
    """How long an answer that names one document may be.

    After a tail (`Passage`) a chat model gets a label's tokens and no more, one without chat one more in which it can
    end, as upstream; without a tail there is room for some words around the name.
    """
    if not template.tail:
        return max(tokens.length(form.written(i)) for i in range(len(form.names))) + _WORDS_AROUND
    return max(map(tokens.length, labels)) + (0 if template.turns else 1)
