"""Random cosine maps: what a test knows of them is their parameters, not what they were fitted on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from cribble.retrievers.cosine_map import CosineMap
from cribble.vectors import EncoderSpec


def random_map(spec: EncoderSpec, *, seed: int, form: str = "power", threshold: float = 0.0, scale: float = 1.0):
    rng = np.random.default_rng(seed)
    shapes = {"w1": (spec.dim, 8), "b1": (8,), "w2": (8, 3), "b2": (3,)}
    weights = {name: (scale * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    return CosineMap(form, weights, 0.6, 0.1, threshold, spec, {"seed": seed})


def save_adapter(folder: Path, spec: EncoderSpec, *, seed: int) -> str:
    random_map(spec, seed=seed).save(folder)
    return str(folder)
