"""The encoder that an index records: where its model lay, and how it is found again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import SetupError
from ..models.encoders import encoder_of

if TYPE_CHECKING:
    from ..models.encoder import Encoder
    from ..models.remote_encoder import RemoteEncoder
    from ..vectors import EncoderSpec


def located(encoder: Encoder | RemoteEncoder) -> EncoderSpec:
    """The encoder's spec with the folder of a model that was named by its folder."""
    checkpoint = getattr(encoder, "checkpoint", None)  # a server's model has none
    local = checkpoint is not None and encoder.model is not None and Path(encoder.model).expanduser().is_dir()
    return replace(encoder.spec, folder=str(checkpoint.folder)) if local and checkpoint else encoder.spec


def recorded_encoder(index: str | Path, spec: EncoderSpec, model: str | None, device: str) -> Encoder | RemoteEncoder:
    """The encoder of queries for the folder `index`, which records `spec`: `model`, or the one that is recorded."""
    name = model or spec.folder or spec.model
    if name == spec.folder and not Path(name).is_dir():
        raise SetupError(f"{index} was made by the model in {name}, which is not there: name its folder as model")
    return encoder_of(spec, name, device=device)
