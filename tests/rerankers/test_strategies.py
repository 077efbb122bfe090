"""Every sort against judges whose answers are known: perfect, noisy, biased, silent and circular ones."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from cribble.errors import UsageError
from cribble.registry import entries, find, make, option_names
from cribble.rerankers.judges import VERBS, Answer
from cribble.rerankers.strategies import ROOM, Ask, Sorted, Strategy
from cribble.tests.rerankers.oracles import (
    always_first,
    best_first,
    circular,
    noisy,
    perfect,
    play,
    shuffled,
    silent,
)
from hypothesis import given, settings
from hypothesis import strategies as st

SIZES = (0, 1, 2, 5, 10, 19, 20, 21, 25, 100)
#: Name and options of a sort; every registered one at its defaults and with what its options change most.
SORTS = [
    ("pointwise", {}),
    ("allpair", {}),
    ("allpair", {"aggregate": "probability"}),
    ("allpair", {"orders": 1}),
    ("allpair", {"orders": 1, "aggregate": "probability"}),
    ("heapsort", {}),
    ("heapsort", {"k": 1}),
    ("heapsort", {"k": 1000, "aggregate": "probability"}),
    ("heapsort", {"compat": "ielab"}),
    ("bubble", {}),
    ("bubble", {"k": 1}),
    ("bubble", {"k": 1000, "aggregate": "probability"}),
    ("bubble", {"compat": "ielab"}),
    ("setwise-heapsort", {}),
    ("setwise-heapsort", {"children": 1, "k": 1000}),
    ("setwise-heapsort", {"children": 19, "k": 3}),
    ("setwise-bubble", {}),
    ("setwise-bubble", {"children": 1, "k": 1000}),
    ("setwise-bubble", {"children": 19, "k": 3}),
    ("setwise-bubble", {"compat": "ielab", "children": 2}),
    ("dual-end", {}),
    ("dual-end", {"k": 3}),
    ("single", {}),
    ("single", {"top": 7}),
    ("sliding", {}),
    ("sliding", {"window": 4, "stride": 2, "passes": 5}),
    ("sliding", {"window": 3, "stride": 3}),
    ("sliding", {"compat": "rankgpt"}),
    ("sliding", {"compat": "rank_llm"}),
    ("sliding", {"compat": "ielab", "passes": 2}),
    ("tournament", {}),
    ("tournament", {"repeats": 10, "seed": 3}),
    ("tournament", {"survivors": [7, 3, 1], "group_sizes": [4, 3, 2]}),
]
IDS = [f"{name} {options}" if options else name for name, options in SORTS]


@pytest.fixture(params=SORTS, ids=IDS)
def strategy(request) -> Strategy:
    name, options = request.param
    made: Strategy = make(ROOM, name, options)
    return made


def named(name: str, **options) -> Strategy:
    made: Strategy = make(ROOM, name, options)
    return made


def judges(n: int):
    yield from (perfect(shuffled(n, 1)), noisy(n, 2), always_first, circular(n))


def test_every_registered_sort_is_tested():
    assert {name for name, _ in SORTS} == set(entries(ROOM))


def test_a_permutation_for_the_planned_cost(strategy):
    for n in SIZES:
        costs = set()
        for judge in judges(n):
            result, rounds = play(strategy, n, judge)
            check(result, rounds, n, strategy.verb)
            costs.add((sum(map(len, rounds)), len(rounds)))
        if strategy.data_dependent:
            assert strategy.planned(n) is None
            assert n < 25 or len(costs) > 1
        else:
            assert costs == {strategy.planned(n)}


def check(result: Sorted, rounds: list[list[Ask]], n: int, verb: str) -> None:
    """The order is a permutation, scores go with it, and every request is of its verb's form."""
    assert sorted(result.order) == list(range(n))
    for ask in (ask for asks in rounds for ask in asks):
        assert len(set(ask)) == len(ask)
        assert 0 <= min(ask) <= max(ask) < n
        assert len(ask) == {"score": 1, "prefer": 2}.get(verb, len(ask))
        assert len(ask) > 1 or verb == "score"
    if result.scores is not None:
        assert len(result.scores) == n
        assert all(a >= b for a, b in pairwise(result.scores))


def test_which_sorts_depend_on_the_answers():
    found = {name for name in entries(ROOM) if named(name).data_dependent}
    assert found == {"heapsort", "setwise-heapsort"}
    assert named("bubble", compat="ielab").data_dependent
    assert named("setwise-bubble", compat="ielab").data_dependent


# ---- a perfect judge ------------------------------------------------------------------------------------------------

