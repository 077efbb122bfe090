"""SPLADE's pooling piece by piece: identities on random logits, padding, sizes of pieces; no model."""

import numpy as np
import pytest
import torch
from cribble.models.sparse_pooling import ACTIVATIONS, POOLINGS, activate, pool
from hypothesis import given, settings
from hypothesis import strategies as st


def naive(logits, mask, pooling, activation):
    """The published formulas, logarithm first, over real positions one by one, in float64."""
    rows = []
    for text, seen in zip(logits.double().numpy(), mask.numpy(), strict=True):
        weights = np.log1p(np.maximum(text[seen.astype(bool)], 0))
        if activation == "log1p_relu":
            weights = np.log1p(weights)
        empty = np.zeros(logits.shape[-1])
        if not len(weights):
            rows.append(empty)
        else:
            rows.append(weights.max(0) if pooling == "max" else weights.sum(0))
    return np.stack(rows)


def random_case(seed, texts=7, length=9, terms=40, left=False):
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(texts, length, terms, generator=random) * 3
    lengths = torch.randint(1, length + 1, (texts,), generator=random)
    positions = torch.arange(length)
    mask = positions >= length - lengths[:, None] if left else positions < lengths[:, None]
    return logits, mask.long()


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("left", [False, True])
def test_the_largest_may_be_taken_before_the_logarithm(pooling, activation, left):
    """Oracle: the formula in its published order in float64, tolerance 1e-5."""
    for seed in range(5):
        logits, mask = random_case(seed, left=left)
        for tokens in (1, 4, 9, 20, 1000):
            got = pool(logits, mask, lambda x: x, pooling=pooling, activation=activation, tokens=tokens)
            assert got.dtype == torch.float32
            assert np.abs(got.numpy() - naive(logits, mask, pooling, activation)).max() <= 1e-5


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_padding_never_leaks(seed, tokens):
    """Whatever stands in padding, even infinity, a text's weights stay as they are, bit for bit."""
    logits, mask = random_case(seed)
    hostile = torch.where(mask.bool()[..., None], logits, torch.tensor(float("inf")))
    zero = torch.where(mask.bool()[..., None], logits, torch.tensor(-5.0))
    for pooling in POOLINGS:
        one, two = (pool(x, mask, lambda x: x, pooling=pooling, tokens=tokens) for x in (hostile, zero))
        assert torch.equal(one, two)


def test_sum_is_never_below_max_and_equal_for_one_token():
    logits, mask = random_case(3)
    most, total = (pool(logits, mask, lambda x: x, pooling=pooling) for pooling in ("max", "sum"))
    assert (total >= most - 1e-6).all()
    alone = torch.zeros_like(mask)
    alone[:, 0] = 1
    most, total = (pool(logits, alone, lambda x: x, pooling=pooling) for pooling in ("max", "sum"))
    assert torch.allclose(most, total)


def test_logits_of_few_tokens_are_held_at_a_time():
    states, mask = torch.randn(5, 33, 8), torch.ones(5, 33)
    matrix, seen = torch.randn(8, 50), []

    def output(part):
        seen.append(part.shape[0] * part.shape[1])
        return part @ matrix

    got = pool(states, mask, output, tokens=16)
    assert max(seen) <= 16
    assert sum(seen) == 5 * 33
    assert torch.allclose(got, activate((states @ matrix).amax(1), "relu"), atol=1e-6)


def test_nan_is_kept():
    logits, mask = random_case(1)
    logits[2, 0, 5] = float("nan")
    assert pool(logits, mask, lambda x: x)[2].isnan().any()
