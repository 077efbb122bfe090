"""What judging would cost, told without a model: the real prompts over a backend that only counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...models.backends import Backend
from ...models.calls import Call, Failure, GenerateCall, Reply, Tokens, Usage
from ...records import TextSource
from . import Grader
from .asking import judge_pairs

#: Tokens that free text, such as a review, is guessed to have.
_FREE_TEXT = 80
#: Passes for as many roles as may be asked for, all different, so that no two reviews are one call.
_ROLES = "\n".join(f"Reviewer: one who looks at aspect {name}" for name in "ABCDEFGHIJKL")


class _Counting(Backend):
    """Answers every call with its lowest label, or with roles, and counts its prompt's tokens."""

    calls = (GenerateCall,)
    remembered = False

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    @property
    def tokens(self) -> Tokens:
        return self._tokens

    def open(self) -> None:
        pass

    def identity(self) -> dict[str, str]:
        return {"backend": "counting"}

    def answer(self, calls: Sequence[Call]) -> Iterator[tuple[int, Reply | Failure]]:
        for position, call in enumerate(calls):
            assert isinstance(call, GenerateCall)
            text = call.choices[0] if call.choices else _ROLES
            new = self._tokens.length(text) if call.choices else min(_FREE_TEXT, call.max_tokens)
            yield position, Reply(Usage(self._tokens.count(call.prompt), 0, new), text=text)


def plan_judging(
    pairs: Mapping[str, Sequence[str]], queries: Mapping[str, str], texts: TextSource, grader: Grader, backend: Backend
) -> dict[str, int]:
    """`pairs`, `calls`, `prompt_tokens` and `new_tokens`, the last of them a guess; equal calls count once, as they are
    asked once. What the ledger has already is not taken off."""
    counts = judge_pairs(pairs, queries, texts, grader, _Counting(backend.tokens)).counts
    names = ("pairs", "missing_texts", "calls", "reused_calls", "prompt_tokens", "new_tokens")
    return {name: counts[name] for name in names}
