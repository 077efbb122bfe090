"""A deterministic oracle that answers by words in common or by judgements: for tests, dry runs and the docs' examples."""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from ...errors import InputError, UsageError
from ...records import Document, Qrels, Query
from ...registry import register
from ..calls import (
    AttentionCall,
    Call,
    Failure,
    GenerateCall,
    LabelCall,
    LikelihoodCall,
    Prompt,
    Reply,
    Request,
    Usage,
    unsaid,
)
from . import Backend

#: Words, punctuation marks, and tags or reserved tokens such as `<extra_id_10>`.
_TOKEN = re.compile(r"\s*(?:</?\w+>|\w+|[^\w\s])")
#: Tokens that frame a chat's turn: its start, its role, its end.
_TURN = 3
#: From this value on a document counts as relevant where yes or no is asked: half of the query's words, or a label of 1.
_RELEVANT = 0.5
#: The label of a document that has all the query's words.
_HIGHEST = 3


@register("fake")
@dataclass
class Fake(Backend):
    """A deterministic oracle with settable noise, position bias, malformed answers and failures; runs no model.

    `relevance` is overlap (the share of the query's words that a document has, from 0 to 1) or a file of judgements,
    whose labels are used (0 where there is none). A label asked for is the relevance in whole numbers, of words in
    common three times their share. `noise` is the standard deviation of a Gaussian added to each
    (query, document). `position_bias` is added to the document shown first, falling to nothing for the last.
    `malformed` is the share of generated answers that lack ids, repeat one, name one that is not there, or stand in
    prose; `failures` the share of calls that fail. `seed` and `model`, any name, draw all of these. A prompt longer than
    `max_length` tokens (words and punctuation marks) fails.
    """

    model: str | None = None
    relevance: str = "overlap"
    noise: float = 0.0
    position_bias: float = 0.0
    malformed: float = 0.0
    failures: float = 0.0
    seed: int = 0
    max_length: int | None = None

    calls = (LabelCall, GenerateCall, LikelihoodCall, AttentionCall)
    remembered = False

    def __post_init__(self) -> None:
        for name in ("malformed", "failures"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"fake: {name} is {getattr(self, name)}, expected a share from 0 to 1")
        if not self.noise >= 0:
            raise UsageError(f"fake: noise is {self.noise}, expected a standard deviation >= 0")
        if self.max_length is not None and self.max_length < 1:
            raise UsageError(f"fake: max_length is {self.max_length}, expected a number of tokens >= 1")

    def open(self) -> None:
        _ = self._labels

    @cached_property
    def tokens(self) -> FakeTokens:
        return FakeTokens(self.max_length)

    def identity(self) -> dict[str, str]:
        names = ("model", "relevance", "noise", "position_bias", "malformed", "failures", "seed", "max_length")
        content = {"backend": "fake"} | {name: str(getattr(self, name)) for name in names}
        if self.relevance != "overlap":
            content["qrels"] = hashlib.sha256(_bytes(self.relevance)).hexdigest()[:16]
        return content

    def answer(self, calls: Sequence[Call]) -> Iterator[tuple[int, Reply | Failure]]:
        for i, call in enumerate(calls):
            self.check(call)
            yield i, self._answer(call)

    def _answer(self, call: Call) -> Reply | Failure:
        if call.request is None:
            raise UsageError("the backend fake answers by the request of a call, and this call has none")
        prompt = (
            self.tokens.count_attention(call) if isinstance(call, AttentionCall) else self.tokens.count(call.prompt)
        )
        if self.max_length is not None and prompt > self.max_length:
            return Failure(f"the prompt has {prompt} tokens, max_length={self.max_length} allows fewer")
        if self._chance("failures", call.request).random() < self.failures:
            return Failure(f"the fake model failed (failures={self.failures})")
        values = self._values(call.request)
        if isinstance(call, GenerateCall):
            return self._text(call, call.request, values, prompt)
        if isinstance(call, AttentionCall):
            return Reply(Usage(prompt), tuple(values))
        count = len(call.labels if isinstance(call, LabelCall) else call.targets)
        if isinstance(call, LabelCall):
            return Reply(Usage(prompt, new=1), tuple(_spread(values, count, call.request.verb)))
        return Reply(Usage(prompt), tuple(_log_probabilities(values, count, call.request.verb)))

    # ---- relevance --------------------------------------------------------------------------------------------------

    @cached_property
    def _labels(self) -> dict[str, dict[str, int]] | None:
        """{query id: {document id: label}}, where the relevance is a file."""
        if self.relevance == "overlap":
            return None
        _bytes(self.relevance)
        return Qrels.read(self.relevance).to_dict()

    def _values(self, request: Request) -> list[float]:
        """How good each document of the request seems, in its place."""
        last = max(len(request.documents) - 1, 1)
        values = [self._relevance(request.verb, request.query, document) for document in request.documents]
        if self.position_bias and len(values) > 1:
            values = [value + self.position_bias * (1 - i / last) for i, value in enumerate(values)]
        return values

    def _relevance(self, verb: str, query: Query, document: Document) -> float:
        if self._labels is None:
            wanted = _terms(query.text)
            value = len(wanted & _terms(document.full_text)) / max(len(wanted), 1)
            value *= _HIGHEST if verb == "grade" else 1
        else:
            value = float(self._labels.get(query.id, {}).get(document.id, 0))
        if self.noise:
            value += random.Random(f"{self.seed}/{self.model}/noise/{query.id}/{document.id}").gauss(0, self.noise)
        return value

    def _chance(self, what: str, request: Request) -> random.Random:
        """The same draw for the same documents in the same places."""
        ids = " ".join(document.id for document in request.documents)
        return random.Random(f"{self.seed}/{self.model}/{what}/{request.verb}/{request.query.id}/{ids}")

    # ---- text -------------------------------------------------------------------------------------------------------

    def _text(self, call: GenerateCall, request: Request, values: list[float], prompt: int) -> Reply:
        names = _named(call, request, values)
        chance = self._chance("malformed", request)
        if names and not call.constrained and chance.random() < self.malformed:
            text = _garbled(names, call.separator, chance)
        elif names:
            text = call.separator.join(names)
        else:
            text = f"The passage has {max(values, default=0.0):.2f} of what the query asks for."
        text = unsaid(call.prompt.tail, text)
        stops = [text.find(stop) for stop in call.stop if stop in text]
        text = text[: min(stops)] if stops else text
        allowed = self.tokens.length(call.exactly_as_long_as) if call.exactly_as_long_as else call.max_tokens
        finish = "length" if self.tokens.length(text) > allowed else "stop"
        text = self.tokens.cut(text, allowed)
        return Reply(Usage(prompt, new=self.tokens.length(text)), text=text, finish=finish)


