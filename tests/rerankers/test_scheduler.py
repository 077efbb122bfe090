"""Many sorts in lock-step over one backend: batches, failures, second calls, and the scores that come of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import pytest
from cribble.models.backends.fake import Fake, FakeTokens
from cribble.models.calls import Call, Failure, LabelCall, Prompt, Reply, Request, Usage
from cribble.records import Document, Query
from cribble.registry import make
from cribble.rerankers.candidates import Candidates
from cribble.rerankers.judges import ROOM as JUDGES
from cribble.rerankers.judges import VERBS, Answer, Judge, TooLong
from cribble.rerankers.llm import positional_scores, totals
from cribble.rerankers.scheduler import Outcome, schedule
from cribble.rerankers.strategies import ROOM, Sorted, Strategy
from cribble.tests.rerankers.oracles import answer, best_first, perfect, play, shuffled
from hypothesis import given, settings
from hypothesis import strategies as st


def sort_named(name: str, **options) -> Strategy:
    made: Strategy = make(ROOM, name, options)
    return made


def candidates(*sizes: int) -> list[Candidates]:
    """Queries q0, q1, … with so many documents; document 3 of q1 is q1-3 and its text is its worth."""
    return [
        Candidates(
            Query(f"q{q}", "which?"), [Document(f"q{q}-{i}", str(worth)) for i, worth in enumerate(shuffled(n, q))]
        )
        for q, n in enumerate(sizes)
    ]


class ByText(Judge):
    """Reads a value for each document, and orders by it; equal values go as shown."""

    verbs = frozenset(VERBS)

    def call(self, request, tokens):
        return self.prompt(request), {"shown": len(request.documents)}

    def prompt(self, request: Request, again: str = "") -> LabelCall:
        text = f"{request.verb} {request.query.id}: {' '.join(d.id for d in request.documents)}{again}"
        return LabelCall(Prompt(text=text), tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(request.documents)]), request)

    def read(self, request, call, reply):
        order = sorted(range(len(reply.values)), key=lambda i: -reply.values[i])
        return answer(request.verb, order, reply.values)


@dataclass
class Desk:
    """Answers calls by the documents' texts, the last one first, and keeps every batch."""

    fails: tuple[str, ...] = ()
    forgets: tuple[str, ...] = ()
    batches: list[list[Call]] = field(default_factory=list)

    def __call__(self, calls: Sequence[Call]) -> Iterator[tuple[int, Reply | Failure]]:
        self.batches.append(list(calls))
        for position in reversed(range(len(calls))):
            request = calls[position].request
            assert request is not None
            ids = {document.id for document in request.documents}
            if ids & set(self.forgets):
                continue
            if ids & set(self.fails):
                yield position, Failure(f"no answer about {min(ids & set(self.fails))}")
            else:
                values = tuple(float(document.full_text) for document in request.documents)
                yield position, Reply(Usage(10 * len(ids), len(ids), 1), values)

    @property
    def calls(self) -> list[Call]:
        return [call for batch in self.batches for call in batch]


def run(strategy: Strategy, desk: Desk, given: Sequence[Candidates], judge: Judge | None = None, **more):
    return schedule(strategy, judge or ByText(), FakeTokens(), desk, given, **more)


# ---- lock-step ------------------------------------------------------------------------------------------------------

SORTS = [
    ("pointwise", {}),
    ("allpair", {}),
    ("heapsort", {"k": 4}),
    ("bubble", {"k": 3}),
    ("setwise-heapsort", {"children": 2}),
    ("setwise-bubble", {"children": 2}),
    ("dual-end", {}),
    ("single", {}),
    ("sliding", {"window": 6, "stride": 3}),
    ("tournament", {"repeats": 2}),
]


