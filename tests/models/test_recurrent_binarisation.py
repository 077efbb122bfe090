"""The network of recurrent binarisation against its recurrence written out in numpy; folders; refined codes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cribble.errors import InputError, UsageError
from cribble.index.binary_codes import unpack
from cribble.models.code_refinement import fit_refinement
from cribble.models.recurrent_binarisation import RecurrentBinarisation, RecurrentBinariser, Shape
from cribble.vectors import Dense
from safetensors.torch import save_file

SHAPES = [
    Shape(24, 16, 0),
    Shape(24, 16, 1),
    Shape(24, 32, 3),
    Shape(24, 16, 2, hidden=40),
    Shape(24, 16, 1, hidden=40, blocks=3),
]


def network_of(shape: Shape, seed: int = 0) -> RecurrentBinarisation:
    """Fixed weights, biases and running statistics that are none of the initial ones."""
    torch.manual_seed(seed)
    network = RecurrentBinarisation(shape)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif tensor.is_floating_point() and tensor.ndim == 1:
                tensor.normal_(0, 0.3)
    return network


def straight_line(state: dict[str, np.ndarray], shape: Shape, x: np.ndarray) -> np.ndarray:
    """Research card 1: b_0 = sign(W(x)); f = B_i(b) of length 1; b += sign(R_i(x - f)) / 2^(i+1)."""

    def norm(name: str, h: np.ndarray) -> np.ndarray:
        scaled = (h - state[f"{name}.running_mean"]) / np.sqrt(state[f"{name}.running_var"] + 1e-5)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(name: str, h: np.ndarray) -> np.ndarray:
        return h @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def through(name: str, h: np.ndarray) -> np.ndarray:
        if not shape.hidden:
            return linear(name, h)
        if shape.blocks == 1:
            return linear(f"{name}.3", np.maximum(norm(f"{name}.1", linear(f"{name}.0", h)), 0))
        for block in range(shape.blocks):
            h = np.maximum(norm(f"{name}.{block}.bn", linear(f"{name}.{block}.fc", h)), 0)
        return linear(f"{name}.{shape.blocks}", h)

    def sign(h: np.ndarray) -> np.ndarray:
        return np.where(h >= 0, 1.0, -1.0)

    b = sign(through("W", x))
    for i in range(shape.steps):
        f = through(f"B{i}", b)
        f = f / np.sqrt((f**2).sum(axis=1, keepdims=True))
        b = b + sign(through(f"R{i}", x - f)) * 2.0 ** -(i + 1)
    return b


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_codes_are_the_recurrence_bit_for_bit(shape: Shape) -> None:
    made = RecurrentBinariser(network_of(shape))
    x = np.random.default_rng(1).standard_normal((200, 24)).astype(np.float32)
    state = {name: tensor.double().numpy() for name, tensor in made.network.state_dict().items()}
    expected = straight_line(state, shape, x.astype(np.float64))
    np.testing.assert_array_equal(made.values(x), expected)
    top = 2**shape.planes - 1
    np.testing.assert_array_equal(made.numbers(x), (expected * 2**shape.steps + top) / 2)
    codes = made.binary(Dense(x))
    assert codes.bits == shape.bits
    assert codes.codes.shape == (200, shape.bits // 8)
    np.testing.assert_array_equal(unpack(codes.codes, shape.width, shape.planes), made.numbers(x))


def test_the_sign_of_zero_is_one_and_gradients_pass_within_one() -> None:
    network = RecurrentBinarisation(Shape(8, 8, 0))
    with torch.no_grad():
        network.W.weight.copy_(torch.eye(8))
    x = torch.tensor([[0.0, -0.5, 0.5, 1.0, -1.0, 1.5, -1.5, -0.0]], requires_grad=True)
    values = network(x)
    assert values.tolist() == [[1, -1, 1, 1, -1, 1, -1, 1]]
    (values * torch.arange(1.0, 9.0)).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1, 2, 3, 4, 5, 0, 0, 8]]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_state_dict_of_the_reference_loads(shape: Shape, tmp_path: Path) -> None:
    """Names as in ganyk/BEBR's RBE_NORM, saved from a DataParallel model."""
    network = network_of(shape)
    save_file(
        {f"module.{name}": t.contiguous() for name, t in network.state_dict().items()}, tmp_path / "m.safetensors"
    )
    made = RecurrentBinariser.of_reference(tmp_path / "m.safetensors")
    assert made.shape == shape
    x = np.random.default_rng(1).standard_normal((20, 24)).astype(np.float32)
    np.testing.assert_array_equal(made.codes(x), RecurrentBinariser(network).codes(x))
    save_file({"other": torch.zeros(2)}, tmp_path / "o.safetensors")
    with pytest.raises(InputError, match="expected RBE_NORM's state dict"):
        RecurrentBinariser.of_reference(tmp_path / "o.safetensors")


