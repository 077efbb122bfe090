"""Compiled: the stemmer of Porter (Program 14, 1980), as Lucene has it: with the changes of its author's own program.

Those are: words of two letters stay, `bli` becomes `ble` (not `abli` `able`), and `logi` becomes `log`.

A word is an array of UTF-16 units in lower case. Units that are no vowel of a to z are consonants, whatever they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .compiling import compiled

_D, _E, _I, _L, _S, _W, _X, _Y, _Z = (ord(c) for c in "deilswxyz")
_VOWELS = (ord("a"), ord("e"), ord("i"), ord("o"), ord("u"))


def _rules(*pairs: str) -> Any:
    """Rows (16,) of lengths of suffix and replacement, then 7 places for each, of `suffix:replacement`; longer ones first."""
    table = np.zeros((len(pairs), 16), np.int64)
    for row, pair in zip(table, pairs, strict=True):
        old, _, new = pair.partition(":")
        row[:2] = len(old), len(new)
        row[2 : 2 + len(old)] = list(map(ord, old))
        row[9 : 9 + len(new)] = list(map(ord, new))
    return table


_PAST = _rules("ed:", "ing:")
_REPAIR = _rules("at:ate", "bl:ble", "iz:ize")
_STEP_2 = _rules(
    *("ational:ate", "tional:tion", "enci:ence", "anci:ance", "izer:ize", "bli:ble", "alli:al", "entli:ent", "eli:e"),
    *("ousli:ous", "ization:ize", "ation:ate", "ator:ate", "alism:al", "iveness:ive", "fulness:ful", "ousness:ous"),
    *("aliti:al", "iviti:ive", "biliti:ble", "logi:log"),
)
_STEP_3 = _rules("icate:ic", "ative:", "alize:al", "iciti:ic", "ical:ic", "ful:", "ness:")
_STEP_4 = _rules(
    *("al:", "ance:", "ence:", "er:", "ic:", "able:", "ible:", "ant:", "ement:", "ment:", "ent:", "sion:s", "tion:t"),
    *("ou:", "ism:", "ate:", "iti:", "ous:", "ive:", "ize:"),
)


@compiled
def _consonant(word: Any, i: int) -> Any:
    """y is a consonant at the beginning and after a vowel."""
    c = word[i]
    if c in _VOWELS:
        return False
    if c != _Y:
        return True
    consonant = True
    first = i
    while first > 0 and word[first - 1] == _Y:
        first -= 1
    if first > 0:
        before = word[first - 1]
        consonant = before in _VOWELS
    return consonant if (i - first) % 2 == 0 else not consonant


@compiled
def _measure(word: Any, size: int) -> int:
    """How often a vowel is followed by a consonant."""
    count, vowel = 0, False
    for i in range(size):
        if _consonant(word, i):
            count += vowel
            vowel = False
        else:
            vowel = True
    return count


@compiled
def _has_vowel(word: Any, size: int) -> bool:
    for i in range(size):  # noqa: SIM110  # numba knows no `any`
        if not _consonant(word, i):
            return True
    return False


@compiled
def _double(word: Any, size: int) -> Any:
    return size > 1 and word[size - 1] == word[size - 2] and _consonant(word, size - 1)


@compiled
def _short(word: Any, size: int) -> Any:
    """Ends in consonant, vowel, consonant, and the last is none of w, x, y."""
    if size < 3 or not _consonant(word, size - 1) or _consonant(word, size - 2) or not _consonant(word, size - 3):
        return False
    last = word[size - 1]
    return last != _W and last != _X and last != _Y


@compiled
def _matching(word: Any, size: int, rules: Any) -> int:
    """The first rule whose suffix the word has, or -1."""
    for r in range(len(rules)):
        length = rules[r, 0]
        if length <= size:
            equal = True
            for i in range(length):
                if word[size - length + i] != rules[r, 2 + i]:
                    equal = False
                    break
            if equal:
                return r
    return -1


@compiled
def _replaced(word: Any, size: int, rules: Any, r: int) -> int:
    """The size of the word after rule `r`."""
    stem = size - rules[r, 0]
    for i in range(rules[r, 1]):
        word[stem + i] = rules[r, 9 + i]
    after: int = stem + rules[r, 1]
    return after


@compiled
def _if_measured(word: Any, size: int, rules: Any, least: int) -> int:
    """The size after the matching rule, if the stem before its suffix measures at least `least`."""
    r = _matching(word, size, rules)
    if r < 0:
        return size
    stem = size - rules[r, 0]
    if least == 2:  # step 4: the s or t before `ion` stays and counts
        stem += rules[r, 1]
    return _replaced(word, size, rules, r) if _measure(word, stem) >= least else size


@compiled
def _plural_and_past(word: Any, size: int) -> int:
    if word[size - 1] == _S:
        before_es = size > 2 and word[size - 2] == _E
        if before_es and (word[size - 3] == _I or (size > 3 and word[size - 3] == _S and word[size - 4] == _S)):
            size -= 2
        elif word[size - 2] != _S:
            size -= 1
    if size > 2 and word[size - 1] == _D and word[size - 2] == _E and word[size - 3] == _E:
        return size - 1 if _measure(word, size - 3) > 0 else size
    r = _matching(word, size, _PAST)
    if r < 0 or not _has_vowel(word, size - _PAST[r, 0]):
        return size
    size = _replaced(word, size, _PAST, r)
    r = _matching(word, size, _REPAIR)
    if r >= 0:
        return _replaced(word, size, _REPAIR, r)
    last = word[size - 1]
    if _double(word, size):
        return size if last in (_L, _S, _Z) else size - 1
    if _measure(word, size) == 1 and _short(word, size):
        word[size] = _E
        return size + 1
    return size


@compiled
def stem(word: Any, size: int) -> int:
    """Stem the first `size` units of `word` in place; returns the new size, which is never larger."""
    if size < 3:
        return size
    size = _plural_and_past(word, size)
    if word[size - 1] == _Y and _has_vowel(word, size - 1):
        word[size - 1] = _I
    size = _if_measured(word, size, _STEP_2, 1)
    size = _if_measured(word, size, _STEP_3, 1)
    size = _if_measured(word, size, _STEP_4, 2)
    whole = size
    if word[size - 1] == _E:
        measure = _measure(word, size - 1)
        if measure > 1 or (measure == 1 and not _short(word, size - 1)):
            size -= 1
    if word[size - 1] == _L and _double(word, size) and _measure(word, whole) > 1:
        size -= 1
    return size


def stemmed(word: str) -> str:
    """The stem of a word in lower case."""
    units = np.frombuffer(word.encode("utf-16-le", "surrogatepass"), np.uint16).copy()
    return units[: stem(units, len(units))].tobytes().decode("utf-16-le", "surrogatepass")
