"""Prompts as data: `rerankers/templates/*.yaml` hold the strings that checkpoints were trained on, byte for byte.

A file maps names to templates, whose keys are the fields of `Template`. A name that ends in `.yaml` is a user's own file
with the keys of one template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from ..errors import InputError, UsageError, suggest
from ..models.calls import Prompt, Tokens
from ..records import Document
from ..registry import check_type
from ..yaml_files import read_entries, read_mapping
from .judges import VERBS, TooLong
from .passages import BRACKETS, PassageRules, places
from .template import Template

__all__ = ["Template", "load_template", "shrink", "template_names"]

_FOLDER = Path(__file__).parent / "templates"
_ROLES = ("system", "user", "assistant")
#: The places of a prompt, and of what stands there once a passage.
_PROMPT = {"query", "instruction", "num", "passages", "ids"}
_PASSAGE = {"query", "instruction", "num", "id", "passage"}
_CHOICES = {"ids": ("", "letters", "numbers"), "ftfy": ("", "auto", "keep"), "query_brackets": ("", *BRACKETS)}


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

    Each step takes max(1, overflow // (4 · documents)) words off every passage's limit: the rule of rank_llm and FIRST.
    `words` replaces the template's own cut, which the rule starts from. Raises `TooLong` when one word a passage is
    still too much.
    """
    chosen = template.recut(words)
    prompt = chosen.prompt(query, documents, names, instruction=instruction, tokens=tokens)
    overflow = _overflow(prompt, tokens, reserve)
    if overflow <= 0:
        return prompt, 0
    limit = chosen.words or max((chosen.document.longest(document) for document in documents), default=0)
    while overflow > 0:
        if limit <= 1:
            raise TooLong(
                f"the prompt has {overflow} tokens too many for the model's {tokens.limit} less {reserve} for the answer, "
                f"even with one word of each of the {len(documents)} passages: show fewer documents at a time"
            )
        limit = max(1, limit - max(1, overflow // (4 * len(documents))))
        shorter = replace(chosen, document=replace(chosen.document, words=limit))
        prompt = shorter.prompt(query, documents, names, instruction=instruction, tokens=tokens)
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
        return _template(path.stem, read_mapping(path), path)
    raise UsageError(f"template {name!r} is unknown: {suggest(name, _shipped())}; a file's name ends in .yaml")


@cache
def _shipped() -> dict[str, Template]:
    return read_entries(_FOLDER, _template, "the template {} is in another file too: rename one")


def _template(name: str, content: Any, path: Path) -> Template:
    where = f"{path}: the template {name}"
    values = _values(where, content, Template, {"name"})
    values["document"] = PassageRules(**_values(f"{where}: document", values.get("document", {}), PassageRules, set()))
    values["verbs"] = frozenset(values.get("verbs", ()))
    template = Template(name=name, **values)
    _check(where, template)
    return template


def _values(where: str, content: Any, cls: Any, hidden: set[str]) -> dict[str, Any]:
    """The fields of `cls` that a file gives, lists as tuples; unknown names and wrong types raise."""
    if not isinstance(content, dict):
        raise InputError(f"{where} is {content!r}, expected a mapping")
    known = [f.name for f in fields(cls) if f.name not in hidden]
    kinds = get_type_hints(cls)
    for key, value in content.items():
        if key not in known:
            raise InputError(f"{where} has the unknown key {key!r}: {suggest(str(key), known)}")
        kind: Any = Mapping if is_dataclass(kinds[key]) else kinds[key]  # its own fields are looked at apart
        if str(kind).startswith(("tuple", "frozenset")) and not isinstance(value, list):
            raise InputError(f"{where}: {key} is {value!r}, expected a list")
        try:
            check_type(f"{where}: {key}", value, kind)
        except UsageError as error:
            raise InputError(str(error)) from error
    return {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}


def _check(where: str, template: Template) -> None:
    """Refuse what could only fail, or say nothing, when a prompt is filled."""
    for verb in template.verbs - set(VERBS):
        raise InputError(f"{where}: the verb {verb!r} is unknown: {suggest(str(verb), VERBS)}")
    if not template.verbs:
        raise InputError(f"{where} has no verbs: say what it asks ({', '.join(VERBS)})")
    if sum(map(bool, (template.turns, template.text, template.parts))) != 1:
        raise InputError(f"{where} needs one of turns, text and parts")
    given = {name: getattr(template, name) for name in _CHOICES} | {"document: brackets": template.document.brackets}
    for key, value in given.items():
        known = _CHOICES.get(key, _CHOICES["query_brackets"])
        if value not in known:
            raise InputError(f"{where}: {key} is {value!r}, expected {' or '.join(filter(None, known))}")
    for allowed, form in _forms(where, template):
        for place in places(form) - allowed:
            raise InputError(f"{where}: {{{place}}} can't be filled there: {suggest(place, allowed)}")


def _forms(where: str, template: Template) -> Iterator[tuple[set[str], str]]:
    """Every string with places, and what these may be."""
    yield _PROMPT, template.text
    yield _PASSAGE, template.passage
    yield _PASSAGE, template.parts
    yield {"id"}, template.answer_form
    yield {"id"}, template.label_form
    yield {"query"}, template.query_form
    yield {"instruction"}, template.instruction_form
    yield {"title", "text"}, template.document.titled
    for turn in template.turns:
        repeated = isinstance(turn, dict) and "each" in turn
        for one in turn["each"] if repeated else [turn]:
            if not isinstance(one, dict) or len(one) != 1 or next(iter(one)) not in _ROLES:
                raise InputError(f"{where}: the turn {one!r} is not one of {', '.join(_ROLES)} with its text")
            yield _PASSAGE if repeated else _PROMPT, str(next(iter(one.values())))
