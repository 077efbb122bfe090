"""Where a linear binariser starts: at the best that a rotation does, so that training only has to improve on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from ..models.recurrent_binarisation import RecurrentBinarisation

#: Standard deviation of what a sign is taken of: gradients pass within ±1.
_SPREAD = 0.5

_RIDGE = 0.1


def start_at_rotation(network: RecurrentBinarisation, vectors: np.ndarray, seed: int) -> None:
    """Set the weights of a network without hidden layers by `vectors` (n, dim).

    W projects onto the directions of largest second moment (not centred: inner products are to survive) and turns them by
    a random rotation, so that every coordinate holds an equal share; more coordinates than dimensions are several random
    bases. B_i is the least-squares decoder of the bits so far, R_i what W is, for what is left.
    """
    shape = network.shape
    if shape.hidden:
        raise UsageError(f"start=rotation sets linear maps, this network has hidden={shape.hidden}: use start=random")
    basis = _basis(vectors, shape.width, np.random.default_rng(seed))
    _follow(network, vectors, [basis] * (shape.steps + 1), np.zeros(shape.width), vectors)


def start_at_older(
    network: RecurrentBinarisation, older: RecurrentBinarisation, vectors: np.ndarray, its_vectors: np.ndarray
) -> None:
    """Set the weights so that codes are near those that the linear network `older` makes of `its_vectors` (n, its dim), where
    `vectors` (n, dim) are of the same documents: its maps after the best linear one from these vectors to those."""
    same = vectors is its_vectors
    to_older = np.eye(vectors.shape[1]) if same else _least_squares(vectors, its_vectors)[0].T
    maps = [older.W, *(getattr(older, f"R{i}") for i in range(older.shape.steps))]
    planes = [_array(layer.weight) @ to_older for layer in maps]
    planes += [planes[-1]] * (network.shape.steps - older.shape.steps)
    _follow(network, vectors, planes[: network.shape.steps + 1], _array(older.W.bias), vectors)


def _basis(vectors: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """Directions (width, d), each as long as 1."""
    dim = vectors.shape[1]
    if width > dim:
        bases = [np.linalg.qr(rng.standard_normal((dim, dim)))[0] for _ in range(-(-width // dim))]
        return np.concatenate(bases)[:width]
    wide = vectors.astype(np.float64)
    _, directions = np.linalg.eigh(wide.T @ wide)
    rotation = np.linalg.qr(rng.standard_normal((width, width)))[0]
    turned: np.ndarray = (directions[:, ::-1][:, :width] @ rotation).T
    return turned


def _follow(
    network: RecurrentBinarisation, vectors: np.ndarray, planes: list[np.ndarray], bias: np.ndarray, target: np.ndarray
) -> None:
    """Set W and the R_i to `planes` (width, d), scaled, and each B_i to the decoder of the bits that come before it."""
    wide = vectors.astype(np.float64)
    raw = wide @ planes[0].T + bias
    _set(network.W, planes[0], bias, _SPREAD / raw.std())
    values = np.where(raw >= 0, 1.0, -1.0)
    for i, plane in enumerate(planes[1:]):
        decoder, constant = _least_squares(values, target)
        decoded = values @ decoder + constant
        length = np.linalg.norm(decoded, axis=1, keepdims=True)
        _set(getattr(network, f"B{i}"), decoder.T, constant, 1 / length.mean())
        left = (wide - decoded / length) @ plane.T
        _set(getattr(network, f"R{i}"), plane, np.zeros(len(plane)), _SPREAD / left.std())
        values += np.where(left >= 0, 1.0, -1.0) / 2 ** (i + 1)


def _least_squares(inputs: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matrix (i, o) and constant (o,) of the ridge regression of `outputs` (n, o) on `inputs` (n, i)."""
    x = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1).astype(np.float64)
    solved = np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ outputs.astype(np.float64))
    return solved[:-1], solved[-1]


def _set(layer: nn.Module, weight: np.ndarray, bias: np.ndarray, scale: float) -> None:
    import torch

    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight * scale))  # type: ignore[operator]
        layer.bias.copy_(torch.from_numpy(bias * scale))  # type: ignore[operator]


def _array(tensor: object) -> np.ndarray:
    values: np.ndarray = tensor.detach().double().numpy()  # type: ignore[attr-defined]
    return values
