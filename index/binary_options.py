"""Options of a build of packed codes: which a kind and its structure have, and what they are where they are not given.

bits               as many as the vectors have dimensions
training_vectors   itq: 64 a dimension, at most 256 MiB of float32; inverted lists: see binary_lists.py
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import UsageError, suggest
from .ann_rules import SEED, TRAINING_BYTES

STRUCTURES = ("flat", "ivf", "hnsw")

#: Option → type, of all kinds and structures together.
BINARY_OPTIONS: dict[str, Any] = {
    "structure": str,
    "vectors": bool,
    "bits": int | None,
    "nlist": int | None,
    "links": int | None,
    "ef_construction": int | None,
    "training_vectors": int | None,
    "seed": int,
}

_OF_KIND = {
    "sign": ("vectors",),
    "lsh": ("vectors", "bits", "seed"),
    "itq": ("bits", "training_vectors", "seed"),
    "bebr": ("vectors",),
}
_OF_STRUCTURE = {"flat": (), "ivf": ("nlist", "training_vectors", "seed"), "hnsw": ("links", "ef_construction")}
_DEFAULTS = {"vectors": True, "seed": SEED, "links": 32, "ef_construction": 100}

_PER_DIMENSION = 64


def checked_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of the kind `name` in the structure that is asked for; `UsageError` for one that has no effect there."""
    structure = given.get("structure") or "flat"
    if structure not in STRUCTURES:
        raise UsageError(f"{name} index: structure {structure!r} is unknown: {suggest(structure, STRUCTURES)}")
    if name == "itq" and given.get("vectors") is False:
        raise UsageError("itq index: its rotation is learnt from the stored vectors: leave vectors=false out")
    known = [*_OF_KIND[name], *(o for o in _OF_STRUCTURE[structure] if o not in _OF_KIND[name])]
    for option, value in given.items():
        if option == "structure" or (option == "vectors" and name == "itq"):
            continue
        if option not in known:
            raise UsageError(
                f"{name} index of structure {structure} has no option {option!r}: {suggest(option, known)}"
            )
        least = int(option != "seed")
        if isinstance(value, int) and not isinstance(value, bool) and value < least:
            raise UsageError(f"{name} index: {option} is {value}, expected at least {least}")
    chosen = {o: given[o] if given.get(o) is not None else _DEFAULTS.get(o) for o in known}
    return {"structure": structure, "vectors": True} | chosen


def training_size(dim: int, training_vectors: int | None) -> int:
    """How many vectors a rotation is learnt from, where there are so many."""
    return training_vectors or min(_PER_DIMENSION * dim, TRAINING_BYTES // (4 * dim))
