"""The kinds of packed codes, by what makes them. Options are in binary_options.py, what they share in binary.py."""

from __future__ import annotations

from ..registry import register
from .binary import BinaryIndex, RotatedIndex


@register("sign")
class Sign(RotatedIndex):
    """The signs of the vectors: a bit a dimension, nothing is learnt."""


@register("lsh")
class Lsh(RotatedIndex):
    """The signs after a random rotation to `bits` coordinates (FAISS's LSH)."""


@register("itq")
class Itq(RotatedIndex):
    """The signs after a rotation to `bits` coordinates that is learnt from the vectors (FAISS's ITQ)."""


@register("bebr")
class Bebr(BinaryIndex):
    """Several bits a coordinate by a trained recurrent binarisation (BEBR); made and searched with its model."""
