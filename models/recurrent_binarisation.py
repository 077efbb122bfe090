"""Recurrent binarisation of vectors (BEBR, arXiv 2302.08714): the network, its codes, its folder.

After the official repository's RBE_NORM (ganyk/BEBR, vfp/models/binary_head.py), whose state dict has the same names: with
sign s, b_0 = s(W(x)), then for i = 0 … u - 1: f = B_i(b) of unit length, b = b + s(R_i(x - f)) / 2^(i + 1). Two
deviations: s(0) is +1, where theirs is 0, which no bit can hold; and the straight-through gradient, the identity where
|input| <= 1 and else 0, is a new tensor, where theirs changes the incoming one in place.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError, UsageError
from ..files import write_whole
from ..index.binary_codes import MAX_PLANES, check_shape, decode, pack
from ..vectors import Binary, Dense
from .code_refinement import TABLES, Refinement

WEIGHTS, CONFIG = "model.safetensors", "binariser.json"
FORMAT = 1

#: Names of a refinement's tensors in the weights' file begin so.
_REFINEMENT = "refinement."

#: Vectors that go through the network at a time.
_BATCH = 4096


@dataclass(frozen=True)
class Shape:
    """Vectors of `dim` dimensions become codes of `width` coordinates by `steps` steps after the first: steps + 1 bits a
    coordinate. Each map is linear, or has `blocks` hidden layers of `hidden` units."""

    dim: int
    width: int
    steps: int = 1
    hidden: int = 0
    blocks: int = 1

    def __post_init__(self) -> None:
        check_shape(self.width, self.steps + 1)
        if self.dim < 1 or self.hidden < 0 or self.blocks < 1:
            raise UsageError(
                f"a binariser of dim {self.dim}, hidden {self.hidden}, blocks {self.blocks}: expected at least 1, 0 and 1"
            )

    @property
    def planes(self) -> int:
        """Bits a coordinate."""
        return self.steps + 1

    @property
    def bits(self) -> int:
        return self.width * self.planes


class _Sign(torch.autograd.Function):
    """+1 or -1; backwards the identity where |x| <= 1, else 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradient * (x.abs() <= 1)


class _Block(nn.Module):
    """Linear, BatchNorm, ReLU under the reference's names."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.fc, self.bn, self.relu = nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.bn(self.fc(x)))
        return out


def _map(inputs: int, outputs: int, hidden: int, blocks: int) -> nn.Module:
    if not hidden:
        return nn.Linear(inputs, outputs)
    if blocks == 1:
        return nn.Sequential(nn.Linear(inputs, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    layers = [_Block(inputs if not i else hidden, hidden) for i in range(blocks)]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs))


class RecurrentBinarisation(nn.Module):
    """The network: vectors (n, dim) → values (n, width), each a sum of ±1, ±1/2, …, ±1/2^steps. Trainable.

    Weights start Xavier-normal, biases 0, as the reference's.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.W = _map(shape.dim, shape.width, shape.hidden, shape.blocks)
        for i in range(shape.steps):
            self.add_module(f"B{i}", _map(shape.width, shape.dim, shape.hidden, shape.blocks))
            self.add_module(f"R{i}", _map(shape.dim, shape.width, shape.hidden, shape.blocks))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        b: Tensor = _Sign.apply(self.W(x))
        for i in range(self.shape.steps):
            f = functional.normalize(getattr(self, f"B{i}")(b), dim=1)
            b = b + _Sign.apply(getattr(self, f"R{i}")(x - f)) / 2 ** (i + 1)
        return b


