"""Recurrent binarisers with random weights, saved as `cribble train bebr` saves them."""

from __future__ import annotations

import torch
from cribble.models.recurrent_binarisation import RecurrentBinarisation, RecurrentBinariser, Shape


def save_binariser(folder, dim, *, width=32, steps=1, seed=0, compatible_with=(), training=None) -> str:
    torch.manual_seed(seed)
    network = RecurrentBinarisation(Shape(dim, width, steps))
    RecurrentBinariser(network, compatible_with=tuple(compatible_with), training=training or {}).save(folder)
    return str(folder)
