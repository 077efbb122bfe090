"""Packed codes in an index's files: where they lie, and which binariser made which rows.

`binary-0.npy` holds uint8 (n, width · planes / 8) in the layout of binary_codes.py, exactly that many bytes a document, in
each shard, or in `whole/` for all rows where the codes are learnt from the whole collection. `binary.json` beside it says
the layout and which binariser made them; rows of another one follow in `binary-1.npy`. A norm is not stored: it follows
from the code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, SetupError
from .binary_codes import code_bytes
from .durable import write_array

CODES, DESCRIPTION = "binary-{}.npy", "binary.json"

#: How a code lies in its bytes.
LAYOUT = "planes, most significant first; bits big-endian"

#: What tells binarisers apart; anything else that an identity holds is a hint.
IDENTITY = ("name", "width", "planes", "sha256")


@dataclass(frozen=True)
class Run:
    """Consecutive rows whose codes one binariser made: packed `codes` (n, bytes) and that binariser's identity."""

    codes: np.ndarray
    binariser: Mapping[str, Any]


def write_runs(folder: Path, runs: Iterable[tuple[Mapping[str, Any], int, Iterable[np.ndarray]]]) -> None:
    """Write runs of codes: the binariser's identity, the number of rows, and the codes in blocks."""
    described = []
    for number, (binariser, rows, blocks) in enumerate(runs):
        write_array(folder / CODES.format(number), blocks, rows, (row_bytes(binariser),), np.uint8)
        described.append({"rows": rows, **binariser})
    text = json.dumps({"layout": LAYOUT, "runs": described}, indent=1, sort_keys=True)
    (folder / DESCRIPTION).write_text(text + "\n")


def read_runs(folder: Path) -> list[Run]:
    """The codes in `folder`, mapped. Raises `SetupError` for another layout and for a file that does not fit what is said
    of it."""
    description = json.loads((folder / DESCRIPTION).read_bytes())
    if description["layout"] != LAYOUT:
        raise SetupError(
            f"{folder / DESCRIPTION}: codes in the layout {description['layout']!r}, expected {LAYOUT!r}: build the index "
            f"again with overwrite"
        )
    runs = []
    for number, said in enumerate(description["runs"]):
        binariser = {name: value for name, value in said.items() if name != "rows"}
        file, shape = folder / CODES.format(number), (said["rows"], row_bytes(binariser))
        codes = np.load(file, mmap_mode="r")
        if codes.dtype != np.uint8 or codes.shape != shape:
            raise SetupError(
                f"{file}: {codes.dtype} of shape {codes.shape}, expected uint8 of {shape}: build the index again with "
                f"overwrite"
            )
        runs.append(Run(codes, binariser))
    return runs


def row_bytes(binariser: Mapping[str, Any]) -> int:
    """Bytes of one of its codes."""
    return code_bytes(binariser["width"], binariser["planes"])


def same_binariser(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(one[name] == other[name] for name in IDENTITY)


def differences(asked: Mapping[str, Any], recorded: Mapping[str, Any]) -> str:
    """What tells two binarisers apart, with both values."""
    return "; ".join(
        f"binariser.{name}: {asked.get(name)!r} asked for, {recorded.get(name)!r} recorded"
        for name in IDENTITY
        if asked.get(name) != recorded.get(name)
    )


def require_compatible(asked: Any, recorded: Iterable[Mapping[str, Any]], path: str | Path) -> None:
    """Raise `InputError` unless the binariser `asked` made all the codes that are `recorded`, or says that its codes are
    compatible with those (`compatible_with`, SHA-256 sums), which must be as wide."""
    known = set(getattr(asked, "compatible_with", ()))
    mine = asked.identity
    for other in recorded:
        fits = other["sha256"] in known and other["width"] == mine["width"] and other["name"] == mine["name"]
        if not (fits or same_binariser(mine, other)):
            raise InputError(
                f"{path}: codes were made by another binariser ({differences(mine, other)}): use the recorded one, one "
                f"that was trained to be compatible with it, or build another index"
            )
