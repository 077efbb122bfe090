"""Runs one strategy over many queries in lock-step, so that the backend always gets full batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from ..models.calls import Call, Failure, Reply, Request, Tokens, Usage
from ..progress import Advance
from .candidates import Candidates
from .judges import Answer, Judge, TooLong
from .strategies import Ask, Sorted, Sorting, Strategy

#: (position, reply) pairs for calls, in any order: a backend's `answer`, perhaps with a ledger in front.
Asker = Callable[[Sequence[Call]], Iterable[tuple[int, Reply | Failure]]]

#: Requests whose prompts are held at a time. An all-pairs round of 16 queries has 158,400.
_AT_ONCE = 1024


@dataclass
class Outcome:
    """One query's sort: the order, what it cost, what was odd. `failure` says why it was given up, "" if it was not;
    then `sorted` is the given order. `rounds` is the sequential depth."""

    sorted: Sorted
    calls: int = 0
    rounds: int = 0
    usage: Usage = field(default_factory=Usage)
    counts: Counter[str] = field(default_factory=Counter)
    repaired_calls: int = 0
    failure: str = ""


def schedule(
    strategy: Strategy,
    judge: Judge,
    tokens: Tokens,
    ask: Asker,
    candidates: Sequence[Candidates],
    advance: Advance = lambda steps=1: None,
) -> list[Outcome]:
    """Sort the documents of every query. `advance` is told when a query is finished.

    In each round all pending requests of all queries are asked together. A request that fails ends its query's sort.
    """
    outcomes = [Outcome(Sorted(list(range(len(c.documents))))) for c in candidates]
    sorts = [strategy.sort(len(c.documents)) for c in candidates]
    pending: dict[int, list[Ask]] = {}
    for q in range(len(candidates)):
        _step(q, sorts[q], None, pending, outcomes, advance)
    while pending:
        answers = _round(strategy.verb, judge, tokens, ask, candidates, pending, outcomes)
        for q, given in answers.items():
            del pending[q]
            if outcomes[q].failure:
                sorts[q].close()
                advance(1)
            else:
                _step(q, sorts[q], given, pending, outcomes, advance)
    return outcomes


def _step(
    q: int,
    sort: Sorting,
    answers: list[Answer] | None,
    pending: dict[int, list[Ask]],
    outcomes: list[Outcome],
    advance: Advance,
) -> None:
    """Send a sort its answers; what it asks next is pending, or its result is kept."""
    try:
        asks = next(sort) if answers is None else sort.send(answers)
        while not asks:
            asks = sort.send([])
        pending[q] = asks
    except StopIteration as end:
        outcomes[q].sorted = end.value
        advance(1)


def _round(
    verb: str,
    judge: Judge,
    tokens: Tokens,
    ask: Asker,
    candidates: Sequence[Candidates],
    pending: dict[int, list[Ask]],
    outcomes: list[Outcome],
) -> dict[int, list[Answer]]:
    """The answers to all pending requests. Requests go by query and first document: prompts with a common beginning
    stand together, so that a backend can share it. A judge's second calls count as a round of their own."""
    turns = dict.fromkeys(pending, 1)
    answers = {q: [Answer()] * len(asks) for q, asks in pending.items()}
    places = [(q, i) for q, asks in pending.items() for i in sorted(range(len(asks)), key=lambda i: asks[i])]
    for start in range(0, len(places), _AT_ONCE):
        part = [(q, i) for q, i in places[start : start + _AT_ONCE] if not outcomes[q].failure]
        requests = []
        for q, i in part:
            documents = candidates[q].documents
            requests.append(Request(verb, candidates[q].query, tuple(documents[p] for p in pending[q][i])))
        owners = [outcomes[q] for q, _ in part]
        for row, answer, turn in _answers(judge, tokens, ask, requests, owners):
            q, i = part[row]
            answers[q][i] = answer
            turns[q] = max(turns[q], turn)
    for q, most in turns.items():
        outcomes[q].rounds += most
    return answers


def _answers(
    judge: Judge, tokens: Tokens, ask: Asker, requests: Sequence[Request], owners: Sequence[Outcome]
) -> Iterator[tuple[int, Answer, int]]:
    """(row, answer, number of the call that gave it) for the requests that did not fail. A judge that needs a second
    call gets it."""
    turn = 0
    calls: list[tuple[int, Call]] = []
    for row, (request, owner) in enumerate(zip(requests, owners, strict=True)):
        try:
            call, counts = judge.call(request, tokens)
        except TooLong as error:
            owner.failure = owner.failure or str(error)
            continue
        owner.counts.update(counts)
        calls.append((row, call))
    while calls:
        turn += 1
        again: list[tuple[int, Call]] = []
        for position, reply in _replies(ask, [call for _, call in calls]):
            row, call = calls[position]
            owner = owners[row]
            owner.calls += 1
            if isinstance(reply, Failure):
                owner.failure = owner.failure or reply.reason
                continue
            if reply.reused:
                owner.counts["reused_calls"] += 1
            owner.usage = Usage(*(a + b for a, b in zip(owner.usage, reply.usage, strict=True)))
            try:
                answer = judge.read(requests[row], call, reply)
            except TooLong as error:
                owner.failure = owner.failure or str(error)
                continue
            if isinstance(answer, Answer):
                owner.counts.update(answer.counts)
                owner.repaired_calls += any(name.startswith("repaired") for name in answer.counts)
                yield row, answer, turn
            else:
                again.append((row, answer))
        calls = again


def _replies(ask: Asker, calls: Sequence[Call]) -> Iterator[tuple[int, Reply | Failure]]:
    """(position, reply) for every call: one that got none has failed, so that no document is ranked by silence."""
    missing = set(range(len(calls)))
    for position, reply in ask(calls):
        missing.discard(position)
        yield position, reply
    for position in sorted(missing):
        yield position, Failure("the backend gave no answer to a call")
