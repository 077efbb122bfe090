"""A pair asked in both orders, which is how pairwise ranking prompting guards against a model that likes one place."""

from __future__ import annotations

from ...errors import UsageError
from ..judges import Answer
from . import Ask

#: How two answers make a verdict: by what they name, or by the probabilities that they give.
AGGREGATES = ("wins", "probability")


def both_orders(a: int, b: int) -> list[Ask]:
    return [(a, b), (b, a)]


def verdict(there: Answer, back: Answer, aggregate: str) -> int:
    """1 where a wins, -1 where b does, 0 for a tie; `there` answered (a, b), `back` (b, a).

    By `wins` both answers must name the same document (Qin et al. 2023); by `probability` the sum decides, as with the
    pairwise T5 in the Setwise paper's code.
    """
    if aggregate == "probability":
        forward, backward = first_wins(there), first_wins(back)
        return (forward > backward) - (forward < backward)
    named = (there.order[:1], back.order[:1])
    return 1 if named == ((0,), (1,)) else -1 if named == ((1,), (0,)) else 0


def first_wins(answer: Answer) -> float:
    """The probability that the document shown first is the better one."""
    if len(answer.scores) != 2 or not 0 <= answer.scores[0] <= 1:
        given = f"{answer.scores}" if answer.scores else "none"
        raise UsageError(
            f"aggregate=probability needs a judge that gives the probability of each of two documents, this one gave "
            f"{given}: choose aggregate=wins, or a judge or mode that reads probabilities"
        )
    return answer.scores[0]