COMPLETE = [
    ("pointwise", {}),
    ("allpair", {}),
    ("allpair", {"aggregate": "probability"}),
    ("allpair", {"orders": 1}),
    ("heapsort", {"k": 1000}),
    ("heapsort", {"k": 1000, "aggregate": "probability"}),
    ("heapsort", {"k": 1000, "compat": "ielab"}),
    ("bubble", {"k": 1000}),
    ("bubble", {"k": 1000, "aggregate": "probability"}),
    ("bubble", {"k": 1000, "compat": "ielab"}),
    *[(f"setwise-{sort}", {"k": 1000, "children": m}) for sort in ("heapsort", "bubble") for m in (1, 2, 3, 4, 7, 19)],
    ("dual-end", {}),
    ("single", {}),
    ("sliding", {"window": 100}),
    ("sliding", {"window": 4, "stride": 2, "passes": 50}),
]


@pytest.mark.parametrize(("name", "options"), COMPLETE, ids=str)
def test_a_perfect_judge_sorts_completely(name, options):
    for n in SIZES:
        for seed in range(3):
            worth = shuffled(n, seed)
            assert play(named(name, **options), n, perfect(worth))[0].order == best_first(worth)


TOP = [
    ("heapsort", {}),
    ("heapsort", {"compat": "ielab"}),
    ("bubble", {"compat": "ielab"}),
    *[(f"setwise-{sort}", {"children": m}) for sort in ("heapsort", "bubble") for m in (1, 2, 3, 10)],
]


@pytest.mark.parametrize(("name", "options"), TOP, ids=str)
def test_the_best_k_are_sorted_and_the_rest_keeps_its_order(name, options):
    for n in SIZES:
        worth = shuffled(n, 5)
        for k in (1, 3, 10):
            best = best_first(worth)[:k]
            expected = best + [position for position in range(n) if position not in best]
            assert play(named(name, k=k, **options), n, perfect(worth))[0].order == expected
        assert play(named("single", top=3), n, perfect(worth))[0].order == [
            *best_first(worth)[:3],
            *sorted(best_first(worth)[3:]),
        ]


@pytest.mark.parametrize("n", SIZES)
def test_bubble_leaves_the_list_beneath_as_its_passes_do(n):
    """By a plain bubble sort over the list, the oracle."""
    worth = shuffled(n, 6)
    for k in (1, 3, 10):
        expected = list(range(n))
        for settled in range(min(k, n)):
            for upper in range(n - 2, settled - 1, -1):
                a, b = expected[upper], expected[upper + 1]
                if worth[b] > worth[a]:
                    expected[upper : upper + 2] = [b, a]
        assert play(named("bubble", k=k), n, perfect(worth))[0].order == expected


@pytest.mark.parametrize("n", SIZES)
def test_dual_end_settles_both_ends(n):
    worth = shuffled(n, 7)
    best = best_first(worth)
    result, _ = play(named("dual-end", k=3), n, perfect(worth))
    if n > 6:
        assert result.order == best[:3] + sorted(best[3:-3]) + best[-3:]
    else:
        assert result.order == best


@pytest.mark.parametrize("n", [n for n in SIZES if n > 2])
def test_tournaments_bring_the_best_two_to_the_top(n):
    for repeats in (1, 4):
        worth = shuffled(n, repeats)
        result, _ = play(named("tournament", repeats=repeats), n, perfect(worth))
        assert result.order[:2] == sorted(best_first(worth)[:2])  # they tie, and ties go by given rank
        assert result.scores is not None
        assert result.scores[0] == result.scores[1] == repeats * len(named("tournament").stages(n))


def test_a_final_decides_a_tournament():
    worth = shuffled(100, 3)
    cup = named("tournament", survivors=[50, 20, 10, 5, 2, 1], group_sizes=[20, 10, 20, 10, 5, 2])
    assert play(cup, 100, perfect(worth))[0].order[:2] == best_first(worth)[:2]


# ---- judges that say nothing of use ---------------------------------------------------------------------------------

UNMOVED = [
    *[sort for sort in SORTS if sort[0] in ("pointwise", "allpair", "bubble", "setwise-bubble", "single", "sliding")],
    *[("heapsort", {"k": k, "aggregate": how}) for k in (1, 10, 1000) for how in ("wins", "probability")],
]


@pytest.mark.parametrize(("name", "options"), UNMOVED, ids=str)
def test_always_a_changes_nothing(name, options):
    for n in SIZES:
        assert play(named(name, **options), n, always_first)[0].order == list(range(n))


@pytest.mark.parametrize("n", SIZES)
def test_silence_changes_nothing(n):
    for name, options in [*UNMOVED, ("dual-end", {}), ("dual-end", {"k": 2})]:
        if options.get("aggregate") != "probability":
            assert play(named(name, **options), n, silent)[0].order == list(range(n)), name


def test_ielab_heap_turns_ties_around():
    """The difference that compat is for; the same as upstream's own loop gives, see the parity table."""
    assert play(named("heapsort", k=4, compat="ielab"), 6, always_first)[0].order == [0, 5, 4, 3, 1, 2]