@dataclass(frozen=True)
class RecurrentBinariser:
    """A trained network with what is known of it: makes packed codes of vectors, in float64, so that a bit does not depend
    on the batch.

    Vectors are divided by `norm` first (the mean length of those it was trained on; 1 for unit vectors). `compatible_with`
    holds the SHA-256 sums of older binarisers' weights with whose codes this one's can be compared; `training` says how it
    was made. With `refinement`, codes are what it makes of the recurrence's (code_refinement.py); without, those.
    `sha256` is that of the weights' file, `folder` where it lies ("" when it is not saved).
    """

    network: RecurrentBinarisation
    norm: float = 1.0
    refinement: Refinement | None = None
    compatible_with: tuple[str, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    folder: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        digest = self.sha256 or hashlib.sha256(self._weights()).hexdigest()
        object.__setattr__(self, "sha256", digest)

    @property
    def shape(self) -> Shape:
        return self.network.shape

    @property
    def identity(self) -> dict[str, Any]:
        """What an index records: name, width, planes (bits a coordinate) and SHA-256; the folder is a hint."""
        known = {"name": "rbe", "width": self.shape.width, "planes": self.shape.planes, "sha256": self.sha256}
        return known | {"folder": self.folder}

    def values(self, vectors: np.ndarray) -> np.ndarray:
        """The values (n, width) float32 that the codes of `vectors` (n, dim) stand for."""
        return decode(self.numbers(vectors), self.shape.planes)

    def numbers(self, vectors: np.ndarray) -> np.ndarray:
        """Whole numbers (n, width) uint8 in 0 … 2^planes - 1, as in index/binary_codes.py."""
        if vectors.ndim != 2 or vectors.shape[1] != self.shape.dim:
            raise InputError(
                f"vectors have the shape {vectors.shape}, the binariser {self.folder or 'in memory'} takes (n, {self.shape.dim})"
            )
        network, shape = self.network.double().eval(), self.shape
        found = np.empty((len(vectors), shape.width), np.uint8)
        for start in range(0, len(vectors), _BATCH):
            batch = vectors[start : start + _BATCH].astype(np.float64) / self.norm
            with torch.no_grad():
                values = network(torch.from_numpy(batch)).numpy()
            if self.refinement is not None:
                values = self.refinement(values, batch, shape.planes)
            found[start : start + len(batch)] = (values * 2**shape.steps + 2**shape.planes - 1) / 2
        return found

    def codes(self, vectors: np.ndarray) -> np.ndarray:
        """Packed codes (n, width · planes / 8) uint8 of `vectors` (n, dim); see index/binary_codes.py for the layout."""
        return pack(self.numbers(vectors), self.shape.planes)

    def binary(self, vectors: Dense) -> Binary:
        """The codes of `vectors` as what an index eats."""
        return Binary(self.codes(vectors.values), self.shape.bits)

    # ---- files ------------------------------------------------------------------------------------------------------

    def _weights(self) -> bytes:
        state = self.network.state_dict()
        if self.refinement is not None:
            state |= {f"{_REFINEMENT}{name}": torch.from_numpy(getattr(self.refinement, name)) for name in TABLES}
        whole = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
        return bytes(save_tensors({name: tensor.contiguous() for name, tensor in whole.items()}))

    def save(self, folder: str | Path) -> RecurrentBinariser:
        """Write the weights, then binariser.json, whose presence makes the folder whole; returns the saved one."""
        folder = Path(folder)
        with write_whole(folder / WEIGHTS) as stream:
            stream.write(self._weights())
        config = {
            "format": FORMAT,
            "kind": "rbe-norm",
            **asdict(self.shape),
            "norm": self.norm,
            "refine": self.refinement.sweeps if self.refinement else 0,
            "sha256": self.sha256,
            "compatible_with": list(self.compatible_with),
            "training": dict(self.training),
        }
        with write_whole(folder / CONFIG) as stream:
            stream.write((json.dumps(config, indent=1) + "\n").encode())
        return RecurrentBinariser.load(folder)

    @classmethod
    def load(cls, folder: str | Path) -> RecurrentBinariser:
        """The binariser in `folder`. Raises `InputError` for a folder that is none, or whose weights were changed."""
        folder = Path(folder)
        config = _config(folder)
        shape = Shape(**{name: config[name] for name in Shape.__dataclass_fields__})
        try:
            raw = (folder / WEIGHTS).read_bytes()
        except OSError as error:
            raise InputError(
                f"{folder / WEIGHTS} cannot be read ({error.strerror}): train the binariser again"
            ) from error
        digest = hashlib.sha256(raw).hexdigest()
        if digest != config["sha256"]:
            raise InputError(f"{folder / WEIGHTS}: SHA-256 {digest}, expected {config['sha256']}: the file was changed")
        state = load_tensors(raw)
        tables = {name: state.pop(_REFINEMENT + name).numpy() for name in TABLES if config["refine"]}
        return cls(
            _filled(shape, state, str(folder / WEIGHTS)),
            norm=config["norm"],
            refinement=Refinement(**tables, sweeps=config["refine"]) if tables else None,
            compatible_with=tuple(config["compatible_with"]),
            training=config["training"],
            folder=str(folder.resolve()),
            sha256=digest,
        )

    @classmethod
    def of_reference(cls, file: str | Path) -> RecurrentBinariser:
        """The weights of a model that the official repository trained, as a safetensors file of its state dict; prefixes
        such as `module.` are cut off. The shape is read off the tensors."""
        try:
            state = load_tensors(Path(file).read_bytes())
        except (OSError, SafetensorError) as error:
            raise InputError(f"{file}: no safetensors file of an RBE_NORM state dict ({error})") from error
        prefixes = [name.removesuffix("W.weight") for name in state if name == "W.weight" or name.endswith(".W.weight")]
        prefixes += [name.partition("W.0.")[0] for name in state if "W.0." in name]
        if not prefixes:
            raise InputError(
                f"{file}: no weights W in {', '.join(sorted(state)[:5])}, …: expected RBE_NORM's state dict"
            )
        own = {name.removeprefix(prefixes[0]): tensor for name, tensor in state.items() if name.startswith(prefixes[0])}
        return cls(_filled(_shape_of(own), own, str(file)))


def _config(folder: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_bytes())
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} holds no {CONFIG}: name a folder that `cribble train bebr` made, and finished"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / CONFIG} cannot be read ({error}): train the binariser again") from error
    if config.get("kind") != "rbe-norm" or config.get("format") != FORMAT:
        raise InputError(
            f"{folder / CONFIG}: kind {config.get('kind')!r} of format {config.get('format')!r}, expected rbe-norm of {FORMAT}"
        )
    return config


def _shape_of(state: Mapping[str, Tensor]) -> Shape:
    """The shape of a network with these tensors."""
    steps = len({name.partition(".")[0] for name in state if name.startswith("B")})
    layers = sorted(name for name, tensor in state.items() if name.startswith("W.") and tensor.ndim == 2)
    weights = [state[name] for name in layers]  # in order: W.0 … W.9, as nobody stacks ten
    hidden = len(weights[0]) if len(weights) > 1 else 0
    return Shape(weights[0].shape[1], len(weights[-1]), min(steps, MAX_PLANES), hidden, max(1, len(weights) - 1))


def _filled(shape: Shape, state: Mapping[str, Tensor], where: str) -> RecurrentBinarisation:
    network = RecurrentBinarisation(shape)
    try:
        network.load_state_dict(dict(state))
    except RuntimeError as error:
        raise InputError(f"{where}: the weights don't fit {shape}: {error}") from error
    return network
