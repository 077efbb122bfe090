"""What an approximate kind is, as data, and the rules that fill in what a build's options leave open.

nlist              the power of two nearest to 4 · sqrt(n), as far as the sample has 39 vectors for each list
bits               8 where there are 39 · 256 vectors or more to learn 256 centroids from, else 4
m                  the most sub-vectors of 8 dimensions (of 4 with 4 bits) or more that divide d: d / 8 bytes a document
links              32 neighbours a node in HNSW, `ef_construction` 100
training_vectors   64 a list and 65,536 for codes, at most 256 MiB of float32
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError, suggest
from .faiss_files import POINTS_PER_CENTROID, Recipe

#: The float32 vectors of a training sample take at most this.
TRAINING_BYTES = 256 << 20

#: FAISS's own seed of a clustering.
SEED = 1234

_PER_LIST = 64
_FOR_CODES = 1 << 16

#: Options of a build → type; every kind takes the last three.
BUILD_OPTIONS: dict[str, Any] = {
    "nlist": int | None,
    "m": int | None,
    "bits": int | None,
    "opq": bool,
    "links": int | None,
    "ef_construction": int | None,
    "factory": str | None,
    "training_vectors": int | None,
    "seed": int,
    "build_threads": int,
}
COMMON = ("training_vectors", "seed", "build_threads")


@dataclass(frozen=True)
class Kind:
    """An approximate kind: its factory string, with names of options in braces, those options, and the parameters of a
    search.
    """

    factory: str
    options: tuple[str, ...] = ()
    search: tuple[str, ...] = ("verify",)


def checked_options(name: str, kind: Kind, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of the kind, those not given as None (by rule); `UsageError` for one that it lacks or a bad value."""
    known = (*kind.options, *COMMON)
    for option, value in given.items():
        if option not in known:
            raise UsageError(f"{name} index has no option {option!r}: {suggest(option, known)}")
        if isinstance(value, int) and not isinstance(value, bool) and value < (option != "seed"):
            raise UsageError(f"{name} index: {option} is {value}, expected at least {int(option != 'seed')}")
    if given.get("bits") not in (None, *range(1, 17)):
        raise UsageError(f"{name} index: bits is {given['bits']}, expected 1 to 16 bits a sub-vector")
    if "factory" in known and not given.get("factory"):
        raise UsageError(f"{name} index needs the option 'factory', a FAISS factory string such as IVF1024,SQ8")
    defaults = {"opq": False, "seed": SEED, "build_threads": 1}
    return {option: given.get(option, defaults.get(option)) for option in known}


def recipe(kind: Kind, rows: int, dim: int, options: Mapping[str, Any]) -> Recipe:
    """The recipe for `rows` vectors of `dim` dimensions: the options, and the rules for those that are None."""
    most = options["training_vectors"] or max(1, TRAINING_BYTES // (4 * dim))
    sample = min(rows, most)
    values: dict[str, Any] = {"opq": "", "factory": options.get("factory")}
    values["nlist"] = options.get("nlist") or lists_by_rule(rows, sample)
    values["bits"] = options.get("bits") or (8 if sample >= POINTS_PER_CENTROID * 256 else 4)
    values["m"] = options.get("m") or _sub_vectors(dim, 8 if values["bits"] > 4 else 4)
    values["links"] = options.get("links") or 32
    if options.get("opq"):
        values["opq"] = f"OPQ{values['m']},"
    wanted = most if "factory" in kind.options else max(_PER_LIST * values["nlist"], _FOR_CODES)
    return Recipe(
        factory=kind.factory.format(**values),
        training_vectors=options["training_vectors"] or min(most, wanted),
        seed=options["seed"],
        ef_construction=(options["ef_construction"] or 100) if "ef_construction" in kind.options else None,
        threads=options["build_threads"],
    )


def lists_by_rule(rows: int, sample: int) -> int:
    """The number of inverted lists for `rows` vectors of which `sample` teach where the lists are."""
    lists = 1
    while lists * 2**0.5 < 4 * rows**0.5 and lists * 2 * POINTS_PER_CENTROID <= sample:
        lists *= 2
    return lists


def _sub_vectors(dim: int, wide: int) -> int:
    """The largest number of equal parts of at least `wide` dimensions."""
    return max((m for m in range(1, dim // wide + 1) if dim % m == 0), default=1)