def test_a_best_that_is_also_the_worst():
    def same(verb, ask):
        return Answer((len(ask) - 1, len(ask) - 1))

    assert play(named("dual-end"), 5, same)[0].order == [4, 2, 0, 1, 3]


# ---- scores ---------------------------------------------------------------------------------------------------------


def test_pointwise_keeps_the_judges_scores_and_ties():
    scores = [0.5, 2.0, 0.5, -1.0, 2.0]
    result, _ = play(named("pointwise"), 5, lambda verb, ask: Answer(scores=(scores[ask[0]],)))
    assert (result.order, result.scores) == ([1, 4, 0, 2, 3], [2.0, 2.0, 0.5, 0.5, -1.0])


def test_pointwise_puts_what_has_no_score_beneath():
    given = {0: (), 1: (-3.0,), 2: (float("nan"),), 3: (1.0,)}
    result, _ = play(named("pointwise"), 4, lambda verb, ask: Answer(scores=given[ask[0]]))
    assert (result.order, result.scores) == ([3, 1, 0, 2], [1.0, -3.0, -3.0, -3.0])


def test_allpair_counts_wins_and_half_ties():
    """1 beats 0 in both orders, 0 and 2 tie, 1 and 2 tie: s = 0.5, 1.5, 1."""

    def judge(verb, ask):
        return Answer((ask.index(1), ask.index(0))) if set(ask) == {0, 1} else Answer((0, 1))

    result, _ = play(named("allpair"), 3, judge)
    assert (result.order, result.scores) == ([1, 2, 0], [1.5, 1.0, 0.5])


@pytest.mark.parametrize("orders", [1, 2])
def test_allpair_adds_probabilities(orders):
    """SYM-SUM by its formula: s_i = sum over j of p(i before j) + 1 - p(j before i), within 1e-12."""
    p = {(i, j): (3 * i + 5 * j) % 11 / 10 for i in range(7) for j in range(7) if i != j}

    def judge(verb, ask):
        return Answer((0, 1), (p[ask], 1 - p[ask]))

    result, _ = play(named("allpair", aggregate="probability", orders=orders), 7, judge)
    shown = [pair for pair in p if orders == 2 or pair[0] < pair[1]]
    for position, score in zip(result.order, result.scores or [], strict=True):
        expected = sum(p[i, j] for i, j in shown if i == position) + sum(1 - p[i, j] for i, j in shown if j == position)
        assert score == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["allpair", "heapsort", "bubble"])
@pytest.mark.parametrize("scores", [(), (0.2,), (-4.0, -1.0), (float("nan"), 1.0)])
def test_no_probability_is_refused(name, scores):
    with pytest.raises(UsageError, match="aggregate=wins"):
        play(named(name, aggregate="probability"), 3, lambda verb, ask: Answer((0, 1), scores))


# ---- cost -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "calls", "depth", "read"),
    [
        ("pointwise", {}, 100, 1, 100),
        ("allpair", {}, 9900, 1, 19800),
        ("allpair", {"orders": 1}, 4950, 1, 9900),
        ("bubble", {}, 1890, 108, 3780),
        ("bubble", {"k": 1}, 198, 99, 396),
        ("setwise-bubble", {"children": 2}, 475, 63, None),
        ("dual-end", {}, 50, 50, 2550),
        ("single", {}, 1, 1, 100),
        ("sliding", {}, 9, 9, 180),
        ("sliding", {"passes": 2}, 18, 11, 360),
        ("tournament", {}, 13, 5, 185),
        ("tournament", {"repeats": 10}, 130, 5, 1850),
    ],
)
def test_the_cost_of_a_hundred_documents(name, options, calls, depth, read):
    """The closed forms; depths of several passes are what pass after pass in step allows."""
    strategy = named(name, **options)
    _, rounds = play(strategy, 100, noisy(100, 1))
    assert strategy.planned(100) == (calls, depth) == (sum(map(len, rounds)), len(rounds))
    assert read in (None, sum(len(ask) for asks in rounds for ask in asks))


