"""A ColBERTer score taken to pieces: what the single vectors give, and each word of the query by the word it matched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..explanation import Explanation, TokenMatch, TokenText
from ..records import Document
from .colberter_words import TOKENS
from .image_documents import image_of

if TYPE_CHECKING:
    from .colberter import ColberterEncoder, EncodedText

_CLS = TokenText("[CLS]", "special")


def explain_words(
    encoder: ColberterEncoder, query: str, document: Document, *, mode: str, stage: str, stage_score: float | None
) -> Explanation:
    """Encode both, and say what each part of the score is, in float64. `mode` is a search's: `cls` and `bow` rank by one
    part, unweighted, the others by both. `stage_score` goes in as it is.
    """
    if image_of(document):
        raise InputError(f"document {document.id!r} is a picture: only matches in texts can be explained")
    asked = encoder.encode_one(query, "query")
    found = encoder.encode_one(document.full_text, "document")
    by_cls, by_words = {"cls": (1.0, 0.0), "bow": (0.0, 1.0)}.get(mode, (encoder.mix, 1 - encoder.mix))
    matches = []
    if by_cls:
        product = float(asked.cls.astype(np.float64) @ found.cls.astype(np.float64))
        matches.append(TokenMatch(_CLS, by_cls * product, _CLS))
    if by_words:
        names, others = _texts(encoder, query, asked), _texts(encoder, document.full_text, found)
        best, values = _best(asked, found, exact_match=encoder.config.compress_to_exact_mini_mode)
        for i in np.argsort(asked.read.spans[asked.numbers, 0], kind="stable"):
            other = others[best[i]] if best[i] >= 0 else None
            matches.append(TokenMatch(names[i], by_words * float(values[i]), other))
    return Explanation(query, document, stage, tuple(matches), stage_score, tuple(_notes(document, asked, found)))


def _best(asked: EncodedText, found: EncodedText, *, exact_match: bool) -> tuple[np.ndarray, np.ndarray]:
    """For each query word the number of the document's word that it matches, -1 for none, and what that gives: 0 for none,
    and where matches are exact for a negative product."""
    if not len(found.words):
        return np.full(len(asked.words), -1), np.zeros(len(asked.words))
    products = asked.bag.astype(np.float64) @ found.bag.astype(np.float64).T
    if exact_match:
        products = np.where(asked.words[:, None] == found.words[None], np.maximum(products, 0), -np.inf)
    best, values = products.argmax(axis=1), products.max(axis=1)
    return np.where(values > -np.inf, best, -1), np.where(values > -np.inf, values, 0.0)


def _texts(encoder: ColberterEncoder, text: str, encoded: EncodedText) -> list[TokenText]:
    """The words that have vectors, where they stand first in the text."""
    pieces = encoder.tokenizer.tokenizer.convert_ids_to_tokens(encoded.read.ids) if encoder.words == TOKENS else None
    texts = []
    for number in encoded.numbers.tolist():
        start, end = encoded.read.spans[number].tolist()
        word = text[start:end]
        name = pieces[number] if pieces else word
        span = (start, end)
        texts.append(TokenText(name, "text", span, word, span) if word else TokenText(name, "special"))
    return texts


def _notes(document: Document, asked: EncodedText, found: EncodedText) -> list[str]:
    notes = []
    if len(found.words) < len(found.read.words):
        notes.append(f"the gate let {len(found.words)} of the document's {len(found.read.words)} words pass")
    if asked.read.cut:
        notes.append("the query has more tokens than the model reads: it was cut")
    if found.read.cut:
        last = int(found.read.spans.max(initial=0))
        notes.append(
            f"the model read about the first {last:,} of the document's {len(document.full_text):,} characters"
        )
    return notes
