"""doc2query: documents get the queries that they might answer, written by an encoder–decoder (Nogueira and Lin, docTTTTTquery).

Queries are sampled from the `top_k` likeliest tokens at each step and appended to the document's text. Each draw depends on
the seed, the document's text and the query's number alone, so that the same documents in the same batches give the same
queries, however often a build was interrupted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from ..errors import InputError, UsageError
from ..progress import progress
from ..records import DescribedDocument, Document, metadata_of
from .checkpoint import Checkpoint, find_checkpoint
from .image_documents import image_of
from .runtime import check_dtype, choose_device

#: Documents that are expanded at a time; what a killed run may lose.
DOCUMENTS_AT_ONCE = 64

#: Tokens of a batch (documents times queries): keys and values of T5-base take 75 KB a token.
_TOKEN_BUDGETS = {"cpu": 8192, "cuda": 65536}

#: What a record names of a model beside the numbers.
_RECORDED = ("queries", "seed", "top_k", "max_length", "max_tokens", "dtype")


class Expander:
    """Appends `queries` generated queries to documents.

    `model` is a T5-like encoder–decoder by Hub name or folder that was trained to write a query for a document
    (castorini/doc2query-t5-base-msmarco). It reads the first `max_length` tokens of title and text and writes at most
    `max_tokens`; of each step's `top_k` likeliest tokens one is drawn (1: greedy, all queries alike). Empty and repeated
    queries stay, as in the original. Making one is free: the model is loaded when first used.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        queries: int = 40,
        seed: int = 42,
        top_k: int = 10,
        max_length: int = 512,
        max_tokens: int = 64,
        device: str = "auto",
        dtype: str = "float32",
        token_budget: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        for name, value in (("queries", queries), ("top_k", top_k), ("max_tokens", max_tokens)):
            if value < 1:
                raise UsageError(f"expansion: {name}={value}, expected at least 1")
        if max_length < 2:
            raise UsageError(f"expansion: max_length={max_length}, expected at least 2 tokens")
        if token_budget is not None and token_budget < 1:
            raise UsageError(f"expansion: token_budget={token_budget}, expected at least 1")
        self.model, self.device, self.dtype = model, device, check_dtype(dtype, device)
        self.queries, self.seed, self.top_k = queries, seed, top_k
        self.max_length, self.max_tokens = max_length, max_tokens
        self.token_budget, self.trust_remote_code = token_budget, trust_remote_code
        #: Documents of which only the first `max_length` tokens were read.
        self.truncated = 0

    def record(self) -> dict[str, Any]:
        """What the queries depend on, for an index or a folder to record."""
        numbers = {name: getattr(self, name) for name in _RECORDED}
        local = {"folder": str(self.checkpoint.folder)} if Path(self.model).expanduser().is_dir() else {}
        return {"model": self.checkpoint.name, "revision": self.checkpoint.digest, **numbers, **local}

    @classmethod
    def of_record(cls, record: Mapping[str, Any], *, device: str = "auto") -> Self:
        """The expander that an index records. Raises `InputError` where its model's weights are others now."""
        numbers = {name: record[name] for name in _RECORDED}
        expander = cls(record.get("folder") or record["model"], device=device, **numbers)
        if (digest := expander.checkpoint.digest) != record["revision"]:
            raise InputError(
                f"the model of the expansion, {record['model']}, has the weights {digest[:12]}…, recorded are "
                f"{record['revision'][:12]}…: restore them, or build the index again"
            )
        return expander

    @cached_property
    def checkpoint(self) -> Checkpoint:
        return find_checkpoint(self.model, trust_remote_code=self.trust_remote_code, organisation="")

    @cached_property
    def _tokens(self) -> Any:
        from .tokenizing import HFTokens

        tokens = HFTokens(self.checkpoint.folder, trust_remote_code=self.trust_remote_code)
        if not tokens.encoder_decoder:
            raise InputError(
                f"the model {self.checkpoint.name} is no encoder–decoder: queries are written by a T5-like model"
            )
        return tokens

    @cached_property
    def _network(self) -> Any:
        from .language_model import load_language_model
        from .seq2seq import Seq2SeqModel

        device = choose_device(self.device)
        budget = self.token_budget or _TOKEN_BUDGETS[device.partition(":")[0]]
        model = load_language_model(
            self.checkpoint, device=device, dtype=self.dtype, trust_remote_code=self.trust_remote_code
        )
        return Seq2SeqModel(self.checkpoint.name, model, budget)

    # ---- expanding ---------------------------------------------------------------------------------------------------

    def expand(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents with their queries after the text, a space before each; ids, titles and metadata stay."""
        batch: list[Document] = []
        for document in documents:
            batch.append(document)
            if len(batch) == DOCUMENTS_AT_ONCE:
                yield from self.expand_batch(batch)
                batch = []
        if batch:
            yield from self.expand_batch(batch)

    def expand_batch(self, documents: Sequence[Document]) -> list[Document]:
        """`expand` of a few documents in one go."""
        return [
            _with_text(document, " ".join([document.text, *queries]).strip())
            for document, queries in zip(documents, self.queries_for(documents), strict=True)
        ]

    def queries_for(self, documents: Sequence[Document]) -> list[list[str]]:
        """The generated queries of each document, without line breaks. Raises `InputError` for a picture."""
        from .calls import GenerateCall, Prompt
        from .library_generation import end_tokens
        from .writing import FreeWriter, TopK

        for document in documents:
            if image_of(document):
                raise InputError(f"document {document.id!r} is a picture: queries are generated for texts")
        tokens, network = self._tokens, self._network
        ends = end_tokens(network.model, tokens.tokenizer)
        writings = []
        for document in documents:
            for number in range(self.queries):
                seed = _seed_of(self.seed, number, document.full_text)
                call = GenerateCall(Prompt(), max_tokens=self.max_tokens, temperature=1.0, seed=seed)
                writings.append(TopK(call, FreeWriter(call, tokens, ends, []), self.top_k))
        sources = [source for source in self._sources(documents) for _ in range(self.queries)]
        with progress("generating queries", total=len(writings), unit="queries") as advance:
            for done in network.write(sources, [[]] * len(sources), writings):
                advance(len(done))
        texts = [" ".join(writing.writer.text().split()) for writing in writings]
        return [texts[start : start + self.queries] for start in range(0, len(texts), self.queries)]

    def _sources(self, documents: Sequence[Document]) -> list[Any]:
        """What the encoder reads of each document, cut at `max_length` tokens with the special ones."""
        from .seq2seq import Source

        start, end = self._tokens.special_ids
        room = self.max_length - len(start) - len(end)
        sources = []
        for ids in self._tokens.encode_all([document.full_text for document in documents]):
            self.truncated += len(ids) > room
            sources.append(Source((tuple(start + ids[:room] + end),)))
        return sources


def _seed_of(seed: int, number: int, text: str) -> int:
    digest = hashlib.sha256(f"{seed}\n{number}\n{text}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) >> 1


def _with_text(document: Document, text: str) -> Document:
    changed = Document(document.id, text, document.title)
    metadata = metadata_of(document)
    return DescribedDocument.of(changed, metadata) if metadata else changed
