"""The token states of a single-vector encoder as token vectors: late interaction without its training."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Self

from ..errors import UsageError
from ..records import Document
from ..vectors import EncoderSpec, MultiVector
from .checkpoint import Checkpoint
from .encoder import Encoder

#: What an index records as the pooling of these vectors.
POOLING = "token states"

#: Settings of an encoder that change its token states; the others make one vector of them.
STATE_SETTINGS = ("padding_side", "append_eos", "bidirectional", "layer")


class TokenStates:
    """An `Encoder`'s last hidden states at every token, special ones included, each of unit length.

    Sentence encoders rank well by them: MiniLM's are near those of models that were trained for late interaction. Options
    are those of `Encoder` that reach the states: prompts, `max_length`, `padding_side`, `append_eos`, `bidirectional`,
    `layer`, `card`, `dtype`, `token_budget`, `trust_remote_code`.
    """

    def __init__(self, model: str | os.PathLike[str] | None = None, **options: Any) -> None:
        self.encoder = Encoder(model, **options)
        self.model = self.encoder.model

    @classmethod
    def of_spec(cls, spec: EncoderSpec, model: str | os.PathLike[str] | None = None, *, device: str = "auto") -> Self:
        """The encoder that an index records, or `model` under the same settings."""
        states = cls()
        states.encoder = Encoder.of_spec(spec, model, device=device)
        states.model = states.encoder.model
        return states

    @property
    def checkpoint(self) -> Checkpoint:
        """The model's files."""
        return self.encoder.checkpoint

    @property
    def truncated(self) -> int:
        """Texts cut at the maximum length so far."""
        return self.encoder.truncated

    @cached_property
    def spec(self) -> EncoderSpec:
        """What the vectors depend on; an index records it and refuses any other."""
        encoder = self.encoder
        if encoder.settings.dim is not None or encoder.settings.layer_norm is not None:
            raise UsageError("dim and layer_norm have no effect on token states: leave them out")
        kept = {name: value for name, value in encoder.settings.named().items() if name in STATE_SETTINGS}
        return replace(
            encoder.spec,
            pooling=POOLING,
            dim=encoder.hidden_width,
            normalised=True,
            similarity="cosine",
            extra=kept,
        )

    def encode_queries(self, queries: Sequence[str]) -> MultiVector:
        """Unit vectors (t, hidden) float32 of each query's tokens."""
        return self.encoder.query_tokens(queries)

    def encode_documents(self, documents: Iterable[Document]) -> MultiVector:
        """Unit vectors (t, hidden) float32 of each document's tokens (title, a space, text)."""
        return self.encoder.document_tokens(documents)
