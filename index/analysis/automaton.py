"""Regular expressions over a small alphabet of classes, made into one table of a deterministic automaton.

An expression is a set of classes (one of them), or made of expressions by `then`, `either`, `star`. Its states are found by
partial derivatives (Antimirov, Theoretical Computer Science 155, 1996).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np


class Then(NamedTuple):
    first: Expression
    second: Expression


class Either(NamedTuple):
    choices: tuple[Expression, ...]


class Star(NamedTuple):
    of: Expression


Expression = frozenset[int] | Then | Either | Star

#: The expression of the empty text only.
NOTHING = Star(frozenset())


def then(*parts: Expression) -> Expression:
    """One after another."""
    joined: Expression = NOTHING
    for part in reversed(parts):
        joined = part if joined == NOTHING else Then(part, joined)
    return joined


def either(*choices: Expression) -> Expression:
    return Either(choices)


def star(of: Expression) -> Expression:
    """Any number, also none."""
    return Star(of)


def plus(of: Expression) -> Expression:
    """At least one."""
    return then(of, star(of))


def maybe(of: Expression) -> Expression:
    return either(of, NOTHING)


@cache
def _may_be_empty(e: Expression) -> bool:
    if isinstance(e, Then):
        return _may_be_empty(e.first) and _may_be_empty(e.second)
    if isinstance(e, Either):
        return any(map(_may_be_empty, e.choices))
    return isinstance(e, Star)


@cache
def _after(e: Expression, symbol: int) -> frozenset[Expression]:
    """What may follow once `symbol` has been read."""
    if isinstance(e, Then):
        found = frozenset(then(rest, e.second) for rest in _after(e.first, symbol))
        return found | _after(e.second, symbol) if _may_be_empty(e.first) else found
    if isinstance(e, Either):
        return frozenset().union(*(_after(choice, symbol) for choice in e.choices))
    if isinstance(e, Star):
        return frozenset(then(rest, e) for rest in _after(e.of, symbol))
    return frozenset([NOTHING]) if symbol in e else frozenset()


def deterministic(expression: Expression, symbols: int) -> tuple[np.ndarray, np.ndarray]:
    """The automaton of `expression` over the symbols 0..`symbols` - 1, beginning in state 1; state 0 is that of no return.

    Returns the next state by state and symbol (states, symbols) uint8, and which states accept (states,) bool.
    """
    numbers: dict[frozenset[Expression], int] = {frozenset(): 0, frozenset([expression]): 1}
    rows, states = [], list(numbers)
    for state in states:  # grows on the way
        row = []
        for symbol in range(symbols):
            found = frozenset().union(*(_after(e, symbol) for e in state))
            if found not in numbers:
                numbers[found] = len(states)
                states.append(found)
            row.append(numbers[found])
        rows.append(row)
    accepting = [any(map(_may_be_empty, state)) for state in states]
    return np.array(rows, np.uint8), np.array(accepting, bool)
