"""What is asked of a language model and what comes back: prompts, calls, replies. Data only; nothing here runs a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ..records import Document, Query


class Message(NamedTuple):
    """A turn of a chat; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """What a model reads: `messages`, rendered by the model's own chat template with its generation prompt, or `text`.

    `tail` is what the answer starts with already, verbatim after either (`[` for FIRST). For an encoder–decoder `text`
    goes to the encoder and `tail` to the decoder. `thinking` is handed to templates that know `enable_thinking`.
    `special` False leaves out the tokens that the tokenizer adds to plain `text` (a template's rendering never gets
    them). Where the model's chat template knows no system role, the system text goes before the first user turn, with
    `without_system` between them. `parts` are for Fusion-in-Decoder (LiT5): texts that the encoder reads apart, each by
    itself, and whose states the decoder sees one after the other; there are no messages and no text then.
    """

    messages: tuple[Message, ...] = ()
    text: str = ""
    tail: str = ""
    thinking: bool | None = None
    special: bool = True
    without_system: str = "\n\n"
    parts: tuple[str, ...] = ()


class Request(NamedTuple):
    """What a strategy wants to know of some of a query's documents. `verb` is one of `rerankers.judges.VERBS`,
    or `grade`: which label one document deserves."""

    verb: str
    query: Query
    documents: tuple[Document, ...]


@dataclass(frozen=True)
class LabelCall:
    """The logits of `labels` as the token after the prompt. Each label is one token there, or the call is refused.

    For a backend that plays an oracle the labels name the documents of `request`, in their order; for verb `score` the
    first label speaks for the document. `so_far` is the judge's own note of earlier calls for the same request.
    """

    prompt: Prompt
    labels: tuple[str, ...]
    request: Request | None = field(default=None, compare=False)
    so_far: tuple[float, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class GenerateCall:
    """Text after the prompt, greedy unless `temperature` says otherwise, at most `max_tokens` long.

    `exactly_as_long_as` replaces `max_tokens` by the number of tokens that this text has and bans the end until then.
    `stop` ends the text before any of these strings. `choices` name the request's documents as the answer would
    (`[1]`); with `constrained` the answer can only be all of them, each once, joined by `separator`, or the first
    `top` of such an answer. `so_far` is the judge's own note of earlier calls for the same request.
    """

    prompt: Prompt
    max_tokens: int = 0
    exactly_as_long_as: str = ""
    stop: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    separator: str = " > "
    constrained: bool = False
    top: int | None = None
    temperature: float = 0.0
    seed: int = 0
    request: Request | None = field(default=None, compare=False)
    so_far: tuple[float, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class LikelihoodCall:
    """The log-probability of each of `targets` as the text after the prompt, summed over its tokens."""

    prompt: Prompt
    targets: tuple[str, ...]
    request: Request | None = field(default=None, compare=False)


@dataclass(frozen=True)
class AttentionCall:
    """How much the tokens of `query` attend to each token of each document (Chen et al. 2024, ICR).

    The model reads `head`, then each of `passages`, then `before`, then `query`, then `after`; once more with
    `null_query` in the place of the query, over the same cache. `join` stands before each passage and belongs to none.
    The reply holds, per document, the sum of its tokens' calibrated attention. `heads` are (layer, head) pairs to sum
    over; empty means all.
    """

    head: str
    passages: tuple[str, ...]
    before: str
    query: str
    after: str
    null_query: str = "N/A"
    join: str = ""
    heads: tuple[tuple[int, int], ...] = ()
    chat: bool = False
    request: Request | None = field(default=None, compare=False)


Call = LabelCall | GenerateCall | LikelihoodCall | AttentionCall


class Usage(NamedTuple):
    """Tokens of one call: of its prompt, those of it that a cache already held, and those generated."""

    prompt: int = 0
    cached: int = 0
    new: int = 0


@dataclass(frozen=True)
class Reply:
    """An answer. `values` are float32 logits of the labels (LabelCall; log-probabilities where a server gives no more),
    log-probabilities (LikelihoodCall) or attention (AttentionCall); `nan` where a server did not say. `text` is what
    was generated, `finish` is `stop`, or `length` where it was cut. `reused` says that the answer was there already, in
    the ledger or from an equal call: its usage is what it cost then."""

    usage: Usage = field(default_factory=Usage)
    values: tuple[float, ...] = ()
    text: str = ""
    finish: str = "stop"
    reused: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Failure:
    """A call that could not be answered; its query keeps its order, is counted and named."""

    reason: str


def unsaid(tail: str, text: str) -> str:
    """What is left of an answer `text` when the answer starts with `tail` already."""
    shared = max((n for n in range(1, len(tail) + 1) if text.startswith(tail[-n:])), default=0)
    return text[shared:]


class Tokens(Protocol):
    """The tokenizer's side of a backend: all that can be known without the weights."""

    @property
    def limit(self) -> int | None:
        """Tokens that prompt and answer may have together; None where there is no limit or nobody says."""

    def count(self, prompt: Prompt) -> int:
        """Tokens of the prompt with its chat template, tail and special tokens."""

    def count_attention(self, call: AttentionCall) -> int:
        """Tokens that are read for an attention call: with the query, and again what is not shared with the null query."""

    def length(self, text: str) -> int:
        """Tokens of a bare text."""

    def cut(self, text: str, tokens: int) -> str:
        """The text of its first `tokens` tokens."""

    def check_labels(self, prompt: Prompt, labels: Sequence[str]) -> None:
        """Raise `InputError` unless each label is one token of its own after this prompt."""