@pytest.mark.parametrize(("name", "options"), SORTS)
def test_one_batch_a_round_and_the_same_as_alone(name, options):
    """Each query's outcome is that of its sort alone; the batches are the rounds of all of them together."""
    given, strategy = candidates(12, 0, 25, 1, 7, 2), sort_named(name, **options)
    desk = Desk()
    outcomes = run(strategy, desk, given)
    sizes: dict[int, int] = {}
    for q, (outcome, query) in enumerate(zip(outcomes, given, strict=True)):
        alone, rounds = play(strategy, len(query.documents), perfect(shuffled(len(query.documents), q)))
        assert outcome.sorted == alone
        assert (outcome.calls, outcome.rounds) == (sum(map(len, rounds)), len(rounds))
        assert strategy.planned(len(query.documents)) in (None, (outcome.calls, outcome.rounds))
        for i, asks in enumerate(rounds):
            sizes[i] = sizes.get(i, 0) + len(asks)
    assert [len(batch) for batch in desk.batches] == [sizes[i] for i in range(len(sizes))]


def test_large_rounds_are_asked_in_parts_with_shared_beginnings_together():
    desk = Desk()
    outcomes = run(sort_named("allpair"), desk, candidates(26, 30, 20))
    assert [len(batch) for batch in desk.batches] == [1024, 876]
    assert [outcome.rounds for outcome in outcomes] == [1, 1, 1]
    firsts = [(call.request.query.id, call.request.documents[0].id) for call in desk.calls]
    assert len(list(groupby(firsts))) == len(set(firsts)) == 76
    for q, (outcome, n) in enumerate(zip(outcomes, (26, 30, 20), strict=True)):
        assert outcome.sorted.order == best_first(shuffled(n, q))


def test_nothing_to_do():
    desk = Desk()
    assert run(sort_named("sliding"), desk, []) == []
    done: list[int] = []
    outcomes = run(sort_named("sliding"), desk, candidates(0, 1), advance=lambda steps=1: done.append(steps))
    assert [outcome.sorted.order for outcome in outcomes] == [[], [0]]
    assert desk.batches == []
    assert done == [1, 1]
    assert [positional_scores(outcome).tolist() for outcome in outcomes] == [[], [1.0]]


def test_advance_is_told_of_every_query_when_it_ends():
    """Sorts of different length, a failure among them."""
    desk, told = Desk(fails=("q1-3",)), []
    run(sort_named("bubble", k=2), desk, candidates(3, 30, 9), advance=lambda steps=1: told.append(len(desk.batches)))
    # q0 has 3 - 1 + 2 - 1 rounds, q2 9 - 1 + 2 - 1; q1 fails in the round in which its document 3 is first shown.
    assert told == [3, 9, 26]


def test_costs_add_up():
    outcomes = run(sort_named("single"), Desk(), candidates(5, 3))
    assert [outcome.usage for outcome in outcomes] == [Usage(50, 5, 1), Usage(30, 3, 1)]
    counts = totals(outcomes)
    assert counts["calls"] == 2
    assert (counts["prompt_tokens"], counts["cached_tokens"], counts["new_tokens"]) == (80, 8, 2)
    assert (counts["depth"], counts["failed_queries"], counts["shown"]) == (2, 0, 8)


def test_repaired_answers_are_counted_once_each():
    class Repairing(ByText):
        def read(self, request, call, reply):
            counts = {"repaired_missing": 2, "repaired_repeated": 1} if request.query.id == "q0" else {"odd": 1}
            return Answer(super().read(request, call, reply).order, (), counts)

    first, second = run(sort_named("sliding", window=4, stride=2), Desk(), candidates(8, 8), Repairing())
    assert (first.repaired_calls, first.counts["repaired_missing"], first.counts["repaired_repeated"]) == (3, 6, 3)
    assert (second.repaired_calls, second.counts["odd"]) == (0, 3)


