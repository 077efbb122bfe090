"""A training run's folder while it goes on: what is trained, and where it stands after the last whole epoch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, SetupError
from ..files import write_whole

if TYPE_CHECKING:
    import torch

PLAN, STATE = "training.json", "state.safetensors"


@dataclass
class Progress:
    """What an epoch leaves behind: numbers, and tensors by name (weights, the best weights, the optimiser's moments)."""

    epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)


def begin(folder: Path, plan: dict[str, Any], finished: str, *, overwrite: bool) -> Progress | None:
    """Claim `folder` for the training that `plan` (JSON values) describes; what an interrupted run of the same plan left.

    Raises `SetupError` where a finished model (the file `finished`) is and `overwrite` is not given, where another training
    was interrupted, and where other files are.
    """
    ours = {PLAN, STATE, finished, "model.safetensors"}
    if folder.exists() and not folder.is_dir():
        raise SetupError(f"{folder}: a file is in the way of the model's folder: choose another name")
    there = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if strange := sorted(name for name in there - ours if not name.startswith(".")):
        raise SetupError(f"{folder}: the folder holds other files ({', '.join(strange[:3])}): choose a new folder")
    if finished in there and not overwrite:
        raise SetupError(f"{folder}: a trained model is here already: use it, choose another folder, or overwrite")
    plan = json.loads(json.dumps(plan))
    if PLAN in there and not overwrite:
        recorded = json.loads((folder / PLAN).read_bytes())
        names = [name for name in sorted({*plan, *recorded}) if plan.get(name) != recorded.get(name)]
        if names:
            lines = "; ".join(
                f"{name}: {plan.get(name)!r} asked for, {recorded.get(name)!r} recorded" for name in names
            )
            raise SetupError(
                f"{folder}: another training was interrupted here ({lines}): repeat its options to go on with it, or "
                f"overwrite"
            )
        return read_state(folder) if STATE in there else None
    for name in (finished, STATE, "model.safetensors"):  # the finished mark first: without it all is absent
        (folder / name).unlink(missing_ok=True)
    with write_whole(folder / PLAN) as stream:
        stream.write((json.dumps(plan, indent=1) + "\n").encode())
    return None


def write_state(folder: Path, progress: Progress) -> None:
    from safetensors.torch import save

    numbers = {"epoch": progress.epoch, "best": progress.best, "best_epoch": progress.best_epoch}
    told = json.dumps(numbers | {"history": progress.history})
    tensors = {name: tensor.detach().contiguous() for name, tensor in progress.tensors.items()}
    with write_whole(folder / STATE) as stream:
        stream.write(save(tensors, metadata={"progress": told}))


def read_state(folder: Path) -> Progress:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / STATE, framework="pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no mapping)
            told = json.loads((file.metadata() or {})["progress"])
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{folder / STATE} cannot be read ({error}): train again with overwrite") from error
    return Progress(**told, tensors=tensors)


def end(folder: Path) -> None:
    """Remove what only an unfinished training needs."""
    for name in (STATE, PLAN):
        (folder / name).unlink(missing_ok=True)
