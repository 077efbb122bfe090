"""Where the transformer of a checkpoint is described that holds its weights only under names of its own."""

from __future__ import annotations

from pathlib import Path

from ..errors import SetupError, UsageError
from .checkpoint import Checkpoint, find_folder

#: The sub-folder of a checkpoint that holds its transformer's configuration and tokenizer.
BACKBONE = "backbone"


def own_or_named(checkpoint: Checkpoint, named: str, remedy: str) -> Path:
    """The folder of the transformer's configuration and tokenizer: the checkpoint's own, or that of the model `named`.

    Where that is not to be had raises `SetupError`, which says the `remedy`.
    """
    if (checkpoint.folder / BACKBONE / "config.json").is_file():
        return checkpoint.folder / BACKBONE
    try:
        return find_folder(named)
    except (SetupError, UsageError) as error:
        raise SetupError(
            f"the model {checkpoint.name} needs the configuration and the tokenizer of {named} ({error}): {remedy}"
        ) from error
