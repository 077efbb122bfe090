"""Excerpts hold the strongest words in the text's order, within their width, and nothing that a terminal would obey."""

from __future__ import annotations

import numpy as np
import pytest
from cribble.excerpt import excerpt
from cribble.explanation import Explanation, TokenMatch, TokenText
from cribble.models.token_texts import word_spans
from cribble.records import Document


def explanation(text, rows, title=""):
    """Of the words at the positions `rows` → contribution."""
    document = Document("d", text, title)
    spans = word_spans(document.full_text)
    matches = []
    for row, contribution in rows.items():
        word = document.full_text[slice(*spans[row])]
        matches.append(
            TokenMatch(TokenText(f"q{row}"), contribution, TokenText(word, "text", spans[row], word, spans[row]))
        )
    return Explanation("q", document, "late", tuple(matches))


def test_a_short_text_is_whole():
    found = excerpt(explanation("one two  three", {0: 0.5, 2: 1.0}, "Title"))
    assert "".join(piece.text for piece in found) == "Title one two three"
    assert [(p.text, p.share.strength) for p in found if p.share] == [("Title", 0.5), ("two", 1.0)]


def test_without_a_match_it_is_the_beginning():
    found = excerpt(explanation("word " * 200, {}), 100)
    assert [piece.share for piece in found] == [None, None]
    assert "".join(p.text for p in found) == ("word " * 20).rstrip() + " …"
    assert excerpt(explanation("", {})) == []


@pytest.mark.parametrize("seed", range(20))
def test_the_strongest_words_of_a_long_text(seed):
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abcé日"), int(rng.integers(1, 9)))) for _ in range(600)]
    spans = word_spans(" ".join(words))
    rows = {int(row): float(rng.random()) for row in rng.choice(len(spans), 12, replace=False)}
    why = explanation(" ".join(words), rows)
    found = excerpt(why, 300)
    shown = [piece.share for piece in found if piece.share]
    assert why.words[0] in shown
    assert [share.span for share in shown] == sorted(share.span for share in shown)
    text = "".join(piece.text for piece in found)
    assert len(text) <= 300 + 3 * 12
    assert all(part in " ".join(words) for part in text.strip("… ").split(" … "))
    assert all(piece.text == piece.share.word for piece in found if piece.share)


def test_control_characters_are_spaces():
    found = excerpt(explanation("a\x1b[31mred\x07\n\tb \x9b1m", {0: 1.0}))
    assert "".join(piece.text for piece in found) == "a [31mred b 1m"
