"""Pictures through a model of images and texts (CLIP, SigLIP and their kin), as sentence-transformers runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import InputError
from ..progress import progress
from ..records import Document, metadata_of
from .batching import plan_batches

#: The metadata that names a document's file.
IMAGE = "image_file"
#: Pictures decoded and run at a time: 32 of 224 × 224 pixels are 19 MB of float32.
_AT_ONCE = 32


def image_of(document: Document) -> str | None:
    """The file of a document that is a picture."""
    file = metadata_of(document).get(IMAGE)
    return file if isinstance(file, str) and file else None


def image_batches(
    name: str, model: Any, device: str, files: Sequence[str], *, token_budget: int | None = None, **arguments: Any
) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Yield (positions in `files`, features on the device). A file that can't be decoded is an `InputError` that names it.

    Of a model that gives a vector per token a batch holds at most `token_budget` tokens of pictures; without it 32 pictures.
    `arguments` are those of the model's `preprocess`.
    """
    import torch

    if not model.supports("image"):
        raise InputError(
            f"the model {name} reads texts only, and the documents are pictures ({files[0]}): name a model of both (CLIP, "
            "SigLIP; ColPali for late interaction)"
        )
    with progress("encoding pictures", total=len(files), unit="images") as advance:
        for rows in _planned(model, files, token_budget):
            features = model.preprocess([_decoded(files[row]) for row in rows], **arguments)
            moved = {
                key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in features.items()
            }
            yield rows, moved
            advance(len(rows))


def _planned(model: Any, files: Sequence[str], token_budget: int | None) -> list[np.ndarray]:
    if token_budget is None:
        return [np.arange(start, min(start + _AT_ONCE, len(files))) for start in range(0, len(files), _AT_ONCE)]
    return plan_batches(_picture_tokens(model, files) or [token_budget] * len(files), token_budget)


def _picture_tokens(model: Any, files: Sequence[str]) -> list[int] | None:
    """Tokens of each picture by its size, as transformers' processors tell servers; None where this one does not."""
    count = getattr(getattr(model[0], "processor", None), "_get_num_multimodal_tokens", None)
    if count is None:
        return None
    counted = count(image_sizes=[_opened(file, lambda image: (image.height, image.width)) for file in files])
    return [int(tokens) for tokens in counted["num_image_tokens"]]


def _decoded(file: str) -> Any:
    return _opened(file, lambda image: image.convert("RGB"))


def _opened(file: str, take: Callable[[Any], Any]) -> Any:
    """What `take` makes of the picture in `file`."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            return take(image)
    except Exception as error:  # decoders raise almost any class for broken data
        raise InputError(
            f"{file}: can't be read as an image ({error}): was it there when the corpus was read?"
        ) from error
