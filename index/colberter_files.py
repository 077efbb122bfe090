"""A ColBERTer index's shards: one vector a document, and a bag of word vectors; where only equal words match, their ids.

cls.npy (n, c)        cls_scales.npy (n,)     [CLS] vectors, and of int8 their scales
tokens.npy (T, d)     scales.npy (T,)         word vectors; those of a document lie together, by ascending word id
offsets.npy (n + 1,)                          where each document's begin
words.npy (T,)                                ids of their words, uint32
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from .maxsim_blocks import NOTHING
from .multivector_files import StoredTokens, TokenShard, token_places

CLS, CLS_SCALES, WORDS = "cls.npy", "cls_scales.npy", "words.npy"

#: How numbers are kept (multivector_files.py).
STORAGE = ("float32", "float16", "int8")

#: Mapped files cost a file descriptor each, and a shard has up to five; so many shards stay open at once.
_OPEN_SHARDS = 64

NO_WORDS = np.zeros(0, np.uint32)


@dataclass(frozen=True)
class StoredBags:
    """Some documents as a file keeps them: `cls` (n, c) and its `cls_scales` (n,), `bags`, and `words` (T,)."""

    cls: np.ndarray
    cls_scales: np.ndarray
    bags: StoredTokens
    words: np.ndarray


@dataclass(frozen=True)
class ColberterShard:
    """A shard's vectors, mapped; `cls` has one token a document. `words` is empty where all words match."""

    cls: TokenShard
    bags: TokenShard
    words: np.ndarray

    @classmethod
    def open(cls, folder: Path, storage: str, exact_match: bool) -> ColberterShard:
        bags = TokenShard.open(folder, storage)
        numbers = np.asarray(np.load(folder / CLS, mmap_mode="r"))
        scales = np.asarray(np.load(folder / CLS_SCALES, mmap_mode="r")) if storage == "int8" else NOTHING
        single = TokenShard(numbers, scales, np.arange(len(numbers) + 1), storage)
        words = np.asarray(np.load(folder / WORDS, mmap_mode="r")) if exact_match else NO_WORDS
        return cls(single, bags, words)

    def kept(self, documents: np.ndarray) -> StoredBags:
        """What the files keep of single `documents` (m,)."""
        cls = self.cls.kept(documents)
        places, _ = token_places(self.bags.offsets, documents)
        words = self.words[places] if len(self.words) else NO_WORDS
        return StoredBags(cls.numbers, cls.scales, self.bags.kept(documents), words)


class Shards:
    """An index's shards, opened as they are read."""

    def __init__(self, folders: Sequence[Path], storage: str, exact_match: bool) -> None:
        self.storage, self._folders = storage, folders
        self._opened = lru_cache(maxsize=_OPEN_SHARDS)(partial(_open_shard, folders, storage, exact_match))

    def __len__(self) -> int:
        return len(self._folders)

    def __getitem__(self, number: int) -> ColberterShard:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self._opened(number)


def _open_shard(folders: Sequence[Path], storage: str, exact_match: bool, number: int) -> ColberterShard:
    return ColberterShard.open(folders[number], storage, exact_match)
