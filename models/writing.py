"""What a generated text may be, token by token: length, end, stop strings, sampling, or only a permutation of choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ..errors import InputError, UsageError
from .calls import GenerateCall, unsaid
from .tokenizing import HFTokens

#: Tokens at the end of a prompt or of an answer that are decoded with what follows, as white space depends on them.
_CONTEXT = 8


class Writer(Protocol):
    """One text in the making. `tokens` are its ids so far; at most `most`; `done` when no more may come, `cut` if it had
    more to say."""

    tokens: list[int]
    most: int
    done: bool
    cut: bool

    def options(self) -> list[int] | None:
        """The tokens that may come next; None if any may."""

    def banned(self) -> list[int]:
        """Tokens that may not come next, where any others may."""

    def push(self, token: int) -> None:
        """Take the next token."""

    def text(self) -> str:
        """What was written."""

    def restart(self) -> None:
        """Forget it."""


class Writing:
    """A call and its text in the making. It picks the likeliest token, or draws one, as no other call in the batch can
    disturb."""

    def __init__(self, call: GenerateCall, writer: Writer) -> None:
        self.writer, self.temperature, self.seed = writer, call.temperature, call.seed
        self.random = torch.Generator()
        self.restart()

    def restart(self) -> None:
        """Forget what was written."""
        self.writer.restart()
        self.random.manual_seed(self.seed)

    def step(self, logits: Callable[[list[int] | None], Tensor]) -> list[int]:
        """Choose the next token and take those after it that have no alternative; all of them. `logits(ids)` gives (n,)
        float32 for these tokens, or for the whole vocabulary."""
        options = self.writer.options()
        if options is None:
            scores = logits(None)
            if banned := self.writer.banned():
                scores = scores.index_fill(0, torch.tensor(banned, device=scores.device), -torch.inf)
            token = self._pick(scores)
        else:
            token = options[self._pick(logits(options))] if len(options) > 1 else options[0]
        return self._take(token) + self.unasked()

    def unasked(self) -> list[int]:
        """Take the next tokens as long as they have no alternative; all of them."""
        taken: list[int] = []
        while not self.writer.done and (options := self.writer.options()) is not None and len(options) == 1:
            taken += self._take(options[0])
        return taken

    def _take(self, token: int) -> list[int]:
        before = len(self.writer.tokens)
        self.writer.push(token)
        return self.writer.tokens[before:]

    def _pick(self, logits: Tensor) -> int:
        """The place of the chosen one of logits (n,). By Gumbel's trick: the largest of logit / temperature plus noise
        is a draw from the softmax."""
        if self.temperature > 0:
            uniform = torch.rand(len(logits), generator=self.random, dtype=torch.float64).clamp_min(1e-300)
            logits = logits.cpu().double() / self.temperature - (-uniform.log()).log()
        return int(logits.argmax())


class TopK(Writing):
    """A call whose tokens are drawn from the `top_k` likeliest of each step."""

    def __init__(self, call: GenerateCall, writer: Writer, top_k: int) -> None:
        super().__init__(call, writer)
        self.top_k = top_k

    def _pick(self, logits: Tensor) -> int:
        values, places = logits.topk(min(self.top_k, len(logits)))
        return int(places[super()._pick(values)])


class FreeWriter:
    """Text of any tokens: at most `most`, at least `least`, up to an end token or the first of the call's stop strings."""

    def __init__(self, call: GenerateCall, tokens: HFTokens, ends: Sequence[int], before: Sequence[int]) -> None:
        exactly = tokens.length(call.exactly_as_long_as) if call.exactly_as_long_as else 0
        self.most, self.least = (exactly, exactly) if exactly else (call.max_tokens, 0)
        self.stop, self.ends, self.tokenizer = call.stop, list(ends), tokens
        self.before = list(before)[-_CONTEXT:]
        self.restart()

    def restart(self) -> None:
        self.tokens: list[int] = []
        self.done = self.cut = False

    def options(self) -> list[int] | None:
        return None

    def banned(self) -> list[int]:
        return self.ends if len(self.tokens) < self.least else []

    def push(self, token: int) -> None:
        if token in self.ends:
            self.done = True
            return
        self.tokens.append(token)
        if self.stop and self._stopped_at(self.text_of(self.tokens[-_CONTEXT - self._longest_stop() :])) >= 0:
            self.done = True
        elif len(self.tokens) >= self.most:
            self.done, self.cut = True, not self.least

    def text(self) -> str:
        text = self.text_of(self.tokens)
        stopped = self._stopped_at(text)
        return text[:stopped] if stopped >= 0 else text

    def text_of(self, tokens: Sequence[int]) -> str:
        """Tokens as the text that they add to what stands before them."""
        earlier = self.before if len(tokens) == len(self.tokens) else []
        start = self.tokenizer.decode(earlier) if earlier else ""
        whole = self.tokenizer.decode([*earlier, *tokens])
        return whole[len(start) :] if whole.startswith(start) else self.tokenizer.decode(tokens)

    def _stopped_at(self, text: str) -> int:
        return min((at for at in (text.find(stop) for stop in self.stop) if at >= 0), default=-1)

    def _longest_stop(self) -> int:
        """No token is shorter than a byte, so that so many tokens hold any stop string."""
        return max(len(stop.encode()) for stop in self.stop)


