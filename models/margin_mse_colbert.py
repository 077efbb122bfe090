"""The ColBERT that was distilled by Margin-MSE (Hofstätter et al. 2020, arXiv 2010.02666): dot products, and eight [MASK] tokens
after every query.

Its checkpoint (sebastian-hofstaetter/colbert-distilbert-margin_mse-T2-msmarco) names its weights `bert_model.*` and `compressor.*`,
and the place of the tokenizer as `bert_model` in config.json. Read in `minimal_colbert_usage_example.ipynb` of
sebastian-hofstaetter/neural-ranking-kd.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..errors import InputError
from .backbone import own_or_named
from .checkpoint import Checkpoint, weight_files
from .encoder_settings import read_object
from .loading import pack_where_it_pays, quiet
from .runtime import torch_dtype
from .unpadded import unpad

#: [MASK] tokens after a query, attended to and scored, as it was trained.
MASKS = 8

_BACKBONE, _PROJECTION = "bert_model.", "compressor."


def is_margin_mse(folder: Path) -> bool:
    """Whether a model's folder says that it is such a ColBERT; a ColBERTer has fields of its own beside these."""
    config = read_object(folder / "config.json")
    return config.get("architectures") == ["ColBERT"] and {"bert_model", "compression_dim"} <= config.keys()


def load_margin_mse(checkpoint: Checkpoint, *, device: str, dtype: str) -> Any:
    """The transformer and its projection as sentence-transformers' modules; vectors are not normalised.

    Raises `InputError` where weights are missing or unknown, `SetupError` where the tokenizer is nowhere.
    """
    import torch
    from safetensors.torch import load_file
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
    from transformers import AutoConfig, AutoModel, AutoTokenizer

    named = read_object(checkpoint.folder / "config.json")["bert_model"]
    place = own_or_named(checkpoint, named, "put them into its folder as backbone/")
    weights = {name: value for file in weight_files(checkpoint.folder) for name, value in load_file(file).items()}
    with quiet(), TemporaryDirectory() as folder:
        backbone = AutoModel.from_config(AutoConfig.from_pretrained(place, local_files_only=True))
        own = {name.removeprefix(_BACKBONE): value for name, value in weights.items() if name.startswith(_BACKBONE)}
        rest = {name: value for name, value in weights.items() if not name.startswith(_BACKBONE)}
        projected = {name.removeprefix(_PROJECTION): value for name, value in rest.items()}
        _refuse_others(checkpoint.name, backbone, own, projected)
        backbone.load_state_dict(own)
        backbone.save_pretrained(folder)
        AutoTokenizer.from_pretrained(place, local_files_only=True).save_pretrained(folder)
        first = Transformer(
            folder,
            model_kwargs={"dtype": torch_dtype(dtype)},
            query_length=backbone.config.max_position_embeddings - MASKS,
        )
    out, width = projected["weight"].shape
    second = Dense(width, out, activation_function=torch.nn.Identity(), module_input_name="token_embeddings")
    second.linear.load_state_dict(projected)
    model: Any = MultiVectorEncoder(modules=[first, second.to(torch_dtype(dtype)), MultiVectorMask()], device=device)
    model.eval().requires_grad_(False)
    model.appended_masks = MASKS
    if device == "cpu" and dtype == "float32":
        unpad(model)
    pack_where_it_pays(model, device, dtype)
    return model


def with_masks(features: dict[str, Any], mask_id: int, masks: int) -> dict[str, Any]:
    """Token columns (n, w) padded on the right, with `masks` [MASK] tokens (n, w + masks) after each text's last token."""
    import torch

    ids, seen = features["input_ids"], features["attention_mask"]
    more = torch.zeros(len(ids), masks, dtype=ids.dtype, device=ids.device)
    places = seen.sum(1, keepdim=True) + torch.arange(masks, device=ids.device)
    return features | {
        "input_ids": torch.cat([ids, more], 1).scatter(1, places, mask_id),
        "attention_mask": torch.cat([seen, more], 1).scatter(1, places, 1),
    }


def _refuse_others(name: str, backbone: Any, own: dict[str, Any], projected: dict[str, Any]) -> None:
    """Raise `InputError` unless the weights are those of the transformer and of a projection with bias."""
    wanted = backbone.state_dict()
    for position in [weight for weight in own if weight.endswith("position_ids") and weight not in wanted]:
        del own[position]  # a buffer of older transformers, which counts positions
    odd = sorted((wanted.keys() ^ own.keys()) | ({"weight", "bias"} ^ projected.keys()))
    odd += sorted(weight for weight in own.keys() & wanted.keys() if own[weight].shape != wanted[weight].shape)
    if odd:
        raise InputError(
            f"the model {name} lacks weights or has others than its network ({', '.join(odd[:4])}): it is not whole, or the "
            "backbone that its config.json names is another"
        )