# ---- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options"), SORTS)
def test_a_failing_request_keeps_its_querys_order_and_no_others(name, options):
    given, strategy = candidates(12, 12, 12), sort_named(name, **options)
    outcomes = run(strategy, Desk(fails=("q1-5",)), given)
    assert outcomes[1].failure == "no answer about q1-5"
    assert outcomes[1].sorted == Sorted(list(range(12)))
    assert positional_scores(outcomes[1]).tolist() == list(range(12, 0, -1))
    for q in (0, 2):
        assert not outcomes[q].failure
        assert outcomes[q].sorted == play(strategy, 12, perfect(shuffled(12, q)))[0]
    assert totals(outcomes)["failed_queries"] == 1


def test_a_failed_query_costs_nothing_more():
    """Neither in the parts of the round that are not asked yet, nor in later rounds."""
    desk = Desk(fails=("q0-0",))
    run(sort_named("allpair"), desk, candidates(40))
    assert len(desk.calls) == 1024
    desk = Desk(fails=("q0-11",))
    (outcome,) = run(sort_named("bubble"), desk, candidates(12))
    assert len(desk.calls) == outcome.calls == 2


def test_a_call_without_an_answer_has_failed():
    outcomes = run(sort_named("single"), Desk(forgets=("q1-2",)), candidates(4, 4))
    assert [outcome.failure for outcome in outcomes] == ["", "the backend gave no answer to a call"]
    assert outcomes[0].sorted.order == best_first(shuffled(4, 0))
    assert outcomes[1].sorted.order == [0, 1, 2, 3]


def test_a_prompt_that_is_too_long_fails_its_query_and_is_not_asked():
    class Short(ByText):
        def call(self, request, tokens):
            if any(document.id == "q1-2" for document in request.documents):
                raise TooLong("the prompt has 900 tokens, 512 fit: shorten passages or the window")
            return super().call(request, tokens)

    desk = Desk()
    outcomes = run(sort_named("sliding", window=2, stride=1), desk, candidates(5, 5), Short())
    assert [outcome.failure[:25] for outcome in outcomes] == ["", "the prompt has 900 tokens"]
    assert outcomes[1].sorted.order == [0, 1, 2, 3, 4]
    assert (outcomes[0].calls, outcomes[1].calls) == (4, 1)
    assert all("q1-2" not in call.prompt.text for call in desk.calls)


def test_too_long_while_reading_fails_its_query():
    class Grows(ByText):
        def read(self, request, call, reply):
            if request.query.id == "q0":
                raise TooLong("no room for the second call")
            return super().read(request, call, reply)

    outcomes = run(sort_named("single"), Desk(), candidates(3, 3), Grows())
    assert [outcome.failure for outcome in outcomes] == ["no room for the second call", ""]


def test_errors_of_the_backend_are_raised():
    def broken(calls):
        raise ConnectionError("gone")
        yield

    with pytest.raises(ConnectionError, match="gone"):
        schedule(sort_named("single"), ByText(), FakeTokens(), broken, candidates(3))


# ---- second calls ---------------------------------------------------------------------------------------------------


class Twice(ByText):
    """Asks about every second query's requests once more, and takes that answer turned around."""

    def read(self, request, call, reply):
        if call.prompt.text.endswith("again"):
            values = tuple(-value for value in reply.values)
            return super().read(request, call, Reply(values=values))
        if request.query.id in ("q1", "q3"):
            return self.prompt(request, " again")
        return super().read(request, call, reply)


def test_a_judge_asks_again():
    desk = Desk()
    outcomes = run(sort_named("sliding", window=4, stride=2), desk, candidates(8, 8), Twice())
    assert [outcome.calls for outcome in outcomes] == [3, 6]
    assert [outcome.rounds for outcome in outcomes] == [3, 6]  # second calls wait for the first ones
    assert outcomes[0].sorted.order[:2] == best_first(shuffled(8, 0))[:2]
    assert outcomes[1].sorted.order[:2] == best_first(shuffled(8, 1))[:-3:-1]
    assert outcomes[1].usage == Usage(240, 24, 6)
    assert [len(batch) for batch in desk.batches] == [2, 1] * 3


