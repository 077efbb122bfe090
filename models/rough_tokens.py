"""Token counts without a tokenizer: near those of today's vocabularies for English, and rather too high than too low."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from .calls import AttentionCall, Prompt

#: Up to seven letters or three digits, three bytes' worth of other scripts, or one mark, with the blank before it.
_PIECE = re.compile(r"\s?(?:[A-Za-z]{1,7}|[0-9]{1,3}|[^\W\d_a-zA-Z]{1,2}|[^\w\s]|_|\d|\s)")
#: What a chat template puts around a turn.
_TURN = 4


@dataclass(frozen=True)
class RoughTokens:
    """Counts by rules: no vocabulary is known. `limit` is what the user says that prompt and answer may have."""

    limit: int | None = None

    def count(self, prompt: Prompt) -> int:
        texts = [*(message.content for message in prompt.messages), prompt.text, *prompt.parts, prompt.tail]
        return sum(map(self.length, texts)) + _TURN * (len(prompt.messages) + bool(prompt.messages))

    def count_attention(self, call: AttentionCall) -> int:
        sides = (call.before + query + call.after for query in (call.query, call.null_query))
        return sum(map(self.length, (call.head, *(call.join + passage for passage in call.passages), *sides)))

    def length(self, text: str) -> int:
        return sum(1 for _ in _PIECE.finditer(text))

    def cut(self, text: str, tokens: int) -> str:
        for i, piece in enumerate(_PIECE.finditer(text)):
            if i == tokens:
                return text[: piece.start()]
        return text

    def check_labels(self, prompt: Prompt, labels: Sequence[str]) -> None:
        """Only the server knows its tokens: a label that is several comes back missing, and is counted then."""
        for label in labels:
            if not label.strip() or len(label.split()) > 1:
                raise InputError(f"the label {label!r} can't be one token: expected one word or mark")
