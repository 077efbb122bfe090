"""XTR (Lee et al. 2023, arXiv 2304.01982): a T5 encoder and a projection of every token's state, as google/xtr-base-en has them.

Its folder is the encoder's, with the projection in `2_Dense` and nothing that says so to sentence-transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputError
from .checkpoint import Checkpoint
from .encoder_settings import read_object
from .loading import pack_where_it_pays, quiet, refuse_missing
from .runtime import torch_dtype

_PROJECTION = "2_Dense"
_IDENTITY = "torch.nn.modules.linear.Identity"


def is_xtr(folder: Path) -> bool:
    """Whether a model's folder is laid out as XTR's."""
    return (
        read_object(folder / "config.json").get("model_type") == "t5"
        and (folder / _PROJECTION / "config.json").is_file()
        and not (folder / "modules.json").is_file()
    )


def load_xtr(checkpoint: Checkpoint, *, device: str, dtype: str) -> Any:
    """The encoder, its projection without bias, and vectors of unit length, as sentence-transformers' modules.

    Every token counts, the end of sequence too, as in XTR-WARP (warp/modeling/xtr.py). Raises `InputError` where the
    projection is pickled, as upstream's is, or of another form.
    """
    from safetensors.torch import load_file
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
    from torch import nn

    place = checkpoint.folder / _PROJECTION
    if not (place / "model.safetensors").is_file():
        raise InputError(
            f"the model {checkpoint.name} has its projection pickled only ({_PROJECTION}/pytorch_model.bin): save its "
            f"linear.weight as {_PROJECTION}/model.safetensors (docs/late-interaction.md shows how), and name that folder"
        )
    described, weights = read_object(place / "config.json"), load_file(place / "model.safetensors")
    if set(weights) != {"linear.weight"} or described.get("activation_function", _IDENTITY) != _IDENTITY:
        raise InputError(
            f"the model {checkpoint.name}: {place} holds {', '.join(sorted(weights))} and the activation "
            f"{described.get('activation_function')}, expected XTR's linear.weight alone and {_IDENTITY}"
        )
    weight = weights["linear.weight"]
    with quiet() as reports:
        kwargs = {"dtype": torch_dtype(dtype), "use_safetensors": True, "local_files_only": True}
        encoder = Transformer(str(checkpoint.folder), model_kwargs=kwargs, processor_kwargs={"local_files_only": True})
        projection = Dense(
            weight.shape[1],
            weight.shape[0],
            bias=False,
            activation_function=nn.Identity(),
            init_weight=weight.to(torch_dtype(dtype)),
            module_input_name="token_embeddings",
        )
        modules = [encoder, projection, MultiVectorMask(), Normalize(module_input_name="token_embeddings")]
        model = MultiVectorEncoder(modules=modules, device=device)
    refuse_missing(checkpoint.name, reports)
    model.eval()
    pack_where_it_pays(model, device, dtype)
    return model