def test_a_failing_second_call():
    class Fragile(Desk):
        def __call__(self, calls):
            for position, reply in super().__call__(calls):
                broken = calls[position].prompt.text.endswith("again") and "q3" in calls[position].prompt.text
                yield position, Failure("second thoughts failed") if broken else reply

    outcomes = run(sort_named("single"), Fragile(), candidates(3, 3, 3, 3), Twice())
    assert [outcome.failure for outcome in outcomes] == ["", "", "", "second thoughts failed"]
    assert outcomes[1].sorted.order == best_first(shuffled(3, 1))[::-1]
    assert outcomes[3].sorted.order == [0, 1, 2]


# ---- real parts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["allpair", "heapsort", "bubble"])
def test_pairwise_prompting_over_the_fake_backend(name):
    """Documents with more of the query's words come first; the one that the query repeats whole is the best."""
    words = ["red", "green", "blue", "dark", "light"]
    documents = [Document(str(i), " ".join(words[:i])) for i in (2, 5, 1, 4, 3)]
    given = [Candidates(Query("1", " ".join(words)), documents)]
    backend = Fake()
    judge = make(JUDGES, "prp", {})
    (outcome,) = schedule(sort_named(name), judge, backend.tokens, backend.answer, given)
    assert [documents[i].id for i in outcome.sorted.order] == ["5", "4", "3", "2", "1"]
    assert not outcome.failure
    assert outcome.usage.prompt > outcome.usage.new > 0


# ---- scores ---------------------------------------------------------------------------------------------------------


def outcome_of(scores: Sequence[float] | None, order: list[int] | None = None, failure: str = "") -> Outcome:
    order = list(range(len(scores or []))) if order is None else order
    return Outcome(Sorted(order, None if scores is None else list(scores)), failure=failure)


def falls(scores: np.ndarray, order: Sequence[int]) -> bool:
    """In the order given, as float32 and when written and read as text."""
    single = np.array([np.float32(float(repr(float(scores[i])))) for i in order], np.float32)
    return bool(np.isfinite(single).all() and (single[1:] < single[:-1]).all())


@pytest.mark.parametrize(
    "scores",
    [
        [3.0, 3.0, 3.0, 1.0, 1.0],
        [0.0, 0.0, -0.0, 0.0],
        [1.0, 1.0 - 1e-12, 1.0 - 2e-12, 0.99999994],
        [1e-46, 1e-46, 0.0, 0.0],
        [1e-45, 1e-45, 1e-45],
        [16777217.0, 16777216.5, 16777216.0],
        [1e39, 1e39, 1e38, 1e38],
        [-1e38, -1e39, -1e39],
        [3.4028234e38, 3.4028234e38, -3.4028234e38, -3.4028234e38],
        [5.0, float("-inf"), float("-inf")],
        [float("inf"), float("inf"), 0.0],
    ],
)
def test_scores_fall_strictly(scores):
    assert falls(positional_scores(outcome_of(scores)), range(len(scores)))


@given(
    scores=st.lists(st.floats(allow_nan=False, width=64), max_size=40),
    repeat=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
@settings(max_examples=200, deadline=None)
def test_any_scores_fall_strictly_in_the_order_given(scores, repeat, seed):
    scores = sorted(scores * repeat, reverse=True)
    order = shuffled(len(scores), seed)
    assert falls(positional_scores(outcome_of(scores, order)), order)


def test_scores_that_fall_are_kept():
    scores = positional_scores(outcome_of([2.5, 0.25, -7.0], [2, 0, 1]))
    assert scores.tolist() == [0.25, -7.0, 2.5]
    assert positional_scores(outcome_of(None, [2, 0, 1])).tolist() == [2.0, 1.0, 3.0]


def test_a_failed_query_has_ranks_for_scores():
    assert positional_scores(outcome_of([9.0, 8.0], failure="no")).tolist() == [2.0, 1.0]
