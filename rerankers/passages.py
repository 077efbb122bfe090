"""How a document becomes the passage of a prompt: title, repair, cut, brackets. Each rule is data of a template."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..errors import require
from ..models.calls import Tokens
from ..records import Document

#: Ids in brackets that a passage may not forge, `[12]` becomes `(12)`: what upstream replaces, byte for byte. The class
#: `A-z` of FIRST's own code also has `[ \ ] ^ _` and the backtick.
BRACKETS = {"numbers": re.compile(r"\[(\d+)\]"), "letters": re.compile(r"\[([A-z]+)\]")}

_PLACE = re.compile(r"\{([a-z]+)\}")


@dataclass(frozen=True)
class PassageRules:
    """What is done to a document, in this order.

    `titled` is the form of a document with a title, of `{title}` and `{text}`; one without is its text. `drop` are
    strings that are taken out. `strip` takes white space from both ends. `ftfy` repairs broken Unicode. `words` keeps so
    many words, with one space between them; with `spaces` it keeps so many pieces between single spaces of the text
    alone, before the title is put to it, and all white space. `tokens` keeps so many of the tokenizer's tokens.
    `brackets` are the ids that change `[12]` into `(12)`: numbers, letters, or none of them; `brackets_first` does so
    before the cut by tokens.
    """

    titled: str = "{title} {text}"
    drop: tuple[str, ...] = ()
    strip: bool = False
    ftfy: bool = False
    words: int | None = None
    spaces: bool = False
    tokens: int | None = None
    brackets: str = ""
    brackets_first: bool = False

    def longest(self, document: Document) -> int:
        """The number of words, as `words` counts them, from which on nothing is cut."""
        return len(document.text.split(" ") if self.spaces else self._text(document, None).split())

    def passage(self, document: Document, tokens: Tokens | None = None, budget: int | None = None) -> str:
        """The passage, cut by words and to `budget` tokens where that is a number."""
        return _passage(self, document, _Same(tokens), budget)

    def _text(self, document: Document, words: int | None) -> str:
        body = document.text if words is None else " ".join(document.text.split(" ")[:words])
        text = fill(self.titled, {"title": document.title, "text": body}) if document.title else body
        for unwanted in self.drop:
            text = text.replace(unwanted, "")
        text = text.strip() if self.strip else text
        return repaired(text) if self.ftfy else text

    def _passage(self, document: Document, tokens: Tokens | None, budget: int | None) -> str:
        text = self._text(document, self.words if self.spaces else None)
        if self.words is not None and not self.spaces:
            text = " ".join(text.split()[: self.words])
        if self.brackets_first:
            text = no_brackets(text, self.brackets)
        if budget is not None and tokens is not None:
            text = tokens.cut(text, budget)
        return no_brackets(text, self.brackets)


class _Same:
    """The identity of an object as a key."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.thing is self.thing

    def __hash__(self) -> int:
        return id(self.thing)


@lru_cache(maxsize=2048)
def _passage(rules: PassageRules, document: Document, tokens: _Same, budget: int | None) -> str:
    """Kept, because sorts show the same document again and again."""
    return rules._passage(document, tokens.thing, budget)


def no_brackets(text: str, kind: str) -> str:
    """`[12]` as `(12)` for kind `numbers`, `[A]` as `(A)` for `letters`; the text itself for ``."""
    return BRACKETS[kind].sub(r"(\1)", text) if kind else text


def repaired(text: str, html: str | bool = "auto") -> str:
    """The text with its Unicode repaired by ftfy: mojibake, curly quotes, ligatures, control characters. `html` False
    keeps entities such as `&lt;`; auto resolves them up to the first line with a `<`."""
    if html == "auto":
        return _fixed(text, html)
    # ftfy goes line by line, and lines depend on each other in the mode auto only. Plain ASCII has nothing to repair.
    lines = re.split(r"(?<=\n)", text)
    return "".join(
        line if line.isascii() and line.removesuffix("\n").isprintable() else _fixed(line, html) for line in lines
    )


@lru_cache(maxsize=4096)
def _fixed(text: str, html: str | bool) -> str:
    fixed: str = require("ftfy", "a prompt template with ftfy").fix_text(text, unescape_html=html)
    return fixed


def places(form: str) -> set[str]:
    """The names of a form's places: `{query}` has `query`."""
    return set(_PLACE.findall(form))


def fill(form: str, values: Mapping[str, str]) -> str:
    """The form with its places filled, each once: braces in a value stay as they are."""
    return _PLACE.sub(lambda place: values[place[1]], form)
