"""Texts as bags of whole words (BOW², ColBERTer): which word each sub-word of a tokenizer is of, and the words' ids.

After the paper (Hofstätter et al., CIKM 2022, §3.2) and `bow2_tokenizer.py` of sebastian-hofstaetter/colberter, whose ids
these are. There the default uniqueness is misspelt ("stemed") and therefore words are only lower-cased, with which the
published checkpoints come; `stem` is what the paper describes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

#: What makes two words equal: their lower-cased surface, or its Porter stem.
WORDS = ("surface", "stem")

#: Models that do not aggregate: every token, special ones too, is a word of its own, whose id is the token's.
TOKENS = "tokens"


class WordedText(NamedTuple):
    """A tokenised text: token `ids`, the number in `words` (w,) uint32 of each token's word in `places` (t,) int64, -1 for
    special tokens, whether the text was `cut`, and the characters `spans` (w, 2) of each word where it stands first. Words
    ascend and are distinct."""

    ids: list[int]
    places: np.ndarray
    words: np.ndarray
    cut: bool
    spans: np.ndarray


class BagTokenizer:
    """Tokenises by a fast transformers `tokenizer`, and finds whole words by BERT's pre-tokeniser over the same text.

    A sub-word belongs to the word that its last character lies in: BERT's sub-words lie within one word wholly, and those
    of other backbones may begin with the space before it. `words` is of `WORDS`, or `TOKENS`.
    """

    def __init__(self, tokenizer: Any, words: str) -> None:
        from tokenizers.pre_tokenizers import BertPreTokenizer

        self.tokenizer, self.words = tokenizer, words
        self._pre_tokenizer = BertPreTokenizer()
        self._special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}

    def read(self, texts: Sequence[str], length: int) -> list[WordedText]:
        """Tokenise `texts`, cut after `length` tokens, special ones included."""
        if not texts:
            return []
        found = self.tokenizer(list(texts), truncation=True, max_length=length, padding=False)
        return [self._worded(text, encoding) for text, encoding in zip(texts, found.encodings, strict=True)]

    def _worded(self, text: str, encoding: Any) -> WordedText:
        ids: list[int] = encoding.ids
        cut = bool(encoding.overflowing)
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        if self.words == TOKENS:
            return WordedText(ids, np.arange(len(ids)), np.array(ids, np.uint32), cut, offsets)
        words = self._pre_tokenizer.pre_tokenize_str(text)
        spans = np.array([span for _, span in words], np.int64).reshape(-1, 2)
        of_word = np.array([self._id(word) for word, _ in words], np.uint32)
        last = offsets[:, 1] - 1
        number = np.searchsorted(spans[:, 0], last, side="right") - 1
        within = (offsets[:, 1] > offsets[:, 0]) & (number >= 0)
        within &= ~np.array([token in self._special for token in ids], bool)
        within[within] = last[within] < spans[number[within], 1]
        places = np.full(len(ids), -1, np.int64)
        own = number[within]
        distinct, first, places[within] = np.unique(of_word[own], return_index=True, return_inverse=True)
        return WordedText(ids, places, distinct.astype(np.uint32), cut, spans[own[first]])

    def _id(self, word: str) -> int:
        return word_id(_stem(word.lower()) if self.words == "stem" else word.lower())


@lru_cache(maxsize=1 << 16)
def word_id(word: str) -> int:
    """The first four bytes of the word's SHA-256 as a little-endian number; 0, which means no word, becomes 1."""
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little") or 1


@lru_cache(maxsize=1 << 16)
def _stem(word: str) -> str:
    from ..porter import stemmed

    return stemmed(word)
