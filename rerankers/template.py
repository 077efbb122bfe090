"""One prompt as data: strings with places, and the rules by which queries and documents come into them."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import UsageError
from ..models.calls import AttentionCall, Message, Prompt, Tokens
from ..records import Document
from .judges import TooLong
from .passages import PassageRules, fill, no_brackets, places, repaired


@dataclass(frozen=True)
class Template:
    """One prompt. A string's places are `{query}`, `{instruction}`, `{num}` (of passages), `{passages}` and `{ids}` (the
    answers' names, joined by commas); in what is repeated for each passage also `{id}` and `{passage}`.

    `verbs` are what it can ask (`judges.VERBS`). `turns` are a chat's, `{role: text}`, or `{each: turns}`, which stand
    there once a passage; `text` is a prompt without chat; `parts` is read once a passage, each by itself, by a
    Fusion-in-Decoder model. `passage` is a passage's form, `join` stands between two. `tail` is what the answer starts
    with already. `special`, `thinking` and `without_system` are `Prompt`'s.

    `ids` is the scheme of names where a judge gives none, letters or numbers, or `names` are the names themselves;
    `max_documents` may stand in one prompt. `answer_form` is how an answer names a document, `label_form` what of it
    comes after the tail, `separator` what stands between two answers. `labels` are the answers to a question about one
    document, or about two: the one that speaks for the document, or for the first, comes first.

    `instruction` is the default of what the task is, `instruction_form` how it stands in the prompt where there is one.
    `document` are the rules of passages. `query_form` is how the query stands in the prompt, after `query_strip` took
    its outer white space and `query_brackets` (numbers, letters) were replaced as in passages. `fit` cuts each passage to
    the same number of tokens so that the prompt has at most so many, and parts at their end. `ftfy` repairs the whole
    prompt: auto, or with HTML entities kept (keep). `null_query` calibrates attention. `source` is the upstream file.
    """

    name: str = ""
    verbs: frozenset[str] = frozenset()
    turns: tuple[Mapping[str, Any], ...] = ()
    text: str = ""
    parts: str = ""
    passage: str = "{passage}"
    join: str = ""
    tail: str = ""
    special: bool = True
    thinking: bool | None = None
    without_system: str = "\n\n"
    ids: str = ""
    names: tuple[str, ...] = ()
    max_documents: int | None = None
    answer_form: str = "{id}"
    label_form: str = "{id}"
    separator: str = " > "
    labels: tuple[str, ...] = ()
    instruction: str | None = None
    instruction_form: str = "{instruction}"
    document: PassageRules = field(default_factory=PassageRules)
    query_form: str = "{query}"
    query_strip: bool = False
    query_brackets: str = ""
    null_query: str = "N/A"
    fit: int | None = None
    ftfy: str = ""
    source: str = ""
    notes: str = ""

    @property
    def words(self) -> int | None:
        """Words that a passage is cut to by default."""
        return self.document.words

    @property
    def tokens(self) -> int | None:
        """Tokens that a passage is cut to by default."""
        return self.document.tokens

    def answer(self, name: str) -> str:
        """How an answer names a document: `[B]`, `Passage A`."""
        return fill(self.answer_form, {"id": name})

    def label(self, name: str) -> str:
        """What of an answer comes after the tail: `B` after `[`, ` A` after `Passage`."""
        return fill(self.label_form, {"id": name})

    def default_names(self, n: int) -> tuple[str, ...]:
        """Names of `n` documents by the template's scheme: A, B, … or 1, 2, …"""
        known = self.names or (tuple(string.ascii_uppercase) if self.ids == "letters" else ())
        if known and n > len(known):
            raise UsageError(f"template {self.name}: {n} documents, but its names are only {known[0]} to {known[-1]}")
        return known[:n] if known else tuple(str(i + 1) for i in range(n))

    def recut(self, words: int | None) -> Template:
        """This template with passages cut to `words` words in place of its own cut by words or tokens; None: itself."""
        if words is None:
            return self
        if words < 1:
            raise UsageError(f"template {self.name}: words is {words}, expected at least 1")
        return replace(self, document=replace(self.document, words=words, tokens=None))

    def prompt(
        self,
        query: str,
        documents: Sequence[Document],
        names: Sequence[str] = (),
        *,
        instruction: str | None = None,
        words: int | None = None,
        tokens: Tokens | None = None,
    ) -> Prompt:
        """The prompt that asks about `documents`, called by `names`. `words` replaces the template's own cut. `tokens` is
        the tokenizer, which a template that cuts by tokens needs. Raises `UsageError` for what the template can't hold."""
        cut = self.recut(words)
        values, each = cut._filled(query, documents, names, instruction, tokens)
        return cut._prompt(values, each, tokens)

    def attention(
        self,
        query: str,
        documents: Sequence[Document],
        names: Sequence[str] = (),
        *,
        words: int | None = None,
        tokens: Tokens | None = None,
    ) -> AttentionCall:
        """The call of a template whose `text` is read for attention: what is before the passages, they, what is between
        them and the query, the query in its form, what follows. `heads`, `chat` and `request` are left as they are."""
        if not {"passages", "query"} <= places(self.text):
            raise UsageError(
                f"template {self.name} is not made for attention: its text needs {{passages}} and {{query}}"
            )
        cut = self.recut(words)
        values, each = cut._filled(query, documents, names, None, tokens)
        head, _, rest = self.text.partition("{passages}")
        before, _, after = rest.partition("{query}")
        return AttentionCall(
            head=fill(head, values),
            passages=tuple(fill(self.passage, values | one) for one in each),
            before=fill(before, values),
            query=values["query"],
            after=fill(after, values),
            null_query=self._query(self.null_query),
            join=self.join,
        )

    # ---- filling ----------------------------------------------------------------------------------------------------

    def _filled(
        self,
        query: str,
        documents: Sequence[Document],
        names: Sequence[str],
        instruction: str | None,
        tokens: Tokens | None,
    ) -> tuple[dict[str, str], list[dict[str, str]]]:
        """Values of the prompt's places, and of each passage's."""
        self._check_count(len(documents), names)
        names = tuple(names) or self.default_names(len(documents))
        values = {
            "query": self._query(query),
            "num": str(len(documents)),
            "instruction": self._instruction(instruction),
        }
        values["ids"] = ", ".join(self.answer(name) for name in names)
        budget = self._budget(values, names, tokens)
        passages = [self.document.passage(document, tokens, budget) for document in documents]
        return values, [{"id": name, "passage": passage} for name, passage in zip(names, passages, strict=True)]

    def _prompt(self, values: dict[str, str], each: list[dict[str, str]], tokens: Tokens | None) -> Prompt:
        values = values | {"passages": self.join.join(fill(self.passage, values | one) for one in each)}
        turns: list[Message] = []
        for turn in self.turns:
            if "each" in turn:
                turns += [self._message(inner, values | one) for one in each for inner in turn["each"]]
            else:
                turns.append(self._message(turn, values))
        parts = [fill(self.parts, values | one) for one in each] if self.parts else []
        if self.fit is not None and tokens is not None:
            # One token is the end of sequence that the tokenizer adds.
            parts = [tokens.cut(part, self.fit - 1) for part in parts]
        return Prompt(
            messages=tuple(turns),
            text=self._repaired(fill(self.text, values)),
            tail=self.tail,
            thinking=self.thinking,
            special=self.special,
            without_system=self.without_system,
            parts=tuple(parts),
        )

    def _message(self, turn: Mapping[str, Any], values: dict[str, str]) -> Message:
        ((role, content),) = turn.items()
        return Message(role, self._repaired(fill(content, values)))

    def _repaired(self, text: str) -> str:
        return repaired(text, html="auto" if self.ftfy == "auto" else False) if self.ftfy and text else text

    def _query(self, query: str) -> str:
        query = no_brackets(query, self.query_brackets)
        return fill(self.query_form, {"query": query.strip() if self.query_strip else query})

    def _instruction(self, given: str | None) -> str:
        if given is not None and "{instruction}" not in "".join((self.text, self.parts, *map(str, self.turns))):
            raise UsageError(
                f"template {self.name} has no place for an instruction: leave it out or take another template"
            )
        chosen = self.instruction if given is None else given
        return "" if chosen is None else fill(self.instruction_form, {"instruction": chosen})

    def _check_count(self, n: int, names: Sequence[str]) -> None:
        wanted = 1 if self.verbs == {"score"} else 2 if self.verbs == {"prefer"} else None
        if wanted is not None and n != wanted:
            raise UsageError(f"template {self.name} asks about {wanted} document{'s' * (wanted > 1)}, not about {n}")
        if self.max_documents is not None and n > self.max_documents:
            raise UsageError(
                f"template {self.name} holds at most {self.max_documents} documents, not {n}: take smaller windows"
            )
        if names and len(names) != n:
            raise UsageError(f"template {self.name}: {len(names)} names for {n} documents")

    def _budget(self, values: dict[str, str], names: Sequence[str], tokens: Tokens | None) -> int | None:
        """Tokens that each passage may have; None where passages are not cut by tokens."""
        if self.tokens is None and self.fit is None:
            return None
        if tokens is None:
            raise UsageError(f"template {self.name} cuts by tokens: its prompt needs the tokenizer (tokens=…)")
        limits = [] if self.tokens is None else [self.tokens]
        if self.fit is not None and not self.parts:
            bare = self._prompt(values, [{"id": name, "passage": ""} for name in names], tokens)
            # One token less a passage, as upstream counts the end of sequence with each.
            limits.append((self.fit - tokens.count(bare)) // len(names) - 1)
            if limits[-1] < 1:
                raise TooLong(
                    f"template {self.name} fits prompts to {self.fit} tokens, and without any passage this one has "
                    f"{tokens.count(bare)} already: shorten the query"
                )
        return min(limits, default=None)
