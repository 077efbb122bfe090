"""Prompts as data: `rerankers/templates/*.yaml` hold the strings that checkpoints were trained on, byte for byte.

A file maps names to templates; the keys of a template are the fields of `Template`. A name that ends in `.yaml` is a file
with one template of a user's own.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError, UsageError, suggest
from ..models.calls import AttentionCall, Message, Prompt, Tokens
from ..records import Document
from .judges import VERBS, TooLong
from .passages import BRACKETS, PassageRules, fill, no_brackets, places, repaired

_FOLDER = Path(__file__).parent / "templates"
_ROLES = ("system", "user", "assistant")
#: What the places of a prompt, of a passage in it, and of an answer may be.
_PROMPT = {"query", "instruction", "num", "passages", "ids"}
_PASSAGE = {"query", "num", "id", "passage"}


@dataclass(frozen=True)
class Template:
    """One prompt. A string's places are `{query}`, `{instruction}`, `{num}` (of passages), `{passages}` and `{ids}` (the
    answers' names, joined by commas); in what is repeated for each passage also `{id}` and `{passage}`.

    `verbs` are what it can ask (`judges.VERBS`). `turns` are a chat's, `{role: text}`, or `{each: turns}`, which stand
    there once a passage; `text` is a prompt without chat. `parts` is read once a passage, each by itself, by a
    Fusion-in-Decoder model. `passage` is a passage's form, `join` stands between two. `tail` is what the answer starts
    with already. `special` and `thinking` are `Prompt`'s, `without_system` too.

    `ids` is the scheme of names where a judge gives none: letters, numbers, or the names themselves; `max_documents` how
    many documents may stand in one prompt. `answer_form` is how an answer names a document, `label_form` what of it
    comes after the tail, `separator` what stands between two answers. `labels` are the answers to a question about one
    document, or about two: the one that speaks for the document, or for the first, comes first.

    `instruction` is the default of what the task is, `instruction_form` how it stands in the prompt where there is one.
    `document` are the rules of passages, `query_brackets` those brackets of the query that are replaced. `query_words`
    and `fit` cut: the query to so many words; passages so that the prompt has at most `fit` tokens, each the same
    number. `ftfy` repairs the text of every turn, with HTML entities kept. `source` is the upstream file.
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
    query_brackets: str = ""
    fit: int | None = None
    ftfy: bool = False
    source: str = ""
    notes: str = ""

    @property
    def words(self) -> int | None:
        """Words that a passage is cut to by default."""
        return self.document.words

    @property
    def tokens(self) -> int | None:
        """Tokens that a passage is cut to."""
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
            raise UsageError(f"template {self.name}: {n} documents, but only the names {known[0]} to {known[-1]}")
        return known[:n] if known else tuple(str(i + 1) for i in range(n))

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
        """The prompt that asks about `documents`, called by `names`. `words` replaces the template's cut. `tokens` is
        the tokenizer, which a template that cuts by tokens needs. Raises `UsageError` for what the template can't hold."""
        values, each = self._filled(query, documents, names, instruction, words, tokens)
        return self._prompt(values, each)

    def attention(
        self,
        query: str,
        documents: Sequence[Document],
        names: Sequence[str] = (),
        *,
        words: int | None = None,
        tokens: Tokens | None = None,
    ) -> AttentionCall:
        """The call of a template whose text is read for attention: before the passages, they, the query, the rest."""
        if not self.text or not {"passages", "query"} <= places(self.text):
            raise UsageError(
                f"template {self.name} is not one for attention: its text needs {{passages}} and {{query}}"
            )
        values, each = self._filled(query, documents, names, None, words, tokens)
        head, _, rest = self.text.partition("{passages}")
        before, _, after = rest.partition("{query}")
        passages = tuple(fill(self.passage, values | one) for one in each)
        head, before, after = (fill(part, values) for part in (head, before, after))
        return AttentionCall(head, passages, before, values["query"], after)

    # ---- filling ----------------------------------------------------------------------------------------------------

    def _filled(
        self,
        query: str,
        documents: Sequence[Document],
        names: Sequence[str],
        instruction: str | None,
        words: int | None,
        tokens: Tokens | None,
    ) -> tuple[dict[str, str], list[dict[str, str]]]:
        """Values of the prompt's places, and of each passage's."""
        self._check_count(documents, names)
        names = tuple(names) or self.default_names(len(documents))
        values = {"query": no_brackets(query, self.query_brackets), "num": str(len(documents))}
        values["instruction"] = self._instruction(instruction)
        values["ids"] = ", ".join(self.answer(name) for name in names)
        words = self.words if words is None else words
        budget = self._budget(values, names, tokens)
        passages = [self.document.passage(document, words, tokens, budget) for document in documents]
        return values, [{"id": name, "passage": passage} for name, passage in zip(names, passages, strict=True)]

    def _prompt(self, values: dict[str, str], each: list[dict[str, str]]) -> Prompt:
        passages = [fill(self.passage, values | one) for one in each]
        values = values | {"passages": self.join.join(passages)}
        turns: list[Message] = []
        for turn in self.turns:
            if "each" in turn:
                turns += [_message(inner, values | one) for one in each for inner in turn["each"]]
            else:
                turns.append(_message(turn, values))
        if self.ftfy:
            turns = [Message(turn.role, repaired(turn.content, html=False)) for turn in turns]
        parts = tuple(fill(self.parts, values | one) for one in each) if self.parts else ()
        return Prompt(
            tuple(turns),
            fill(self.text, values),
            self.tail,
            self.thinking,
            self.special,
            without_system=self.without_system,
            parts=parts,
        )

    def _instruction(self, given: str | None) -> str:
        used = {"instruction"} & places(self.text + "".join(map(str, self.turns)))
        if given is not None and not used:
            raise UsageError(
                f"template {self.name} has no place for an instruction: leave it out or take another template"
            )
        chosen = self.instruction if given is None else given
        return "" if chosen is None else fill(self.instruction_form, {"instruction": chosen})

    def _check_count(self, documents: Sequence[Document], names: Sequence[str]) -> None:
        n = len(documents)
        wanted = 1 if self.verbs == {"score"} else 2 if self.verbs == {"prefer"} else None
        if wanted is not None and n != wanted:
            raise UsageError(f"template {self.name} asks about {wanted} document(s), got {n}")
        if self.max_documents is not None and n > self.max_documents:
            raise UsageError(
                f"template {self.name} holds at most {self.max_documents} documents, got {n}: smaller windows"
            )
        if names and len(names) != n:
            raise UsageError(f"template {self.name}: {len(names)} names for {n} documents")

    def _budget(self, values: dict[str, str], names: Sequence[str], tokens: Tokens | None) -> int | None:
        """Tokens that each passage may have; None where nothing is cut by tokens."""
        if self.tokens is None and self.fit is None:
            return None
        if tokens is None:
            raise UsageError(f"template {self.name} cuts by tokens: a prompt of it needs the tokenizer (tokens=)")
        limits = [] if self.tokens is None else [self.tokens]
        if self.fit is not None:
            bare = self._prompt(values, [{"id": name, "passage": ""} for name in names])
            # One token a passage less, as upstream counts an end of sequence with each.
            limits.append(max(0, (self.fit - tokens.count(bare)) // max(1, len(names)) - 1))
        return min(limits)


def _message(turn: Mapping[str, Any], values: dict[str, str]) -> Message:
    ((role, content),) = turn.items()
    return Message(role, fill(content, values))


def shrink(
    template: Template,
    query: str,
    documents: Sequence[Document],
    names: Sequence[str],
    tokens: Tokens,
    reserve: int,
    *,
    instruction: str | None = None,
    words: int | None = None,
) -> tuple[Prompt, int]:
    """The prompt, with passages shortened until it leaves `reserve` of the model's tokens free, and 1 if they were.

    Each step takes max(1, overflow // (4 · documents)) words off every passage's limit (rank_llm's and FIRST's rule).
    Raises `TooLong` when one word a passage is still too much.
    """
    limit = template.words if words is None else words
    prompt = template.prompt(query, documents, names, instruction=instruction, words=limit, tokens=tokens)
    overflow = _overflow(prompt, tokens, reserve)
    if overflow <= 0:
        return prompt, 0
    longest = max((len(template.document.content(document).split()) for document in documents), default=0)
    # Limits that cut nothing would only count down to the longest passage; a template's own limit is upstream's start.
    limit = longest if limit is None else limit
    while overflow > 0:
        if limit <= 1:
            raise TooLong(
                f"the prompt has {overflow} tokens more than the model's {tokens.limit} allow with {reserve} for the answer, "
                f"even with one word of each of {len(documents)} passages: ask for fewer documents at a time"
            )
        limit = max(1, limit - max(1, overflow // (4 * len(documents))))
        prompt = template.prompt(query, documents, names, instruction=instruction, words=limit, tokens=tokens)
        overflow = _overflow(prompt, tokens, reserve)
    return prompt, 1


def _overflow(prompt: Prompt, tokens: Tokens, reserve: int) -> int:
    return 0 if tokens.limit is None else tokens.count(prompt) - (tokens.limit - reserve)


# ---- loading --------------------------------------------------------------------------------------------------------


def template_names() -> list[str]:
    """All shipped templates."""
    return sorted(_shipped())


def load_template(name: str) -> Template:
    """The shipped template `name`, or the one in the file `name`. Unknown names raise with the nearest spelling."""
    if name in _shipped():
        return _shipped()[name]
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"the template file {name} does not exist")
        return _template(name, _read(path), path)
    raise UsageError(f"template {name!r} is unknown: {suggest(name, _shipped())}")


@cache
def _shipped() -> dict[str, Template]:
    found: dict[str, Template] = {}
    for path in sorted(_FOLDER.glob("*.yaml")):
        for name, content in _read(path).items():
            if name in found:
                raise InputError(f"{path}: the template {name} is in another file too: rename one")
            found[name] = _template(name, content, path)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping, found {type(content).__name__}")
    return content


def _template(name: str, content: Any, path: Path) -> Template:
    where = f"{path}: the template {name}"
    values = dict(_checked(where, content, Template, {"name"}))
    values["document"] = PassageRules(**_checked(f"{where}: document", values.get("document", {}), PassageRules, set()))
    for key in ("turns", "names", "labels"):
        values[key] = tuple(values.get(key, ()))
    template = Template(name=name, **values | {"verbs": frozenset(values.get("verbs", ()))})
    _check_values(where, template)
    return template


def _checked(where: str, content: Any, cls: Any, hidden: set[str]) -> dict[str, Any]:
    known = {f.name: f.type for f in fields(cls) if f.name not in hidden}
    if not isinstance(content, dict):
        raise InputError(f"{where} is {content!r}, expected a mapping")
    for key in content:
        if key not in known:
            raise InputError(f"{where} has the unknown key {key!r}: {suggest(str(key), known)}")
    return content


def _check_values(where: str, template: Template) -> None:
    """Refuse what could only fail, or say nothing, when a prompt is filled."""
    for verb in template.verbs - set(VERBS):
        raise InputError(f"{where}: verb {verb!r} is unknown: {suggest(str(verb), VERBS)}")
    if not template.verbs:
        raise InputError(f"{where} has no verbs: add what it asks ({', '.join(VERBS)})")
    if sum(map(bool, (template.turns, template.text, template.parts))) != 1:
        raise InputError(f"{where} needs one of turns, text, parts")
    for kind in (template.document.brackets, template.query_brackets):
        if kind and kind not in BRACKETS:
            raise InputError(f"{where}: brackets are {kind!r}, expected {' or '.join(BRACKETS)}")
    if template.ids not in ("", "letters", "numbers"):
        raise InputError(f"{where}: ids are {template.ids!r}, expected letters or numbers")
    for allowed, form in _forms(where, template):
        for place in places(form) - allowed:
            raise InputError(f"{where}: {{{place}}} can't be filled: {suggest(place, allowed)}")


def _forms(where: str, template: Template) -> list[tuple[set[str], str]]:
    """Every string with places, and what these may be."""
    forms = [(_PROMPT, template.text), (_PASSAGE, template.passage), (_PASSAGE | {"instruction"}, template.parts)]
    forms += [({"id"}, template.answer_form), ({"id"}, template.label_form)]
    forms += [({"instruction"}, template.instruction_form), ({"title", "text"}, template.document.titled)]
    for turn in template.turns:
        inner = turn.get("each", [turn])
        for one in inner:
            if not isinstance(one, dict) or len(one) != 1 or next(iter(one)) not in _ROLES:
                raise InputError(f"{where}: the turn {one!r} is not one of {', '.join(_ROLES)} with its text")
            forms.append((_PASSAGE if "each" in turn else _PROMPT, str(next(iter(one.values())))))
    return forms
