"""The encoder that an index records: where its model lay, and how it is found again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SetupError
from ..models.encoders import encoder_of

if TYPE_CHECKING:
    from ..corpora.dataset import Dataset
    from ..models.encoder import Encoder
    from ..models.remote_encoder import RemoteEncoder
    from ..records import Document
    from ..vectors import EncoderSpec


def located(encoder: Any) -> EncoderSpec:
    """The encoder's spec with the folder of a model that was named by its folder."""
    checkpoint = getattr(encoder, "checkpoint", None)  # a server's model has none
    local = checkpoint is not None and encoder.model is not None and Path(encoder.model).expanduser().is_dir()
    return replace(encoder.spec, folder=str(checkpoint.folder)) if local and checkpoint else encoder.spec


def recorded_encoder(index: str | Path, spec: EncoderSpec, model: str | None, device: str) -> Encoder | RemoteEncoder:
    """The encoder of queries for the folder `index`, which records `spec`: `model`, or the one that is recorded."""
    name = model or spec.folder or spec.model
    if name == spec.folder:
        require_folder(index, spec)
    return encoder_of(spec, name, device=device)


def require_folder(index: str | Path, spec: EncoderSpec) -> None:
    """Raise `SetupError` where the model was named by its folder, and that is not there any more."""
    if spec.folder and not Path(spec.folder).is_dir():
        raise SetupError(
            f"{index} was made by the model in {spec.folder}, which is not there: name its folder as model"
        )


@dataclass(frozen=True)
class Passes:
    """A dataset's documents, which each loop over this begins anew: some kinds of index go over them more than once."""

    dataset: Dataset

    def __iter__(self) -> Iterator[Document]:
        return iter(self.dataset.documents())


def build_encoded(
    kind: Any,
    dataset: Dataset,
    path: str | Path,
    encoder: Any,
    options: Mapping[str, Any],
    *,
    overwrite: bool,
    encode: Callable[[list[Document]], Any] | None = None,
) -> None:
    """Build an index of `kind` of a dataset's documents, as `encoder` encodes them, or `encode`, which is made of it."""
    kind.build(
        path,
        Passes(dataset),
        encode or encoder.encode_documents,
        spec=located(encoder),
        corpus=dataset.id,
        total=dataset.num_documents,
        truncated=lambda: encoder.truncated,
        overwrite=overwrite,
        **options,
    )