def _named(call: GenerateCall, request: Request, values: list[float]) -> list[str]:
    """The documents, or the two words of a pointwise answer, that the answer should name; ties go by place."""
    if not call.choices:
        return []
    if request.verb == "score":
        return [call.choices[0] if values[0] >= _RELEVANT else call.choices[-1]]
    if request.verb == "grade":
        return [call.choices[min(max(round(values[0]), 0), len(call.choices) - 1)]]
    best = sorted(range(min(len(values), len(call.choices))), key=lambda i: -values[i])
    if request.verb in ("prefer", "choose"):
        best = best[:1]
    elif request.verb == "ends":
        best = [best[0], best[-1]]
    return [call.choices[i] for i in best[: call.top]]


def _garbled(names: list[str], separator: str, chance: random.Random) -> str:
    """An answer as models give them that need repair."""
    kind = chance.choice(("missing", "repeated", "out of range", "prose"))
    place = chance.randrange(len(names))
    if kind == "missing":
        return separator.join(names[:place] + names[place + 1 :])
    if kind == "repeated":
        return separator.join([*names[: place + 1], names[place], *names[place + 1 :]])
    if kind == "out of range":
        return separator.join([*names[:place], _elsewhere(names[place]), *names[place + 1 :]])
    return f"Sure! Here is my answer: {separator.join(names)}. I hope that this helps."


def _elsewhere(name: str) -> str:
    """A name of the same form that no document has."""
    return re.sub(r"\d+", "999", name) if re.search(r"\d", name) else re.sub(r"\b[A-Z]\b", "ZZ", name)


def _spread(values: list[float], labels: int, verb: str) -> list[float]:
    """A value for each label. Those that name no document are far below the others; where one document is scored, the
    other label speaks against it and has the value from which on it counts as relevant."""
    other = _RELEVANT if verb == "score" else min(values, default=0.0) - 10.0
    return (values + [other] * max(labels - len(values), 0))[:labels]


def _log_probabilities(values: list[float], targets: int, verb: str) -> list[float]:
    """Log-probabilities in the order of the values: a lone target's against nothing else, several ones' among themselves."""
    if targets == 1:
        return [-math.log1p(math.exp(-max(value, -30.0))) + min(value + 30.0, 0.0) for value in values[:1]]
    spread = _spread(values, targets, verb)
    top = max(spread)
    total = top + math.log(sum(math.exp(value - top) for value in spread))
    return [value - total for value in spread]


def _bytes(path: str) -> bytes:
    if not Path(path).is_file():
        raise InputError(f"fake: relevance is {path!r}, expected overlap or a file of judgements, and there is none")
    return Path(path).read_bytes()


@lru_cache(maxsize=1 << 16)
def _terms(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


@dataclass(frozen=True)
class FakeTokens:
    """Words and punctuation marks as tokens; a chat's turn costs three more."""

    limit: int | None = None

    def count(self, prompt: Prompt) -> int:
        texts = [*(message.content for message in prompt.messages), prompt.text, *prompt.parts]
        return sum(map(self.length, texts)) + self.length(prompt.tail) + _TURN * len(prompt.messages)

    def count_attention(self, call: AttentionCall) -> int:
        sides = (call.before + query + call.after for query in (call.query, call.null_query))
        return sum(map(self.length, (call.head, *(call.join + passage for passage in call.passages), *sides)))

    def length(self, text: str) -> int:
        return len(_TOKEN.findall(text))

    def cut(self, text: str, tokens: int) -> str:
        for i, found in enumerate(_TOKEN.finditer(text), 1):
            if i > tokens:
                return text[: found.start()]
        return text

    def check_labels(self, prompt: Prompt, labels: Sequence[str]) -> None:
        for label in labels:
            if self.length(label) != 1:
                raise InputError(f"the label {label!r} is {self.length(label)} tokens of the fake model, expected one")
