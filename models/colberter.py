"""ColBERTer (Hofstätter et al., CIKM 2022): texts → one vector, and a bag of vectors of whole words."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from ..errors import InputError, UsageError, suggest
from ..progress import progress
from ..records import Document
from ..vectors import BagVectors, EncoderSpec, MultiVector
from .batching import buffers, pad, plan_batches
from .checkpoint import Checkpoint
from .colberter_files import (
    backbone_digest,
    backbone_folder,
    find_colberter,
    load_network,
    load_tokenizer,
    read_config,
    save_colberter,
)
from .colberter_network import ColberterConfig, text_vectors
from .colberter_words import TOKENS, WORDS, BagTokenizer, WordedText
from .image_documents import image_of
from .loading import pack_where_it_pays
from .runtime import check_dtype, check_token_budget, choose_device, torch_dtype

_log = logging.getLogger("cribble")

#: What an index records as the pooling of these vectors.
POOLING = "colberter"

#: Upstream cuts texts after so many tokens.
_LONGEST = 512

#: Options of the encoder that an index records, and their types. The backbone's files are compared, not its place.
SETTINGS: dict[str, Any] = {
    "words": str | None,
    "query_length": int | None,
    "document_length": int | None,
    "backbone": str | None,
}


class EncodedText(NamedTuple):
    """What a text became: its vector (c,), its bag (w, d), and the ids (w,) of the words in it; as it was `read`, and which
    of the words there these are, `numbers` (w,)."""

    cls: np.ndarray
    bag: np.ndarray
    words: np.ndarray
    read: WordedText
    numbers: np.ndarray


class ColberterEncoder:
    """A ColBERTer or Uni-ColBERTer checkpoint as an encoder of queries and documents.

    `model` is a local folder or a Hub name. `words` says which words of a text are one: those of equal lower-cased
    `surface`, as upstream's checkpoints have it, or of equal Porter `stem`; by default as the checkpoint says.
    `query_length` and `document_length` are tokens after which a text is cut (512, or what the backbone can). `backbone`
    holds the transformer's configuration and tokenizer where the checkpoint names another place that is not to be had.
    `dtype` is what the transformer computes in; what comes after is float32. Making an encoder is free: the model is
    loaded when first used.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "float32",
        token_budget: int | None = None,
        words: str | None = None,
        query_length: int | None = None,
        document_length: int | None = None,
        backbone: str | None = None,
    ) -> None:
        if words is not None and words not in (*WORDS, TOKENS):
            raise UsageError(f"words {words!r} is unknown: {suggest(words, WORDS)}")
        for name, length in (("query_length", query_length), ("document_length", document_length)):
            if length is not None and length < 3:
                raise UsageError(f"{name}={length}: expected at least 3 tokens, as two are special ones")
        self.model, self.revision, self.device = model, revision, device
        self.dtype = check_dtype(dtype, device)
        self.token_budget, self.backbone, self.given_words = token_budget, backbone, words
        self._recorded_backbone = backbone
        self._lengths = {"query": query_length, "document": document_length}
        self.truncated = self._warned_at = 0
        if token_budget is not None:
            check_token_budget(token_budget, "cpu")

    @classmethod
    def of_spec(
        cls,
        spec: EncoderSpec,
        model: str | os.PathLike[str] | None = None,
        *,
        device: str = "auto",
        backbone: str | None = None,
    ) -> Self:
        """The encoder that an index records, or `model` under the same settings; `backbone` is where that lies now."""
        kept = {name: value for name, value in spec.extra.items() if name in SETTINGS}
        recorded = kept.pop("backbone", None)
        encoder = cls(
            model or spec.folder or spec.model, device=device, dtype=spec.dtype, backbone=backbone or recorded, **kept
        )
        encoder._recorded_backbone = recorded
        return encoder

    def __repr__(self) -> str:
        return f"ColberterEncoder({str(self.model)!r}, dtype={self.dtype!r})"

    # ---- what is loaded ----------------------------------------------------------------------------------------------

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The model's files, found or downloaded, their weights hashed."""
        return find_colberter(self.model, self.revision)

    @cached_property
    def config(self) -> ColberterConfig:
        """The checkpoint's configuration."""
        return read_config(self.checkpoint)

    @cached_property
    def words(self) -> str:
        """What makes two words of a text one."""
        own = self.config.own_words
        if self.given_words not in (None, own) and TOKENS in (own, self.given_words):
            what = "takes tokens as they are" if own == TOKENS else "makes words of tokens"
            raise UsageError(f"words={self.given_words!r}: the model {self.checkpoint.name} {what}: leave it out")
        return self.given_words or own

    @cached_property
    def _backbone(self) -> Path:
        return backbone_folder(self.checkpoint, self.config, self.backbone)

    @cached_property
    def tokenizer(self) -> BagTokenizer:
        """Texts → tokens and their words."""
        return BagTokenizer(load_tokenizer(self._backbone), self.words)

    @cached_property
    def network(self) -> Any:
        """The loaded network on its device."""
        device = choose_device(self.device)
        network = load_network(self.checkpoint, self.config, self._backbone).to(device)
        dtype = check_dtype(self.dtype, device)
        network.bert_model.to(torch_dtype(dtype))
        if device == "cpu" and dtype == "float32":
            from .unpadded import unpad

            unpad(network.bert_model)
            pack_where_it_pays(network.bert_model, device, dtype)
        return network

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the model into a new folder, with its backbone's configuration and tokenizer and what makes words equal."""
        network = load_network(self.checkpoint, self.config, self._backbone)
        own = "" if self.words == TOKENS else self.words
        save_colberter(folder, network, replace(self.config, words=own), self.tokenizer.tokenizer)

    @cached_property
    def widths(self) -> tuple[int, int]:
        """Dimensions of a text's vector and of its words' vectors."""
        return self.config.widths(self.network.bert_model.config.hidden_size)

    @cached_property
    def mix(self) -> float:
        """The learned share σ(γ) of the single vector in a score."""
        return 1 / (1 + math.exp(-float(self.network.score_merger)))

    def length(self, side: str) -> int:
        """Tokens after which texts of a `side`, query or document, are cut."""
        positions = self._positions
        length = self._lengths[side]
        if length is not None and length > positions:
            raise UsageError(
                f"{side}_length={length}: {self.checkpoint.name} has {positions} positions; use at most that"
            )
        return length or min(_LONGEST, positions, self.tokenizer.tokenizer.model_max_length)

    @property
    def _positions(self) -> int:
        config = self.network.bert_model.config
        positions = getattr(config, "max_position_embeddings", None) or 1 << 30
        # RoBERTa's first positions are those of padding.
        return int(positions - (config.pad_token_id + 1 if "roberta" in config.model_type else 0))

    @cached_property
    def spec(self) -> EncoderSpec:
        """What the vectors depend on; an index records it and refuses any other."""
        cls_dim, dim = self.widths
        extra: dict[str, Any] = {
            "cls_dim": cls_dim,
            "words": self.words,
            "exact_match": self.config.compress_to_exact_mini_mode,
            "mix": self.mix,
            "query_length": self.length("query"),
            "document_length": self.length("document"),
            "backbone_digest": backbone_digest(self._backbone),
        }
        if self._recorded_backbone is not None:
            extra["backbone"] = self._recorded_backbone
        return EncoderSpec(
            model=self.checkpoint.name,
            revision=self.checkpoint.digest,
            pooling=POOLING,
            dim=dim,
            dtype=self.dtype,
            max_length=self.length("document"),
            similarity="dot",
            extra=extra,
        )

    # ---- encoding ----------------------------------------------------------------------------------------------------

    def encode_queries(self, queries: Sequence[str]) -> BagVectors:
        """The vectors of each query: [CLS], and one of each distinct word."""
        if isinstance(queries, str):
            raise UsageError("encode_queries takes a list of texts, got one str: put it in a list")
        texts = list(queries)
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise InputError(f"text {i} is of type {type(text).__name__}, expected str")
        return self._encode(texts, "query")

    def encode_documents(self, documents: Iterable[Document]) -> BagVectors:
        """The vectors of each document (title, a space, text): [CLS], and one of each distinct word that the gate lets pass."""
        documents = list(documents)
        if picture := next((document for document in documents if image_of(document)), None):
            raise InputError(
                f"document {picture.id!r} is a picture, and ColBERTer reads texts only: use the dense retriever"
            )
        return self._encode([document.full_text for document in documents], "document")

    def _encode(self, texts: list[str], side: str) -> BagVectors:
        cls_dim, dim = self.widths
        found: dict[int, EncodedText] = {}
        cut = 0
        with progress(f"encoding {side} words", total=len(texts), unit="texts") as advance:
            for part in buffers(len(texts)):
                read = self.tokenizer.read(texts[part], self.length(side))
                cut += sum(text.cut for text in read)
                for rows in plan_batches([len(text.ids) for text in read], self._budget):
                    batch = [read[row] for row in rows]
                    for row, vectors in zip(rows, self._forward(batch, side == "document"), strict=True):
                        found[part.start + int(row)] = vectors
                    advance(len(rows))
        self._count_cut(cut, len(texts), side)
        encoded = [found[row] for row in range(len(texts))]
        cls = np.array([text.cls for text in encoded], np.float32).reshape(len(encoded), cls_dim)
        words = np.concatenate([np.zeros(0, np.uint32), *(text.words for text in encoded)])
        return BagVectors(cls, MultiVector.of([text.bag for text in encoded], dim), words)

    def encode_one(self, text: str, side: str) -> EncodedText:
        """One text, a query or a document as `side` says, with what it was read as."""
        [encoded] = self._forward(self.tokenizer.read([text], self.length(side)), side == "document")
        return encoded

    def _forward(self, batch: list[WordedText], document: bool) -> Iterable[EncodedText]:
        import torch

        columns = {
            "input_ids": [text.ids for text in batch],
            "attention_mask": [[1] * len(text.ids) for text in batch],
        }
        fill = {"input_ids": self.tokenizer.tokenizer.pad_token_id or 0}
        device = next(self.network.parameters()).device
        features = {
            name: column.to(device) for name, column in pad(columns, range(len(batch)), fill, left=False).items()
        }
        with torch.inference_mode():
            cls, bags, numbers = text_vectors(self.network, features, batch, document=document)
        for vector, bag, number, text in zip(cls.cpu().numpy(), bags, numbers, batch, strict=True):
            found = EncodedText(vector, bag.cpu().numpy(), text.words[number], text, number)
            if not (np.isfinite(found.cls).all() and np.isfinite(found.bag).all()):
                raise InputError(
                    f"the model {self.checkpoint.name} gives NaN or infinity: check its weights and dtype (float16 overflows)"
                )
            yield found

    @cached_property
    def _budget(self) -> int:
        from .unpadded import is_unpadded

        unpadded = is_unpadded(self.network)
        return check_token_budget(self.token_budget, choose_device(self.device), unpadded=unpadded)

    def _count_cut(self, cut: int, total: int, side: str) -> None:
        """Say so when texts were cut: the first time, and then when ten times as many were."""
        self.truncated += cut
        if cut and self.truncated >= 10 * self._warned_at:
            self._warned_at = self.truncated
            _log.warning(
                "%s: %d of %d texts are longer than %s tokens and were cut there (%d so far)",
                self.checkpoint.name, cut, total, self.length(side), self.truncated,
            )  # fmt: skip
