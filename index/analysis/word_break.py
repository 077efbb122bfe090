"""Words as Lucene's StandardTokenizer cuts them: the word boundaries of Unicode Standard Annex 29, with emoji (UTS 51).

A token is the longest run of characters, from where the last one ended, that one of the rules below allows. Han and
Hiragana characters are tokens of their own, runs of Thai, Lao, Khmer and Myanmar are one token; what no rule allows is
skipped. The names are those of the classes in word_break.txt. Compared with Lucene 9.9 in tests/index/test_analysis.py.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .automaton import Expression, deterministic, either, maybe, plus, star, then

_TABLE = Path(__file__).with_name("word_break.txt")

#: Code points from here on are in no token; below, all have an entry in `Rules.classes`.
END = 0xE01F0


class Rules(NamedTuple):
    """The tokenizer as arrays: the class of each code point, next states (states, classes), and which states accept."""

    classes: np.ndarray
    moves: np.ndarray
    accepting: np.ndarray


@cache
def rules() -> Rules:
    numbers: dict[str, int] = {"Other": 0}
    classes = np.zeros(END, np.uint8)
    for line in _TABLE.read_text("ascii").splitlines():
        if not line.startswith("#"):
            name, *spans = line.split()
            number = numbers.setdefault(name, len(numbers))
            for span in spans:
                first, _, last = span.partition("-")
                classes[int(first, 16) : int(last or first, 16) + 1] = number
    moves, accepting = deterministic(_token(numbers), len(numbers))
    return Rules(classes, moves, accepting)


def _token(numbers: dict[str, int]) -> Expression:
    """All rules in one expression. WB4: marks and formats belong to the character before them."""

    def of(*names: str) -> Expression:
        return frozenset(numbers[name] for name in names)

    unselected = of("Extend", "SouthEastAsianExtend", "KeyCap", "ZWJ", "EmojiModifier", "TagSpec", "TagTerm")
    marks = star(either(unselected, of("TextSelector", "EmojiSelector")))

    def marked(*names: str) -> Expression:
        return then(of(*names), marks)

    letter = marked("ALetter", "LetterPictograph", "HebrewLetter")
    hebrew = marked("HebrewLetter")
    numeric = marked("Digit", "Numeric")
    katakana = marked("Katakana")
    joiner = marked("ExtendNumLet")  # as the underscore: WB13a, WB13b
    in_word = marked("MidLetter", "MidNumLet", "SingleQuote")
    in_number = marked("MidNum", "MidNumLet", "SingleQuote")

    def run(one: Expression, *between: Expression) -> Expression:
        return then(one, star(then(either(star(joiner), *between), one)))

    number = run(numeric, in_number)  # WB8, WB11, WB12
    quoted = then(hebrew, either(marked("SingleQuote"), then(marked("DoubleQuote"), hebrew)))  # WB7a to WB7c
    part = either(run(katakana), plus(either(quoted, number, run(letter, in_word))))  # WB5 to WB10, WB13
    word = then(star(joiner), part, star(then(plus(joiner), part)), star(joiner))

    selectable = then(star(unselected), maybe(of("EmojiSelector")))
    pictured = either(
        then(star(of("ZWJ")), of("Pictograph", "LetterPictograph"), selectable),
        then(of("EmojiModifier"), star(unselected)),
    )
    tagged = then(plus(of("TagSpec")), of("TagTerm"))
    key_cap = then(of("KeyCapBase", "Digit"), selectable, of("KeyCap"), star(unselected))
    return either(
        word,
        then(pictured, either(star(then(of("ZWJ"), pictured)), tagged)),
        key_cap,
        then(marked("RegionalIndicator"), marked("RegionalIndicator")),
        plus(marked("SouthEastAsian", "SouthEastAsianExtend")),
        marked("Han"),
        marked("Hiragana"),
    )
