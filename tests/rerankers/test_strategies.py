"""Every sort against judges whose answers are known: perfect, noisy, biased, silent and circular ones."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest
from cribble.errors import UsageError
from cribble.registry import entries, make
from cribble.rerankers.judges import VERBS, Answer
from cribble.rerankers.strategies import ROOM, Ask, Sorted, Strategy
from cribble.rerankers.strategies.blocks import Blocks
from cribble.tests.rerankers.oracles import always_first, best_first, judges, named, perfect, play, shuffled, silent
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
    ("blocks", {}),
    ("blocks", {"window": 3, "repeats": 5, "aggregate": "pagerank"}),
]
IDS = [f"{name} {options}" if options else name for name, options in SORTS]


@pytest.fixture(params=SORTS, ids=IDS)
def strategy(request) -> Strategy:
    name, options = request.param
    made: Strategy = make(ROOM, name, options)
    return made


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
    ("blocks", {"window": 100, "repeats": 1}),
    ("blocks", {"window": 100, "repeats": 3, "aggregate": "pagerank"}),
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


@pytest.mark.parametrize("aggregate", ["winrate", "pagerank"])
@pytest.mark.parametrize("n", [25, 100])
def test_blocks_come_near_the_right_order(aggregate, n):
    """Each document stands in `repeats` blocks; what they say together is near the truth (Spearman, 0 by chance)."""
    worth = shuffled(n, 2)
    rank = {position: i for i, position in enumerate(best_first(worth))}
    closeness = []
    for repeats in (1, 2, 8):
        strategy = named("blocks", window=10, repeats=repeats, aggregate=aggregate)
        shown = Counter(position for block in strategy.blocks(n) for position in block)
        assert shown == dict.fromkeys(range(n), repeats)
        assert len({len(block) for block in strategy.blocks(n)}) <= 2
        result, _ = play(strategy, n, perfect(worth))
        off = sum((i - rank[position]) ** 2 for i, position in enumerate(result.order))
        closeness.append(1 - 6 * off / (n * (n * n - 1)))
    assert closeness == sorted(closeness)
    assert closeness[0] > 0.7
    assert closeness[-1] > 0.95


def test_blocks_aggregate_as_their_formulas_say():
    """Blocks (0, 1, 2) and (2, 3), best first: win rates 2/2, 1/2, 1/3, 0; PageRank by power iteration."""

    class Two(Blocks):
        def blocks(self, n):
            return [(0, 1, 2), (2, 3)]

    def judge(verb, ask):
        return Answer(tuple(range(len(ask))))

    result, _ = play(Two(), 4, judge)
    assert result.order == [0, 1, 2, 3]
    assert result.scores == pytest.approx([1, 1 / 2, 1 / 3, 0])
    result, _ = play(Two(aggregate="pagerank"), 4, judge)
    rank = [0.25] * 4
    for _ in range(200):
        # 1 lost to 0 once, 2 to 0 and 1 once each, 3 to 2; 0 never lost and jumps.
        jump = 0.15 / 4 + 0.85 * rank[0] / 4
        rank = [
            jump + 0.85 * (rank[1] + rank[2] / 2),
            jump + 0.85 * rank[2] / 2,
            jump + 0.85 * rank[3],
            jump,
        ]
    by_position = dict(zip(result.order, result.scores or [], strict=True))
    assert [by_position[position] for position in range(4)] == pytest.approx(rank, abs=1e-9)


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


@pytest.mark.parametrize("name", ["setwise-heapsort", "tournament", "blocks"])
def test_silence_is_a_permutation_where_it_is_not_the_given_order(name):
    """Their best of equals is the one shown first, which is not the one given first."""
    for n in SIZES:
        result, rounds = play(named(name), n, silent)
        check(result, rounds, n, named(name).verb)


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
