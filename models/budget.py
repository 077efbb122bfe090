"""How many tokens and how much money a model's answers may cost."""

from __future__ import annotations

from dataclasses import dataclass, field

from .calls import Usage


@dataclass
class Budget:
    """Limits on all tokens read and written, and on their cost at prices per million tokens; None is no limit.

    What is under way counts by its estimate, so that a limit is kept as far as the estimates are right.
    """

    max_total_tokens: int | None = None
    max_cost: float | None = None
    price_in: float = 0.0
    price_out: float = 0.0
    answers: int = 0
    spent: Usage = field(default_factory=Usage)
    reserved: Usage = field(default_factory=Usage)

    @property
    def limited(self) -> bool:
        return self.max_total_tokens is not None or self.max_cost is not None

    def cost(self, usage: Usage) -> float:
        return (usage.prompt * self.price_in + usage.new * self.price_out) / 1e6

    def refusal(self, estimate: Usage) -> str:
        """The limit that one more call would exceed, as `name=value`; "" where it fits."""
        whole = _sum(_sum(self.spent, self.reserved), estimate)
        if self.max_total_tokens is not None and whole.prompt + whole.new > self.max_total_tokens:
            return f"max_total_tokens={self.max_total_tokens}"
        if self.max_cost is not None and self.cost(whole) > self.max_cost:
            return f"max_cost={self.max_cost:g}"
        return ""

    def reserve(self, estimate: Usage) -> None:
        self.reserved = _sum(self.reserved, estimate)

    def settle(self, estimate: Usage, usage: Usage | None) -> None:
        """The call that `estimate` was reserved for is over; `usage` is what it cost, None where it got no answer."""
        self.reserved = Usage(*(a - b for a, b in zip(self.reserved, estimate, strict=True)))
        if usage is not None:
            self.spent = _sum(self.spent, usage)
            self.answers += 1

    def account(self) -> str:
        """What was spent so far, in words."""
        tokens = f"{self.answers:,} answers with {self.spent.prompt:,} prompt and {self.spent.new:,} new tokens"
        return f"{tokens} for {self.cost(self.spent):.4f}" if self.max_cost is not None else tokens


def _sum(a: Usage, b: Usage) -> Usage:
    return Usage(*(x + y for x, y in zip(a, b, strict=True)))