@pytest.mark.parametrize("n", SIZES)
def test_closed_forms(n):
    for k in (1, 4, 10, 1000):
        passes = range(min(k, max(n - 1, 0)))
        depth = n + len(passes) - 2 if n > 1 else 0
        assert named("bubble", k=k).planned(n) == (2 * sum(n - 1 - i for i in passes), depth)
        for m in (1, 2, 3, 19):
            planned = named("setwise-bubble", k=k, children=m).planned(n)
            assert planned is not None
            assert planned[0] == sum(-(-(n - 1 - i) // m) for i in passes)
    assert named("dual-end").planned(n) == (n // 2, n // 2)
    assert named("allpair").planned(n) == (n * (n - 1), int(n > 1))


@pytest.mark.parametrize(
    ("name", "options", "calls"),
    [
        ("heapsort", {}, (558, 542, 554)),
        ("setwise-heapsort", {"children": 2}, (140, 136, 139)),
        ("setwise-heapsort", {"children": 3}, (81, 79, 83)),
    ],
)
def test_heaps_ask_as_often_as_the_usual_heap_sort_and_not_one_by_one(name, options, calls):
    """Calls for the best 10 of 100 as counted in ielab/llm-rankers' own loops over the same judges."""
    for seed in range(3):
        _, rounds = play(named(name, **options), 100, perfect(shuffled(100, seed)))
        assert sum(map(len, rounds)) == calls[seed]
        assert len(rounds) < 0.6 * calls[seed]


# ---- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("heapsort", {"k": 0}, "heapsort: k is 0, expected a whole number of at least 1"),
        ("heapsort", {"compat": "rankgpt"}, "heapsort: compat 'rankgpt' is unknown"),
        ("heapsort", {"aggregate": "win"}, "did you mean 'wins'"),
        ("bubble", {"k": -1}, "k is -1"),
        ("bubble", {"compat": "x"}, "compat 'x' is unknown"),
        ("allpair", {"aggregate": "sum"}, "aggregate 'sum' is unknown"),
        ("allpair", {"orders": 3}, "orders is 3"),
        ("allpair", {"orders": 0}, "orders is 0"),
        ("setwise-heapsort", {"children": 0}, "children is 0"),
        ("setwise-heapsort", {"k": 0}, "k is 0"),
        ("setwise-bubble", {"children": -2}, "children is -2"),
        ("setwise-bubble", {"k": 0}, "k is 0"),
        ("setwise-bubble", {"compat": "rank_llm"}, "compat 'rank_llm' is unknown"),
        ("dual-end", {"k": 0}, "k is 0"),
        ("single", {"top": 0}, "top is 0"),
        ("sliding", {"window": 1}, "window is 1, expected a whole number of at least 2"),
        ("sliding", {"stride": 0}, "stride is 0"),
        ("sliding", {"passes": 0}, "passes is 0"),
        ("sliding", {"window": 5}, "stride is 10, larger than window=5"),
        ("sliding", {"compat": "rankllm"}, "did you mean 'rank_llm'"),
        ("tournament", {"repeats": 0}, "repeats is 0"),
        ("tournament", {"survivors": []}, "survivors is []"),
        ("tournament", {"survivors": [5, 5], "group_sizes": [2, 2]}, "expected falling numbers"),
        ("tournament", {"survivors": [5, 0], "group_sizes": [2, 2]}, "1 at least"),
        ("tournament", {"survivors": [5, 2]}, "each of the 2 stages"),
        ("tournament", {"survivors": [5, 2], "group_sizes": [5, 1]}, "at least 2"),
    ],
)
def test_wrong_options_are_refused(name, options, said):
    with pytest.raises(UsageError) as error:
        make(ROOM, name, options)
    assert said in str(error.value)


def test_every_option_has_an_effect():
    """Each option's other value changes what is asked or what comes out, for at least one judge."""
    others = {"k": 2, "aggregate": "probability", "orders": 1, "children": 2, "compat": "ielab", "top": 2}
    others |= {"window": 25, "stride": 3, "passes": 3, "repeats": 2, "seed": 9}
    others |= {"survivors": [30, 20, 10, 5, 2], "group_sizes": [10, 5, 10, 10, 5]}
    for name in entries(ROOM):
        for option in option_names(find(ROOM, name)):
            plain, flipped = named(name), named(name, **{option: others[option]})
            # 45 documents: the ielab loop leaves the first five out
            seen = [play(plain, 45, judge) != play(flipped, 45, judge) for judge in judges(45)]
            assert any(seen), f"{name}: {option}"


# ---- any judge at all -----------------------------------------------------------------------------------------------


@given(sort=st.sampled_from(SORTS), n=st.integers(0, 25), seed=st.integers(0, 2**32))
@settings(max_examples=400, deadline=None)
def test_any_answers_make_a_permutation(sort, n, seed):
    """Answers drawn without sense, some of which name few documents, or one twice."""
    strategy = named(sort[0], **sort[1])
    chance = random.Random(seed)

    def judge(verb, ask):
        assert verb in VERBS
        order = chance.sample(range(len(ask)), len(ask))
        p = chance.random()
        if strategy.verb == "order":
            order = order[: chance.randint(0, len(order))] * chance.randint(1, 2)
        if getattr(strategy, "aggregate", "") == "wins" and p < 0.3:
            return Answer()
        return Answer(tuple(order), (p, 1 - p) if verb == "prefer" else (p,))

    result, rounds = play(strategy, n, judge)
    check(result, rounds, n, strategy.verb)
    assert strategy.planned(n) in (None, (sum(map(len, rounds)), len(rounds)))
