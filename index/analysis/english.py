"""English text to terms as Anserini's DefaultEnglishAnalyzer makes them, in compiled code.

Words are cut by Unicode's rules (word_break.py), lose a final 's, are put into lower case; stop words go; what is left is
stemmed (porter.py). Each distinct word is stemmed once: what it becomes is remembered.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from .word_break import rules
from .words import Words, enlarged

#: Lucene's, of its English analyzer.
STOP_WORDS = (
    *("a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no", "not", "of"),
    *(
        "on",
        "or",
        "such",
        "that",
        "the",
        "their",
        "then",
        "there",
        "these",
        "they",
        "this",
        "to",
        "was",
        "will",
        "with",
    ),
)

#: Tokens that are looked up at a time; room for as many new words is made before.
_TOKENS = 1 << 16

#: Capital letters end here.
_CASED = 0x1E944


class Terms(NamedTuple):
    """The terms of some texts in order: text i has `numbers[offsets[i]:offsets[i + 1]]`, all stop words left out."""

    numbers: np.ndarray  #: (n,) int32
    offsets: np.ndarray  #: (texts + 1,) int64


class EnglishAnalyzer:
    """Analyses texts, and numbers the terms that it has met from 0 in the order in which they came. Safe for threads."""

    def __init__(self) -> None:
        self._rules = rules()
        self._lower = _lower_case()
        self._tokens, self._terms = Words(), Words()
        self._meanings = np.full(len(self._tokens.hashes), -1, np.int32)
        self._counts = np.zeros(2, np.int64)
        self._lock = threading.Lock()
        self.number(STOP_WORDS)  # their terms are taken back
        self._meanings[:] = -1
        self._terms = Words()
        self._counts[1] = 0

    def __len__(self) -> int:
        """How many distinct terms there were."""
        return int(self._counts[1])

    def terms(self, first: int, last: int) -> list[str]:
        """The terms numbered first..last."""
        return self._terms.texts(first, last)

    def analyze(self, texts: Sequence[str]) -> list[list[str]]:
        """The terms of each text in order."""
        numbers, offsets = self.number(texts)
        words = np.array(self.terms(0, len(self)), object)[numbers].tolist() if len(numbers) else []
        bounds = offsets.tolist()
        return [words[a:b] for a, b in itertools.pairwise(bounds)]

    def number(self, texts: Sequence[str]) -> Terms:
        """The terms of each text, as numbers. Takes about 12 bytes of memory a character for the time being."""
        data = [text.encode("utf-16-le", "surrogatepass") for text in texts]
        ends = np.cumsum([0, *(len(units) // 2 for units in data)])
        units = np.frombuffer(b"".join(data), np.uint16)
        spans, counts = self._tokens_of(units, ends)
        with self._lock:
            numbers = self._numbers(units, spans)
        kept = np.concatenate([[0], np.cumsum(numbers >= 0)])
        return Terms(numbers[numbers >= 0], kept[np.concatenate([[0], np.cumsum(counts)])].astype(np.int64))

    def _tokens_of(self, units: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        from .loops import find_all_tokens

        spans, counts = np.empty((len(units), 2), np.int32), np.empty(len(ends) - 1, np.int64)
        found = find_all_tokens(units, ends, *self._rules, spans, counts)
        return spans[:found], counts

    def _numbers(self, units: np.ndarray, spans: np.ndarray) -> np.ndarray:
        from .loops import number_terms

        numbers = np.empty(len(spans), np.int32)
        for first in range(0, len(spans), _TOKENS):
            batch = spans[first : first + _TOKENS]
            size = int((batch[:, 1] - batch[:, 0]).sum())
            self._tokens.reserve(int(self._counts[0]), len(batch), size)
            self._terms.reserve(int(self._counts[1]), len(batch), size)
            self._meanings = enlarged(self._meanings, len(self._tokens.hashes))
            tokens, terms = self._tokens, self._terms
            number_terms(
                units, batch, self._lower, self._meanings,
                tokens.slots, tokens.hashes, tokens.starts, tokens.units, self._counts,
                terms.slots, terms.hashes, terms.starts, terms.units, numbers[first : first + _TOKENS],
            )  # fmt: skip
        return numbers


@cache
def _lower_case() -> np.ndarray:
    """Each code point's small letter, by itself: (n,) uint32."""
    return np.array([ord(chr(point).lower()[0]) for point in range(_CASED)], np.uint32)
