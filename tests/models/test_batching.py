"""Batches: every text once, none over the budget, little padding."""

from __future__ import annotations

import numpy as np
import pytest
from cribble.models.batching import buffers, pad, plan_batches


@pytest.mark.parametrize("budget", [1, 10, 128, 10**6])
@pytest.mark.parametrize("seed", range(5))
def test_plan_holds_every_position_once_within_the_budget(budget, seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 90, size=rng.integers(0, 300))
    batches = plan_batches(lengths, budget)
    assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(len(lengths)))
    for batch in batches:
        width = max(1, lengths[batch].max())
        assert len(batch) == 1 or len(batch) * width <= budget
    widths = [max(1, lengths[batch].max()) for batch in batches]
    assert widths == sorted(widths, reverse=True)


def test_like_lengths_share_a_batch():
    batches = plan_batches([5, 100, 5, 100, 5], 200)
    assert [sorted(batch.tolist()) for batch in batches] == [[1, 3], [0, 2, 4]]


def test_buffers_cover_everything():
    parts = list(buffers(10, 4))
    assert [(part.start, part.stop) for part in parts] == [(0, 4), (4, 8), (8, 10)]
    assert list(buffers(0)) == []


@pytest.mark.parametrize("left", [False, True])
def test_padding_is_on_the_asked_side(left):
    columns = {"input_ids": [[7, 8, 9], [5], []], "attention_mask": [[1, 1, 1], [1], []]}
    padded = pad(columns, np.array([1, 0]), {"input_ids": 3}, left=left)
    assert padded["input_ids"].tolist() == ([[3, 3, 5], [7, 8, 9]] if left else [[5, 3, 3], [7, 8, 9]])
    assert padded["attention_mask"].tolist() == ([[0, 0, 1], [1, 1, 1]] if left else [[1, 0, 0], [1, 1, 1]])
    # A text of no tokens still needs a column to stand in.
    assert pad(columns, np.array([2]), {"input_ids": 3}, left=left)["input_ids"].tolist() == [[3]]