class PermutationWriter:
    """Text that is all of the call's choices, each once, joined by its separator, or the first `top` of such a text.

    Every choice is a fixed row of tokens, another one at the text's beginning than after a separator; a token may come
    when some choice that is left goes on with it. Where one choice's tokens begin another's, the separator's first token
    (or the end) says that the shorter one was meant.
    """

    def __init__(self, call: GenerateCall, tokens: HFTokens, ends: Sequence[int], context: str) -> None:
        self.separator, self.ends = call.separator, list(ends)
        self.choices = call.choices
        self.goal = len(call.choices) if call.top is None else min(call.top, len(call.choices))
        self.tail = call.prompt.tail
        beginnings = [unsaid(self.tail, choice) for choice in call.choices]
        self.first = _pieces(tokens, context, beginnings)
        after = context + beginnings[0] if beginnings else context
        self.later = _pieces(tokens, after, [call.separator + choice for choice in call.choices])
        self.most = max(map(len, self.first), default=0) + sum(map(len, self.later))
        self.restart()

    def restart(self) -> None:
        self.order: list[int] = []
        self.prefix: list[int] = []
        self.tokens: list[int] = []
        self.done, self.cut = self.goal == 0, False

    def options(self) -> list[int] | None:
        going_on, complete = self._state()
        if complete is None:
            return going_on
        return sorted({*going_on, *(self._beginnings(complete) if len(self.order) + 1 < self.goal else self.ends)})

    def banned(self) -> list[int]:
        return []

    def push(self, token: int) -> None:
        going_on, complete = self._state()
        if token not in going_on and complete is not None:
            self._take(complete)
            if self.done:  # an end token, which is no part of the text
                return
        self.tokens.append(token)
        self.prefix.append(token)
        going_on, complete = self._state()
        if complete is not None and not going_on:
            self._take(complete)

    def text(self) -> str:
        return unsaid(self.tail, self.separator.join(self.choices[i] for i in self.order))

    def _take(self, choice: int) -> None:
        self.order.append(choice)
        self.prefix = []
        self.done = len(self.order) == self.goal

    def _left(self) -> list[tuple[int, list[int]]]:
        pieces = self.later if self.order else self.first
        return [(i, pieces[i]) for i in range(len(self.choices)) if i not in self.order]

    def _state(self) -> tuple[list[int], int | None]:
        """The tokens that go on with the choice in the making, and the choice that it is already, if it is one."""
        at = len(self.prefix)
        fitting = [(i, piece) for i, piece in self._left() if piece[:at] == self.prefix]
        complete = next((i for i, piece in fitting if len(piece) == at), None) if at else None
        return sorted({piece[at] for _, piece in fitting if len(piece) > at}), complete

    def _beginnings(self, taken: int) -> set[int]:
        """First tokens of what may follow once `taken` is in the text."""
        return {self.later[i][0] for i in range(len(self.choices)) if i not in self.order and i != taken}


def writer_of(
    call: GenerateCall, tokens: HFTokens, ends: Sequence[int], before: Sequence[int]
) -> FreeWriter | PermutationWriter:
    """The text that a call asks for, after the token ids `before`."""
    if call.constrained:
        return PermutationWriter(call, tokens, ends, tokens.context(call.prompt))
    if call.max_tokens < 1 and not call.exactly_as_long_as:
        raise UsageError("a call for text says neither max_tokens nor exactly_as_long_as: how long may the answer be?")
    return FreeWriter(call, tokens, ends, before)


def _pieces(tokens: HFTokens, context: str, texts: Sequence[str]) -> list[list[int]]:
    """The tokens that each text adds to the context; its tokens alone where it would change the context's."""
    before, unknown = tokens.encode(context), tokens.tokenizer.unk_token_id
    pieces = []
    for text, ids in zip(texts, tokens.encode_all([context + text for text in texts]), strict=True):
        piece = ids[len(before) :] if ids[: len(before)] == before else tokens.encode(text)
        if not piece or unknown in piece:
            raise InputError(f"{text!r} can't be written with the tokenizer of {tokens.name}: choose other names")
        pieces.append(piece)
    return pieces
