"""Pictures through a model of images and texts (CLIP, SigLIP and their kin), as sentence-transformers runs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from ..progress import progress
from ..records import Document, metadata_of

#: The metadata that names a document's file.
IMAGE = "image_file"
#: Pictures decoded and run at a time: 32 of 224 × 224 pixels are 19 MB of float32.
_AT_ONCE = 32


def image_of(document: Document) -> str | None:
    """The file of a document that is a picture."""
    file = metadata_of(document).get(IMAGE)
    return file if isinstance(file, str) and file else None


def image_batches(
    name: str, model: Any, device: str, files: Sequence[str]
) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Yield (positions in `files`, features on the device). A file that can't be decoded is an `InputError` that names it."""
    import torch

    if not model.supports("image"):
        raise InputError(
            f"the model {name} reads texts only, and the documents are pictures ({files[0]}): name a model of both (CLIP, "
            "SigLIP)"
        )
    with progress("encoding pictures", total=len(files), unit="images") as advance:
        for start in range(0, len(files), _AT_ONCE):
            part = files[start : start + _AT_ONCE]
            features = model.preprocess([_decoded(file) for file in part])
            moved = {
                key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in features.items()
            }
            yield np.arange(start, start + len(part)), moved
            advance(len(part))


def _decoded(file: str) -> Any:
    from PIL import Image

    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except Exception as error:  # decoders raise almost any class for broken data
        raise InputError(
            f"{file}: can't be read as an image ({error}): was it there when the corpus was read?"
        ) from error
