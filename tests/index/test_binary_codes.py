"""Codes of several bits a coordinate, against their definition written out bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.index.binary_codes import code_bytes, decode, pack, unpack
from hypothesis import given
from hypothesis import strategies as st


@st.composite
def codes(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    planes, width = draw(st.integers(1, 4)), 8 * draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return rng.integers(0, 1 << planes, (draw(st.integers(0, 5)), width), dtype=np.uint8), planes


@given(codes())
def test_packing_is_the_layout_bit_by_bit(case: tuple[np.ndarray, int]) -> None:
    numbers, planes = case
    packed = pack(numbers, planes)
    assert packed.shape == (len(numbers), code_bytes(numbers.shape[1], planes))
    for row, code in zip(numbers, packed, strict=True):
        bits = "".join(f"{byte:08b}" for byte in code)
        assert bits == "".join(f"{n:0{planes}b}"[plane] for plane in range(planes) for n in row)
    np.testing.assert_array_equal(unpack(packed, numbers.shape[1], planes), numbers)


@given(codes())
def test_values_are_the_sum_of_signs(case: tuple[np.ndarray, int]) -> None:
    numbers, planes = case
    for n, value in zip(numbers.ravel(), decode(numbers, planes).ravel(), strict=True):
        signs = [1 if bit == "1" else -1 for bit in f"{n:0{planes}b}"]
        assert value == sum(sign * 2.0**-i for i, sign in enumerate(signs))


def test_what_bytes_cannot_hold_is_refused() -> None:
    with pytest.raises(UsageError, match="multiple of 8"):
        pack(np.zeros((1, 12), np.uint8), 1)
    with pytest.raises(UsageError, match="expected 1 to 8"):
        code_bytes(8, 9)
    with pytest.raises(InputError, match="expected 0 to 3 for 2 bits"):
        pack(np.full((1, 8), 4), 2)
    with pytest.raises(InputError, match=r"expected uint8 \(n, 2\)"):
        unpack(np.zeros((1, 3), np.uint8), 8, 2)
