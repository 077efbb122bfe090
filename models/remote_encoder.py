"""An encoder behind HTTP: any server with OpenAI's `/v1/embeddings` (OpenAI, vLLM, TEI, llama.cpp, Ollama, …)."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from threading import Event
from typing import Any, Self
from urllib.parse import urlsplit

import numpy as np

from ..errors import InputError, SetupError, UsageError
from ..progress import progress
from ..records import Document
from ..vectors import Dense, EncoderSpec
from .budget import Budget
from .calls import Usage
from .http_json import OFFICIAL, Endpoint, Unanswered, key_of
from .rough_tokens import RoughTokens
from .workers import Workers

_log = logging.getLogger("cribble")

#: Tokens of one request's texts, by rough count: OpenAI takes 300,000, others less.
_REQUEST_TOKENS = 50_000
#: Lengths of vectors that count as one.
_UNIT = 1e-3


class RemoteEncoder:
    """A model of an OpenAI-compatible embeddings server.

    `model` is the server's name of it, `url` ends in /v1 (the variable OPENAI_BASE_URL, or OpenAI's). The key is read from
    the environment variable `key_variable` and never shown. `query_prompt` and `document_prompt` are put before texts
    here, as the server does not know which is which. `dim` asks for so many dimensions (`dimensions` of the API); vectors
    are made unit vectors again where they are. `max_length` cuts texts after so many tokens, counted roughly; None leaves
    long texts to the server, which refuses them. `batch` texts go in a request, `concurrency` requests at a time, each tried
    `retries` times more after `timeout_seconds` without an answer, 429, 5xx or a broken one. No request is sent that
    would exceed `max_total_tokens`, or `max_cost` at `price_in` per million tokens.

    A server may answer in any order; an answer that lacks a text, has a wrong width, or NaN is asked for again and then an
    error: no text is left without its vector.
    """

    def __init__(
        self,
        model: str,
        *,
        url: str | None = None,
        key_variable: str = "OPENAI_API_KEY",
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        dim: int | None = None,
        max_length: int | None = None,
        batch: int = 64,
        concurrency: int = 8,
        timeout_seconds: float = 60.0,
        retries: int = 5,
        backoff_seconds: float = 1.0,
        max_total_tokens: int | None = None,
        max_cost: float | None = None,
        price_in: float | None = None,
    ) -> None:
        self.model, self.key_variable = model, key_variable
        self.url = (url or os.environ.get("OPENAI_BASE_URL") or OFFICIAL).rstrip("/")
        self.query_prompt, self.document_prompt = query_prompt or "", document_prompt or ""
        self.asked_dim, self.max_length, self.batch, self.concurrency = dim, max_length, batch, concurrency
        self.timeout_seconds, self.retries, self.backoff_seconds = timeout_seconds, retries, backoff_seconds
        self.truncated = 0
        self.checked(model, max_cost, price_in)
        self.budget = Budget(max_total_tokens, max_cost, price_in or 0.0)

    def checked(self, model: str, max_cost: float | None, price_in: float | None) -> None:
        """Raise `UsageError` for options that make no sense."""
        if not model:
            raise UsageError("openai: no model is named: write openai:NAME, what the server calls it")
        for name, value, least in (
            *(("dim", self.asked_dim, 1), ("max_length", self.max_length, 1), ("batch", self.batch, 1)),
            *(("concurrency", self.concurrency, 1), ("retries", self.retries, 0)),
        ):
            if value is not None and value < least:
                raise UsageError(f"openai:{model}: {name}={value}: expected at least {least}")
        if (max_cost is None) != (price_in is None):
            raise UsageError(f"openai:{model}: max_cost and price_in (of a million tokens) belong together")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.password:
            raise UsageError(f"openai:{model}: the url is no http(s) address without a password: write https://HOST/v1")

    @classmethod
    def of_spec(cls, spec: EncoderSpec, model: str | None = None) -> Self:
        """The encoder that an index records."""
        return cls(
            model or spec.model,
            url=spec.extra.get("url"),
            query_prompt=spec.query_prompt,
            document_prompt=spec.document_prompt,
            dim=spec.extra.get("dim"),
            max_length=spec.max_length or None,
        )

    def __repr__(self) -> str:
        return f"RemoteEncoder({self.model!r}, url={self.url!r})"

    @cached_property
    def spec(self) -> EncoderSpec:
        """The model's name and address stand for its weights, which nobody outside sees: a server that changes a model
        under its name is not noticed but by the width and length of its vectors."""
        probe = self._embed(["cribble"])[0]
        normalised = abs(float(np.linalg.norm(probe)) - 1) < _UNIT
        return EncoderSpec(
            model=f"openai:{self.model}",
            query_prompt=self.query_prompt,
            document_prompt=self.document_prompt,
            pooling="remote",
            dim=len(probe),
            max_length=self.max_length or 0,
            normalised=normalised,
            similarity="cosine" if normalised else "dot",
            extra={"url": self.url} | ({"dim": self.asked_dim} if self.asked_dim else {}),
        )

    @property
    def dim(self) -> int:
        return self.spec.dim

    def encode_queries(self, queries: Sequence[str]) -> Dense:
        """Vectors (n, dim) float32 of `queries`, in their order."""
        if isinstance(queries, str):
            raise UsageError("encode_queries takes a list of texts, got one str: put it in a list")
        return self._encode([self.query_prompt + text for text in queries], "query")

    def encode_documents(self, documents: Iterable[Document]) -> Dense:
        """Vectors (n, dim) float32 of `documents` (title, a space, text), in their order."""
        return self._encode([self.document_prompt + document.full_text for document in documents], "document")

    def _encode(self, texts: list[str], what: str) -> Dense:
        vectors = self._embed(texts, f"encoding {what} texts by {self.model}")
        if vectors.shape[1] != self.dim:
            raise InputError(
                f"{self.url}: {self.model} gave vectors of {vectors.shape[1]} dimensions, expected {self.dim}"
            )
        return Dense(vectors)

    # ---- requests ---------------------------------------------------------------------------------------------------

    @cached_property
    def endpoint(self) -> Endpoint:
        return Endpoint(
            self.url,
            key=key_of(self.url, self.key_variable),
            key_variable=self.key_variable,
            timeout=self.timeout_seconds,
            retries=self.retries,
            backoff=self.backoff_seconds,
            connections=self.concurrency,
        )

    def _embed(self, texts: list[str], what: str = "encoding") -> np.ndarray:
        """Vectors (n, width) float32; a text that gets none is an error, after all that is under way has come back."""
        if not texts:
            return np.empty((0, self.dim), np.float32)
        rows: list[np.ndarray | None] = [None] * len(texts)
        pieces = list(self._pieces([self._cut(text) for text in texts]))
        estimates = [Usage(sum(map(_TOKENS.length, piece)), 0, 0) for _, piece in pieces]
        waiting, width = 0, self.__dict__["spec"].dim if "spec" in self.__dict__ else None
        error: BaseException | None = None
        with (
            progress(what, total=len(texts), unit="texts") as advance,
            Workers[tuple[np.ndarray, int | None]](self.concurrency) as workers,
        ):
            while workers.busy or (waiting < len(pieces) and error is None):
                while waiting < len(pieces) and error is None and workers.busy < self.concurrency:
                    if limit := self.budget.refusal(estimates[waiting]):
                        error = SetupError(f"openai: {limit} is reached after {self.budget.account()}: raise it")
                        break
                    self.budget.reserve(estimates[waiting])
                    workers.put(waiting, partial(self._ask, pieces[waiting][1], workers.stop))
                    waiting += 1
                if not workers.busy:
                    break
                number, result = workers.get()
                if isinstance(result, BaseException):
                    self.budget.settle(estimates[number], None)
                    error = error or self._explained(result, pieces[number][1])
                    continue
                vectors, tokens = result
                self.budget.settle(estimates[number], Usage(tokens or estimates[number].prompt, 0, 0))
                width = width or vectors.shape[1]
                if vectors.shape[1] != width:
                    error = error or InputError(
                        f"{self.url}: {self.model} gave vectors of {vectors.shape[1]} dimensions, and of {width} before"
                    )
                for row, vector in zip(pieces[number][0], vectors, strict=True):
                    rows[row] = vector
                advance(len(vectors))
        if error is not None:
            raise error
        return np.stack([row for row in rows if row is not None])

    def _pieces(self, texts: list[str]) -> Iterator[tuple[list[int], list[str]]]:
        """(positions, texts) of each request, in order."""
        rows: list[int] = []
        held = 0
        for row, text in enumerate(texts):
            tokens = _TOKENS.length(text)
            if rows and (len(rows) == self.batch or held + tokens > _REQUEST_TOKENS):
                yield rows, [texts[i] for i in rows]
                rows, held = [], 0
            rows.append(row)
            held += tokens
        if rows:
            yield rows, [texts[i] for i in rows]

    def _cut(self, text: str) -> str:
        """Cut after `max_length` tokens. Servers refuse an empty text: a blank stands for it."""
        if self.max_length is not None:
            cut = _TOKENS.cut(text, self.max_length)
            self.truncated += len(cut) < len(text)
            text = cut
        return text or " "

    def _ask(self, texts: list[str], stop: Event) -> tuple[np.ndarray, int | None]:
        """One request's vectors and tokens. An answer that can't be right is asked for again, as a dropped connection is."""
        body: dict[str, Any] = {"model": self.model, "input": texts, "encoding_format": "float"}
        if self.asked_dim:
            body["dimensions"] = self.asked_dim
        for attempt in range(self.retries + 1):
            answer = self.endpoint.post("embeddings", body, stop)
            wrong, vectors = _vectors(answer, len(texts), self.asked_dim)
            if not wrong:
                break
            if attempt == self.retries:
                raise Unanswered(wrong, server=True)
            stop.wait(min(self.backoff_seconds * 2**attempt, 60.0))
        if self.asked_dim:
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
            vectors = np.where(np.abs(lengths - 1) < _UNIT, vectors / lengths, vectors)
        usage = answer.get("usage") or {}
        tokens = usage.get("prompt_tokens") or usage.get("total_tokens")
        return vectors.astype(np.float32), tokens if isinstance(tokens, int) else None

    def _explained(self, error: BaseException, texts: list[str]) -> BaseException:
        if not isinstance(error, Unanswered):
            return error
        longest = max(texts, key=len)
        return SetupError(
            f"{self.url}: {len(texts)} texts got no vectors from {self.model} ({error}); the longest begins "
            f"{longest[:60]!r} and has {len(longest):,} characters: run again (an index goes on at its last shard), or "
            "set max_length where texts are too long"
        )


_TOKENS = RoughTokens()


def _vectors(answer: dict[str, Any], count: int, dim: int | None) -> tuple[str, np.ndarray]:
    """What is wrong with an answer ("" for nothing), and its vectors (count, width) float64 in the order of the texts."""
    entries, nothing = answer.get("data"), np.empty((0, 0))
    if not isinstance(entries, list) or len(entries) != count:
        found = len(entries) if isinstance(entries, list) else "no"
        return f"the answer has {found} vectors for {count} texts", nothing
    rows: list[Any] = [None] * count
    for place, entry in enumerate(entries):
        index = entry.get("index", place) if isinstance(entry, dict) else None
        if not isinstance(index, int) or not 0 <= index < count or rows[index] is not None:
            return (
                f"the answer's entry {place} has the index {index!r}, expected each of 0 to {count - 1} once",
                nothing,
            )
        vector = entry.get("embedding")
        if not isinstance(vector, list) or not vector:
            return f"the answer's entry {place} has no embedding", nothing
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in vector):
            return f"the answer's entry {place} holds what is no finite number", nothing
        rows[index] = vector
    widths = sorted({len(row) for row in rows})
    if len(widths) > 1 or (dim is not None and widths != [dim]):
        return f"the answer's vectors have {widths} dimensions, expected {dim or 'one width'}", nothing
    return "", np.array(rows, np.float64)
