"""How a document becomes the passage of a prompt: title, repair, cut, brackets. Each rule is data of a template."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import require
from ..models.calls import Tokens
from ..records import Document

#: Ids in brackets that a passage may not forge, `[12]` becomes `(12)`: what upstream replaces, byte for byte. The class
#: `A-z` of FIRST's own code also has `[ \ ] ^ _` and the backtick.
BRACKETS = {"numbers": re.compile(r"\[(\d+)\]"), "letters": re.compile(r"\[([A-z]+)\]")}


@dataclass(frozen=True)
class PassageRules:
    """What is done to a document, in this order.

    `titled` is the form of a document with a title, of `{title}` and `{text}`; one without is its text. `drop` are
    strings that are taken out. `strip` takes white space from both ends. `ftfy` repairs broken Unicode. `words` keeps so
    many words and puts one space between them; `tokens` keeps so many of the tokenizer's tokens, `characters` so many
    characters. `brackets` are the ids that change `[12]` into `(12)`: numbers, letters, or none of them.
    """

    titled: str = "{title} {text}"
    drop: tuple[str, ...] = ()
    strip: bool = False
    ftfy: bool = False
    words: int | None = None
    tokens: int | None = None
    characters: int | None = None
    brackets: str = ""

    def content(self, document: Document) -> str:
        """The document before it is cut."""
        text = document.text
        if document.title:
            text = fill(self.titled, {"title": document.title, "text": document.text})
        for unwanted in self.drop:
            text = text.replace(unwanted, "")
        text = text.strip() if self.strip else text
        return repaired(text) if self.ftfy else text

    def passage(self, document: Document, words: int | None, tokens: Tokens | None, budget: int | None) -> str:
        """The passage, cut to `words` words and to `budget` tokens where these are numbers."""
        text = self.content(document)
        if words is not None:
            text = " ".join(text.split()[:words])
        if budget is not None and tokens is not None:
            text = tokens.cut(text, budget)
        if self.characters is not None:
            text = text[: self.characters]
        return no_brackets(text, self.brackets)


def no_brackets(text: str, kind: str) -> str:
    """`[12]` as `(12)` for kind `numbers`, `[A]` as `(A)` for `letters`; the text itself for ``."""
    return BRACKETS[kind].sub(r"(\1)", text) if kind else text


def repaired(text: str, html: str | bool = "auto") -> str:
    """The text with its Unicode repaired by ftfy: mojibake, curly quotes, ligatures, control characters. `html` False
    keeps entities such as `&lt;`; auto resolves them where the text has no `<`."""
    fixed: str = require("ftfy", "this prompt's template (ftfy: true)").fix_text(text, unescape_html=html)
    return fixed


_PLACE = re.compile(r"\{([a-z]+)\}")


def places(form: str) -> set[str]:
    """The names of a form's places: `{query}` has `query`."""
    return set(_PLACE.findall(form))


def fill(form: str, values: dict[str, str]) -> str:
    """The form with its places filled, each once: braces in a value stay as they are."""
    return _PLACE.sub(lambda place: values[place[1]], form)
