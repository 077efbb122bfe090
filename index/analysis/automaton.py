"""Regular expressions over a small alphabet of classes, made into one table of a deterministic automaton.

An expression is a set of classes (one of them), or made of expressions by `then`, `either`, `star`. Its states are found by
partial derivatives (Antimirov, Theoretical Computer Science 155, 1996).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

# Expressions are compared as objects, each is made once (`cache`): they are looked up ten thousands of times.


@dataclass(frozen=True, eq=False)
class Then:
    first: Expression
    second: Expression


@dataclass(frozen=True, eq=False)
class Either:
    choices: tuple[Expression, ...]


@dataclass(frozen=True, eq=False)
class Star:
    of: Expression


Expression = frozenset[int] | Then | Either | Star


def then(*parts: Expression) -> Expression:
    """One after another."""
    joined: Expression = NOTHING
    for part in reversed(parts):
        joined = part if joined is NOTHING else _then(part, joined)
    return joined


@cache
def _then(first: Expression, second: Expression) -> Expression:
    return Then(first, second)


@cache
def either(*choices: Expression) -> Expression:
    return Either(choices)


@cache
def star(of: Expression) -> Expression:
    """Any number, also none."""
    return Star(of)


#: The expression of the empty text only.
NOTHING = star(frozenset())


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
