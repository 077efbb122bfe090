"""A document's text cut down to its matched words and what stands around them, for terminals and pages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from .explanation import Explanation, WordShare

#: Characters that may stand on either side of a word.
_AROUND = 50

#: How far a cut moves to fall between words, less than what stands around one.
_MOVED = 20

#: White space and control characters, which a terminal might obey: each run is one space.
_UNSEEN = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


class Piece(NamedTuple):
    """A piece of an excerpt: a matched word with its share, or text between such."""

    text: str
    share: WordShare | None = None


def excerpt(explanation: Explanation, width: int = 320) -> list[Piece]:
    """About `width` characters of the document: its strongest words with what stands around them, in the text's order; an
    ellipsis where something is left out. All matched words in there are pieces of their own."""
    text, words = explanation.document.full_text, explanation.words
    pieces: list[Piece] = []
    for first, last in (spans := _places(text, words, width)):
        if first > 0:
            pieces.append(Piece(" … " if pieces else "… "))
        place = first
        for share in sorted(words, key=lambda share: share.span):
            start, end = share.span
            if first <= start and end <= last:
                pieces += [Piece(_plain(text[place:start])), Piece(_plain(text[start:end]), share)]
                place = end
        pieces.append(Piece(_plain(text[place:last])))
    if spans and spans[-1][1] < len(text.rstrip()):
        pieces.append(Piece("…" if text[spans[-1][1] - 1].isspace() else " …"))
    return [piece for piece in pieces if piece.text]


def _plain(text: str) -> str:
    return _UNSEEN.sub(" ", text)


def _places(text: str, words: Sequence[WordShare], width: int) -> list[tuple[int, int]]:
    """Characters [first, last) of the parts to show, in order: around the strongest words until `width` is used up."""
    if len(text) <= width:
        return [(0, len(text))]
    chosen: list[tuple[int, int]] = []
    for share in words:
        joined = _joined([*chosen, _around(text, share.span)])
        if chosen and sum(last - first for first, last in joined) > width:
            break
        chosen = joined
    return chosen or [(0, _between_words(text, width, -1))]


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same characters as spans in order that neither touch nor overlap."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def _around(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """A span with text on both sides, cut between words."""
    first, last = max(0, span[0] - _AROUND), min(len(text), span[1] + _AROUND)
    return _between_words(text, first, 1), _between_words(text, last, -1)


def _between_words(text: str, place: int, step: int) -> int:
    """A place with white space beside it, at most a few characters on in the direction `step`; else `place` itself."""
    if 0 < place < len(text):
        for moved in range(place, place + step * _MOVED, step):
            if text[moved - 1].isspace() or text[moved].isspace():
                return moved
    return place
