"""Listwise by generation: the model writes the order of the documents down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ...errors import UsageError
from ...models.calls import Call, GenerateCall, Prompt, Reply, Request, Tokens
from ...registry import register
from ..identifiers import check_scheme
from ..parsing import Form, read_order
from . import Answer
from .prompted import Prompted, check_not_negative, check_positive
from .values import picked

#: Tokens that an answer of free length may have beyond the list: an introduction, tags.
_SPARE = 64


@register("generate")
@dataclass
class Generate(Prompted):
    """The model writes `[2] > [3] > [1]`: RankGPT, RankVicuna, RankZephyr, LiT5, FullRank, reasoning models.

    The list is read strictly and repaired as the official parsers do: the first of repeated ids counts, ids of no
    document are dropped, missing ones follow in their given order; each kind is counted.

    `template` names a listwise prompt, `ids` letters or numbers (None as the template has them), `words` cuts passages
    at so many words (None as the template does). `constrained` allows the model no other answer than a list of the ids.
    `thinking_tokens` is the budget of a reasoning model for what it thinks before its answer. `forced_length` makes an
    answer exactly as long as the list of all ids, with no end before, as rank_llm and FullRank decode; None does so
    unless the model thinks or is constrained; false lets the answer end by itself. `top` generates only the best so
    many ids. `temperature` 0 is greedy, `seed` is of the sampling otherwise.
    """

    template: str = "rankzephyr"
    ids: str | None = None
    words: int | None = None
    constrained: bool = False
    thinking_tokens: int = 0
    forced_length: bool | None = None
    top: int | None = None
    temperature: float = 0.0
    seed: int = 0

    asks = "order"
    verbs = frozenset({"order", "choose", "ends", "prefer"})

    def __post_init__(self) -> None:
        check_scheme("generate", self.ids)
        check_positive("generate", top=self.top)
        check_not_negative("generate", thinking_tokens=self.thinking_tokens, temperature=self.temperature)
        if self.constrained and (self.thinking_tokens or self.forced_length is not None):
            raise UsageError(
                "generate: constrained answers are lists of ids and as long as these: leave out thinking_tokens and forced_length"
            )
        if self.forced_length and self.thinking_tokens:
            raise UsageError(
                "generate: a model that thinks can't be forced to a length: leave out one of the two options"
            )
        if self.seed and not self.temperature:
            raise UsageError(
                f"generate: seed is {self.seed}, but temperature 0 takes no sample: set a temperature, or no seed"
            )
        super().__post_init__()
        if self.shown.thinking and not self.thinking_tokens:
            raise UsageError(
                f"generate: the template {self.template} lets the model think: give thinking_tokens, its budget for that"
            )

    def call(self, request: Request, tokens: Tokens) -> tuple[Call, Mapping[str, int]]:
        names = self.names(len(request.documents), self.ids)
        form = self.form(names)
        top = self._top(request)
        answer = _longest(form, top, tokens)
        length = tokens.length(answer)
        forced = not (self.constrained or self.thinking_tokens or self.forced_length is False)
        longest = length + (0 if forced or self.constrained else _SPARE + self.thinking_tokens)
        prompt, counts = self.prompt(request, names, tokens, reserve=longest)
        call = GenerateCall(
            self._prepared(prompt, form),
            max_tokens=longest,
            exactly_as_long_as=answer if forced else "",
            choices=tuple(map(form.written, range(len(names)))),
            separator=form.separator,
            constrained=self.constrained,
            top=top,
            temperature=self.temperature,
            seed=self.seed,
            # The worst is the last of a whole list, so that a list is what the model is asked for.
            request=request._replace(verb="order") if request.verb == "ends" else request,
        )
        return call, counts

    def read(self, request: Request, call: Call, reply: Reply) -> Answer | Call:
        form = self.form(self.names(len(request.documents), self.ids))
        top, cut = self._top(request), reply.finish == "length"
        order, counts = read_order(reply.text, form, top=top, cut=cut, reasoning=bool(self.thinking_tokens))
        nothing = counts.get("repaired_missing", 0) == min(top or len(order), len(order))
        if nothing and request.verb in ("choose", "prefer"):
            return Answer((), (), counts)
        return Answer(picked(request.verb, order), (), counts)

    def _top(self, request: Request) -> int | None:
        """How many ids are wanted: one says which is the best, and the worst is the last of all."""
        if request.verb in ("choose", "prefer"):
            return 1
        return self.top if request.verb == "order" and (self.top or 0) < len(request.documents) else None

    def _prepared(self, prompt: Prompt, form: Form) -> Prompt:
        """The prompt without a tail that is the beginning of the list, which the answer has whole."""
        if prompt.tail and form.before.startswith(prompt.tail):
            prompt = replace(prompt, tail="")
        return replace(prompt, thinking=True) if self.thinking_tokens else prompt


def _longest(form: Form, top: int | None, tokens: Tokens) -> str:
    """The list of all ids, or of those `top` that have the most tokens."""
    positions: Sequence[int] = range(len(form.names))
    if top is not None and top < len(form.names):
        lengths = [tokens.length(form.written(i)) for i in positions]
        positions = sorted(positions, key=lambda i: -lengths[i])[:top]
    return form.whole(positions)
