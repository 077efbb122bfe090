"""What an LLM reranking will cost, told without its weights: the real sorts and prompts over a backend that only counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from ..models.calls import AttentionCall, Call, Failure, GenerateCall, LabelCall, Reply, Tokens, Usage
from .candidates import Candidates
from .llm import LLMReranker, totals
from .scheduler import schedule

#: Prompts that are tokenised. Of more, every second, third, … is, and stands for its neighbours.
_TOKENISED = 20_000


def plan(stage: LLMReranker, candidates: Sequence[Candidates]) -> dict[str, Any]:
    """Means per query: `calls`, `prompt_tokens`, `new_tokens`, `depth` (calls one after another), and totals.

    `calls_exact` is False where the number of calls depends on the answers; then, and for the tokens of windows that
    later calls read, answers that keep the given order are assumed. `new_tokens` of free text is a guess as well.
    """
    strategy = stage.chosen_strategy
    expected = [strategy.planned(len(c.documents)) for c in candidates]
    total = sum(planned[0] for planned in expected if planned)
    counter = _Counter(stage.runner.tokens, every=1 + total // _TOKENISED)
    outcomes = schedule(strategy, stage.chosen_judge, counter.tokens, counter.answer, candidates)
    counts = totals(outcomes)
    queries = max(1, sum(1 for c in candidates if c.documents))
    names = ("calls", "prompt_tokens", "new_tokens", "depth")
    means = {name: counts[name] / queries for name in names}
    failed = {c.query.id: o.failure for c, o in zip(candidates, outcomes, strict=True) if o.failure}
    return means | {
        "calls_exact": not strategy.data_dependent,
        "queries": queries,
        "total_calls": counts["calls"],
        "total_prompt_tokens": counts["prompt_tokens"],
        "total_new_tokens": counts["new_tokens"],
        "shrunk_prompts": counts["shrunk_prompts"],
        "too_long": failed,
    }


@dataclass
class _Counter:
    """Counts what calls would cost, and answers that the documents are in order already."""

    tokens: Tokens
    every: int

    def __post_init__(self) -> None:
        self._seen = count()

    def answer(self, calls: Sequence[Call]) -> Iterator[tuple[int, Reply | Failure]]:
        for position, call in enumerate(calls):
            usage = self._usage(call) if next(self._seen) % self.every == 0 else Usage()
            yield position, Reply(usage, _in_order(call), _text(call))

    def _usage(self, call: Call) -> Usage:
        """The tokens of this call, times the calls that it stands for."""
        if isinstance(call, AttentionCall):
            prompt, new = self.tokens.count_attention(call), 0
        else:
            prompt, new = self.tokens.count(call.prompt), self._new(call)
        return Usage(prompt * self.every, 0, new * self.every)

    def _new(self, call: Call) -> int:
        if isinstance(call, GenerateCall):
            expected = self.tokens.length(call.exactly_as_long_as or _text(call))
            return min(expected, call.max_tokens or expected)
        return 1 if isinstance(call, LabelCall) else 0


def _in_order(call: Call) -> tuple[float, ...]:
    if isinstance(call, LabelCall):
        return tuple(float(-i) for i in range(len(call.labels)))
    if isinstance(call, AttentionCall):
        return tuple(float(-i) for i in range(len(call.passages)))
    return () if isinstance(call, GenerateCall) else tuple(0.0 for _ in call.targets)


def _text(call: Call) -> str:
    """The answer that names the documents in their order, or the first one where one is asked for."""
    if not isinstance(call, GenerateCall):
        return ""
    one = call.request is not None and call.request.verb in ("prefer", "choose")
    text = call.choices[0] if one and call.choices else call.separator.join(call.choices[: call.top])
    return text.removeprefix(call.prompt.tail.strip())
