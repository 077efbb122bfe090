"""The texts of the tokens behind token vectors: one for each vector that an encoder gives for a text, in its order.

Tokens are those of the encoder's own `preprocess`, and those that count are found by its own masks, so that prompts, cuts,
query expansion and skip lists are what they are for the vectors; only the network is not run.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..explanation import TokenText
from ..records import Document
from .encoder import Encoder
from .multivector_settings import appended_masks, mask_of
from .multivector_states import TokenStates

if TYPE_CHECKING:
    from .multivector_encoder import MultiVectorEncoder
    from .network import Network

#: Scripts written without spaces: there a character is a word of its own (Thai to Lao, Myanmar, Khmer, kana, Han).
_UNSPACED = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF)),
    *((0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
)

_JOINER = "\u200d"
_SKIN_TONES = range(0x1F3FB, 0x1F400)


@dataclass(frozen=True)
class TokenTexts:
    """The tokens of one text that have vectors; `cut` says that the text had more than the encoder reads."""

    tokens: tuple[TokenText, ...]
    cut: bool


def query_token_texts(encoder: Encoder | TokenStates | MultiVectorEncoder, query: str) -> TokenTexts:
    """One `TokenText` for each vector that `encoder.encode_queries([query])` (of an `Encoder`: `query_tokens`) gives."""
    if isinstance(encoder, TokenStates):
        encoder = encoder.encoder
    if isinstance(encoder, Encoder):
        return _token_texts(encoder.network, query, encoder.query_prompt, "query")
    found = _token_texts(encoder.queries, query, encoder.settings.query_prompt or "", "query")
    model = encoder.queries.model
    appended = (TokenText(str(model.tokenizer.mask_token), "expansion"),) * appended_masks(model)
    return TokenTexts(found.tokens + appended, found.cut)


def document_token_texts(encoder: Encoder | TokenStates | MultiVectorEncoder, document: Document) -> TokenTexts:
    """One `TokenText` for each vector that `encoder.encode_documents([document])` (of an `Encoder`: `document_tokens`)
    gives; spans are characters of `document.full_text`."""
    if isinstance(encoder, TokenStates):
        encoder = encoder.encoder
    if isinstance(encoder, Encoder):
        return _token_texts(encoder.network, document.full_text, encoder.document_prompt, "document")
    prompt = encoder.settings.document_prompt or ""
    return _token_texts(encoder.documents, document.full_text, prompt, "document")


def _token_texts(network: Network, text: str, prompt: str, task: str) -> TokenTexts:
    """Raises `InputError` for a tokenizer that does not say which characters a token is of."""
    features = network.preprocessed(text, prompt=prompt, task=task)
    encodings = getattr(features, "encodings", None)
    if not encodings:
        raise InputError(
            f"the tokenizer of {network.name} does not say which characters a token is of (it is no fast tokenizer, or a "
            "chat template stands around the text): its matches can't be shown as words"
        )
    encoding, ids = encodings[0], features["input_ids"][0].tolist()
    names = network.model.tokenizer.convert_ids_to_tokens(ids)
    filled = features.get("query_expansion_positions")
    filling = filled[0].tolist() if filled is not None else [False] * len(ids)
    counted = _counted(network.model, dict(features), task)
    words, tokens = _Words(text), []
    for i, name in enumerate(names):
        if not counted[i]:
            continue
        if filling[i]:  # beyond what the tokenizer gave
            tokens.append(TokenText(name, "expansion"))
        elif encoding.special_tokens_mask[i]:
            tokens.append(TokenText(name, "special"))
        else:
            start, end = (place - len(prompt) for place in encoding.offsets[i])
            tokens.append(words.token(name, start, end))
    return TokenTexts(tuple(tokens), bool(encoding.overflowing))


def _counted(model: Any, features: dict[str, Any], task: str) -> list[bool]:
    """Which tokens have a vector: those of the attention mask, as the checkpoint's own module of masks changes it."""
    mask = mask_of(model)
    if mask is not None:
        features = mask(features, task=task)
    counted: list[bool] = features["attention_mask"][0].bool().tolist()
    return counted


class _Words:
    """The words of one text, by character."""

    def __init__(self, text: str) -> None:
        self.text, self.spans = text, word_spans(text)
        self._starts = [start for start, _ in self.spans]

    def token(self, name: str, start: int, end: int) -> TokenText:
        """The token of the characters [start, end), which begin below 0 in a prompt."""
        if end <= 0 and start < 0:
            return TokenText(name, "prompt")
        start = max(0, start)
        while start < end and self.text[start].isspace():  # byte-level vocabularies have the space in the token
            start += 1
        while start < end and self.text[end - 1].isspace():
            end -= 1
        if start >= end:
            return TokenText(name)
        first = min(start, self._word(start)[0])
        last = max(end, self._word(end - 1)[1])
        return TokenText(name, "text", (start, end), self.text[first:last], (first, last))

    def _word(self, place: int) -> tuple[int, int]:
        """The span of the word around a character that is no space."""
        return self.spans[bisect_right(self._starts, place) - 1]


def word_spans(text: str) -> list[tuple[int, int]]:
    """Characters [start, end) of the words of a text, one after another: letters, digits, their marks, apostrophes and
    decimal points between them; every other character that is no space is one of its own (with what belongs to it, as in emoji), and so
    is one of a script that puts no spaces between words."""
    spans: list[tuple[int, int]] = []
    place = 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        end = _word_end(text, place) if _is_letter(text[place]) else _cluster_end(text, place)
        spans.append((place, end))
        place = end
    return spans


def _word_end(text: str, place: int) -> int:
    """The end of the run of letters that begins at `place`."""
    while True:
        place = _cluster_end(text, place)
        if place < len(text) and _is_letter(text[place]):
            continue
        if not _joins(text, place):
            return place
        place += 1


def _joins(text: str, place: int) -> bool:
    """Whether the character stands within a word: an apostrophe between letters, a point or comma between digits."""
    before, char, after = text[place - 1], text[place : place + 1], text[place + 1 : place + 2]
    if char in (".", ","):
        return before.isdigit() and after.isdigit()
    return char in ("'", "’") and after != "" and _is_letter(after)


def _cluster_end(text: str, place: int) -> int:
    """The end of one character with its marks, and what joiners add to it."""
    place += 1
    while place < len(text):
        char = text[place]
        if unicodedata.category(char)[0] == "M" or ord(char) in _SKIN_TONES:
            place += 1
        elif char == _JOINER:
            place = min(place + 2, len(text))
        else:
            break
    return place


def _is_letter(char: str) -> bool:
    """Whether the character goes into a word with others beside it."""
    if not (char.isalnum() or char == "_"):
        return False
    return not any(first <= ord(char) <= last for first, last in _UNSPACED)
