"""Setwise prompting: which of some passages is the most relevant one?"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...errors import UsageError
from ...models.calls import Call, GenerateCall, LabelCall, Reply, Request, Tokens
from ...registry import register
from ..parsing import read_choice
from . import Answer
from .prompted import Prompted, answer_tokens, check_mode, check_positive
from .values import best_first

_MODES = ("generate", "likelihood")


@register("setwise")
@dataclass
class Setwise(Prompted):
    """Setwise (Zhuang et al., SIGIR 2024): the model names the best of some passages, labelled A to W.

    `template` names a prompt that asks for the best. `mode` is generate (the model writes a label; a text that names
    none, or several, is counted) or likelihood (the labels' logits, which also order all documents; scores are the
    labels' probabilities among them). With `permutations` above 1, so many calls in turn show the documents in shuffled
    order under shuffled labels, and their votes or probabilities are added up; ties go by the given order. `seed` is of
    the shuffling. `words` cuts passages at so many words, None as the template does.
    """

    template: str = "setwise"
    mode: str = "generate"
    permutations: int = 1
    seed: int = 0
    words: int | None = None

    asks = "choose"
    verbs = frozenset({"choose", "ends", "order", "prefer"})

    def __post_init__(self) -> None:
        check_mode("setwise", self.mode, _MODES)
        check_positive("setwise", permutations=self.permutations)
        if self.seed and self.permutations == 1:
            raise UsageError(f"setwise: seed is {self.seed}, but nothing is shuffled: set permutations, or no seed")
        super().__post_init__()
        if self.mode == "generate":
            self.verbs = frozenset({"choose", "prefer"})

    def call(self, request: Request, tokens: Tokens) -> tuple[Call, Mapping[str, int]]:
        self.__dict__["_tokens"] = tokens  # a further call is made of `read`, which is given none
        return self._ask(request, tokens, _Tally.none(len(request.documents)))

    def read(self, request: Request, call: Call, reply: Reply) -> Answer | Call:
        assert isinstance(call, GenerateCall | LabelCall)
        tally = _Tally.of(call.so_far)
        order, names = self._shown_as(request, tally.turn)
        if isinstance(call, LabelCall):
            votes, counts = _probabilities(reply.values)
        else:
            votes, counts = self._vote(reply.text, names)
        tally = tally.plus(order, votes, counts)
        if tally.turn < self.permutations:
            return self._ask(request, self.__dict__["_tokens"], tally)[0]
        if not any(tally.votes):
            return Answer((), (), tally.counts())
        shares = [vote / self.permutations for vote in tally.votes]
        tied = request.verb == "prefer" and shares[0] == shares[1]
        best = () if tied else best_first(request.verb, shares)
        return Answer(best, tuple(shares) if self.mode == "likelihood" else (), tally.counts())

    def _ask(self, request: Request, tokens: Tokens, tally: _Tally) -> tuple[Call, Mapping[str, int]]:
        """The call of the tally's turn. Its request has the documents as they are shown."""
        order, names = self._shown_as(request, tally.turn)
        seen = request._replace(documents=tuple(request.documents[i] for i in order))
        labels = tuple(map(self.shown.label, names))
        if self.mode == "likelihood":
            prompt, counts = self.prompt(seen, names, tokens, reserve=1)
            self.check_labels(prompt, labels, tokens)
            return LabelCall(prompt, labels, seen, tally.packed()), counts
        form = self.form(names)
        length = answer_tokens(self.shown, form, labels, tokens)
        prompt, counts = self.prompt(seen, names, tokens, reserve=length)
        choices = tuple(map(form.written, range(len(names))))
        return GenerateCall(prompt, length, choices=choices, request=seen, so_far=tally.packed()), counts

    def _shown_as(self, request: Request, turn: int) -> tuple[list[int], tuple[str, ...]]:
        """The documents' positions in the order in which a turn shows them, and what they are called there."""
        n = len(request.documents)
        order, names = list(range(n)), list(self.names(n))
        if self.permutations > 1:
            ids = " ".join(document.id for document in request.documents)
            chance = random.Random(f"{self.seed}/{turn}/{request.query.id}/{ids}")
            chance.shuffle(order)
            chance.shuffle(names)
        return order, tuple(names)

    def _vote(self, text: str, names: Sequence[str]) -> tuple[list[float], Mapping[str, int]]:
        best, counts = read_choice(text, self.form(names), tuple(map(self.shown.label, names)))
        return [float(i == best) for i in range(len(names))], counts


def _probabilities(values: Sequence[float]) -> tuple[list[float], Mapping[str, int]]:
    """Softmax of the labels' logits; one that a server did not tell has none, and is counted."""
    missing = sum(map(math.isnan, values))
    top = max((value for value in values if not math.isnan(value)), default=0.0)
    weights = [0.0 if math.isnan(value) else math.exp(value - top) for value in values]
    total = sum(weights) or 1.0
    return [weight / total for weight in weights], {"missing_labels": missing} if missing else {}


_KINDS = ("repaired_unreadable", "repaired_format", "missing_labels")


@dataclass(frozen=True)
class _Tally:
    """What earlier turns of a request said: votes by given position, and oddities. A call carries it as `so_far`."""

    turn: int
    odd: tuple[int, ...]
    votes: tuple[float, ...]

    @classmethod
    def none(cls, n: int) -> _Tally:
        return cls(0, (0,) * len(_KINDS), (0.0,) * n)

    @classmethod
    def of(cls, so_far: tuple[float, ...]) -> _Tally:
        turn, *odd = map(int, so_far[: 1 + len(_KINDS)])
        return cls(turn, tuple(odd), so_far[1 + len(_KINDS) :])

    def packed(self) -> tuple[float, ...]:
        return (self.turn, *self.odd, *self.votes)

    def plus(self, order: Sequence[int], votes: Sequence[float], counts: Mapping[str, int]) -> _Tally:
        """With the votes for the documents at `order` added."""
        total = list(self.votes)
        for position, vote in zip(order, votes, strict=True):
            total[position] += vote
        odd = tuple(count + counts.get(kind, 0) for kind, count in zip(_KINDS, self.odd, strict=True))
        return _Tally(self.turn + 1, odd, tuple(total))

    def counts(self) -> dict[str, int]:
        return {kind: count for kind, count in zip(_KINDS, self.odd, strict=True) if count}