@pytest.fixture
def refined() -> tuple[RecurrentBinariser, np.ndarray]:
    x = np.random.default_rng(2).standard_normal((300, 24)) * np.linspace(0.2, 2, 24)
    made = RecurrentBinariser(network_of(SHAPES[1]))
    x = x.astype(np.float32)
    return replace(made, refinement=fit_refinement(made.values(x), x, 2, 20), sha256=""), x


def test_a_saved_binariser_is_the_same(refined: tuple[RecurrentBinariser, np.ndarray], tmp_path: Path) -> None:
    made, x = refined
    made = replace(made, norm=1.5, compatible_with=("ab",), training={"seed": 3})
    saved = made.save(tmp_path / "model")
    again = RecurrentBinariser.load(tmp_path / "model")
    assert saved.identity == again.identity == made.identity | {"folder": str(tmp_path / "model")}
    assert (again.norm, again.compatible_with, again.training) == (1.5, ("ab",), {"seed": 3})
    np.testing.assert_array_equal(again.codes(x), made.codes(x))
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"model.safetensors", "binariser.json"}


def test_what_is_no_binariser_is_refused(refined: tuple[RecurrentBinariser, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no binariser.json"):
        RecurrentBinariser.load(tmp_path)
    made, _ = refined
    made.save(tmp_path)
    raw = bytearray((tmp_path / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(raw)
    with pytest.raises(InputError, match="the file was changed"):
        RecurrentBinariser.load(tmp_path)
    config = json.loads((tmp_path / "binariser.json").read_text())
    (tmp_path / "binariser.json").write_text(json.dumps(config | {"format": 9}))
    with pytest.raises(InputError, match="of format 9"):
        RecurrentBinariser.load(tmp_path)
    with pytest.raises(InputError, match=r"takes \(n, 24\)"):
        made.codes(np.zeros((1, 3), np.float32))
    with pytest.raises(UsageError, match="multiple of 8"):
        Shape(24, 12)


def test_refined_codes_are_best_coordinate_by_coordinate(refined: tuple[RecurrentBinariser, np.ndarray]) -> None:
    """Oracle: the objective itself, tried with every value of every coordinate of 40 codes."""
    made, x = refined
    table = made.refinement
    assert table is not None

    def cost(values: np.ndarray, vector: np.ndarray) -> np.ndarray:
        error = values - (table.target.astype(np.float64) @ vector + table.constant)
        return np.einsum("...i,ij,...j->...", error, table.metric.astype(np.float64), error)

    before = replace(made, refinement=None).values(x)
    after = made.values(x)
    assert (after != before).any()
    for vector, old, new in zip(x[:40].astype(np.float64), before, after, strict=False):
        assert cost(new, vector) <= cost(old, vector) + 1e-9
        changed = np.repeat(new[None].astype(np.float64), 4 * len(new), axis=0)
        changed[np.arange(len(changed)), np.repeat(np.arange(len(new)), 4)] = np.tile([-1.5, -0.5, 0.5, 1.5], len(new))
        assert (cost(changed, vector) >= cost(new, vector) - 1e-9).all()
    np.testing.assert_array_equal(after[:7], made.values(x[:7]))  # no batch changes a bit
