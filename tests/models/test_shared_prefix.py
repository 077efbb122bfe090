"""The planner of shared beginnings against brute force over sets of prefixes."""

import numpy as np
import pytest
from cribble.models.shared_prefix import plan_pieces
from hypothesis import given, settings
from hypothesis import strategies as st

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=24)


def arrays(sequences) -> list[np.ndarray]:
    return [np.asarray(ids, np.int32) for ids in sequences]


def spelled(piece) -> list[int]:
    return [int(token) for part in piece.path() for token in part.ids]


def distinct_prefixes(sequences) -> set[tuple[int, ...]]:
    return {tuple(ids[: i + 1]) for ids in sequences for i in range(len(ids))}


@settings(deadline=None, max_examples=300)
@given(SEQUENCES, st.integers(1, 12))
def test_every_path_spells_its_sequences(sequences, worth):
    pieces = plan_pieces(arrays(sequences), worth)
    ends = {row: piece for piece in pieces for row in piece.ends}
    assert sorted(ends) == list(range(len(sequences)))
    for row, ids in enumerate(sequences):
        assert spelled(ends[row]) == ids
    for place, piece in enumerate(pieces):
        assert piece.parent is None or any(piece.parent is before for before in pieces[:place])
        assert piece.start == (piece.parent.end if piece.parent else 0)


@settings(deadline=None, max_examples=300)
@given(SEQUENCES)
def test_with_worth_one_each_distinct_beginning_is_computed_once(sequences):
    """Oracle: the set of all prefixes."""
    assert sum(len(piece.ids) for piece in plan_pieces(arrays(sequences), 1)) == len(distinct_prefixes(sequences))


@settings(deadline=None, max_examples=300)
@given(SEQUENCES, st.integers(2, 12))
def test_a_shared_piece_saves_what_it_must(sequences, worth):
    pieces = plan_pieces(arrays(sequences), worth)
    plain = sum(map(len, {tuple(ids) for ids in sequences}))
    computed = sum(len(piece.ids) for piece in pieces)
    assert len(distinct_prefixes(sequences)) <= computed <= plain
    for piece in pieces:
        uses = sum(other.parent is piece for other in pieces) + bool(piece.ends)
        assert uses == 1 or (uses - 1) * len(piece.ids) >= worth
        assert uses > 0


@settings(deadline=None, max_examples=200)
@given(SEQUENCES, st.integers(1, 6))
def test_every_computed_token_is_paid_once(sequences, worth):
    """What a sequence has for nothing and what it pays for adds up; the payments add up to what is computed."""
    pieces = plan_pieces(arrays(sequences), worth)
    ends = {row: piece for piece in pieces for row in piece.ends}
    paid = [sum(len(part.ids) for part in ends[row].path() if part.first == row) for row in range(len(sequences))]
    assert sum(paid) == sum(len(piece.ids) for piece in pieces)


def test_pairs_share_the_instruction_and_the_first_passage():
    """All ordered pairs of 5 passages: the instruction once, each first passage once, each second passage 4 times."""
    instruction, passages, tail = [1] * 20, [[10 + i] * 30 for i in range(5)], [2] * 10
    prompts = [instruction + a + b + tail for a in passages for b in passages if a is not b]
    pieces = plan_pieces(arrays(prompts))
    assert sum(len(piece.ids) for piece in pieces) == 20 + 5 * 30 + 20 * (30 + 10)
    assert [len(piece.path()) for piece in pieces if piece.ends] == [3] * 20


@pytest.mark.parametrize("worth", [1, 8, 1000])
def test_equal_sequences_and_a_sequence_within_another(worth):
    pieces = plan_pieces(arrays([[1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3]]), worth)
    assert sorted(sorted(piece.ends) for piece in pieces) == [[0, 2], [1]]
    assert sum(len(piece.ids) for piece in pieces) == (5 if worth == 1 else 8)
