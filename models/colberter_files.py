"""ColBERTer checkpoints: folders as upstream publishes them, and as they are saved here.

config.json         upstream's fields, and `words`
model.safetensors   weights by upstream's names (of a published one perhaps pytorch_model.bin, read without its pickle's code)
backbone/           ours: the transformer's config.json and its tokenizer; else those of `bert_model`, a folder or Hub name
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ..errors import InputError, UsageError
from .backbone import BACKBONE, own_or_named
from .checkpoint import Checkpoint, find_folder, weights_digest
from .colberter_network import ColberterConfig, make_network
from .encoder_settings import read_object
from .loading import quiet

#: What its authors publish, and what it is.
PUBLISHED = {
    "sebastian-hofstaetter/colberter-128-32-msmarco": "ColBERTer, 128 and 32 dimensions, for the colberter retriever",
    "sebastian-hofstaetter/uni-colberter-128-1-msmarco": "Uni-ColBERTer, 128 and 1 dimension, only equal words match",
}

PICKLED = "pytorch_model.bin"

#: Fields that only this architecture's configuration has; its authors' ColBERT shares `model_type` and others with it.
_OWN_FIELDS = ("retrieval_compression_dim", "aggregate_unique_ids", "use_contextualized_stopwords")


def find_colberter(model: str | os.PathLike[str], revision: str | None = None) -> Checkpoint:
    """The files of a ColBERTer model, a local folder or the Hub's. Raises `InputError` for a model of another kind."""
    folder = find_folder(model, revision=revision, weights=True, pickled=PICKLED)
    name = folder.name if Path(model).expanduser().is_dir() else os.fspath(model)
    if not is_colberter(folder):
        raise InputError(
            f"the model {name} is no ColBERTer model: its config.json has none of {', '.join(_OWN_FIELDS)}; name one such as "
            f"sebastian-hofstaetter/colberter-128-32-msmarco, or use the late retriever"
        )
    if any(folder.glob("*.safetensors")):
        return Checkpoint(name, folder, weights_digest(folder))
    if not (folder / PICKLED).is_file():
        raise InputError(f"the model {name} has neither *.safetensors nor {PICKLED} in {folder}")
    with (folder / PICKLED).open("rb") as file:
        return Checkpoint(name, folder, hashlib.file_digest(file, "sha256").hexdigest())


def is_colberter(folder: Path) -> bool:
    """Whether a model's folder says that it is one."""
    config = read_object(folder / "config.json")
    return "ColBERTer" in (config.get("architectures") or []) or any(field in config for field in _OWN_FIELDS)


def read_config(checkpoint: Checkpoint) -> ColberterConfig:
    """What `config.json` says; fields of training are passed over."""
    found = read_object(checkpoint.folder / "config.json")
    fields = {field.name: field for field in dataclasses.fields(ColberterConfig)}
    values = {name: value for name, value in found.items() if name in fields and value is not None}
    for name, value in values.items():
        if type(value) is not type(fields[name].default):
            raise InputError(
                f"the model {checkpoint.name}: config.json has {name}={value!r}, expected a value such as "
                f"{fields[name].default!r}"
            )
    config = ColberterConfig(**values)
    config.check(checkpoint.name)
    return config


def backbone_folder(checkpoint: Checkpoint, config: ColberterConfig, given: str | None) -> Path:
    """Where the transformer's configuration and tokenizer are: `given`, the checkpoint's own, or those of `bert_model`."""
    if given is not None:
        return find_folder(given)
    if not (config.bert_model or (checkpoint.folder / BACKBONE / "config.json").is_file()):
        raise InputError(f"the model {checkpoint.name}: config.json names no bert_model: give its backbone")
    return own_or_named(checkpoint, config.bert_model, "give a folder that holds them as backbone")


def backbone_digest(folder: Path) -> str:
    """SHA-256, 16 hex digits, of the files that say what the transformer and its tokenizer do."""
    digest = hashlib.sha256()
    for name in ("config.json", "tokenizer.json", "vocab.txt"):
        if (folder / name).is_file():
            digest.update(f"{name}\n".encode() + (folder / name).read_bytes())
    return digest.hexdigest()[:16]


def load_tokenizer(folder: Path) -> Any:
    """The backbone's tokenizer, a fast one, as only those tell where in a text a token is."""
    from transformers import AutoTokenizer

    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if not tokenizer.is_fast:
        raise InputError(f"the tokenizer in {folder} is no fast one (tokenizer.json), which tells where tokens are")
    return tokenizer


def load_network(checkpoint: Checkpoint, config: ColberterConfig, backbone: Path) -> Any:
    """The network with the checkpoint's weights, float32 on the CPU. Missing and unknown weights raise `InputError`."""
    from transformers import AutoConfig, AutoModel

    with quiet():
        described = AutoConfig.from_pretrained(backbone, local_files_only=True)
        network = make_network(config, AutoModel.from_config(described)).float()
    weights = {name: weight.float() if weight.is_floating_point() else weight for name, weight in _read(checkpoint)}
    wanted = network.state_dict()
    for name in list(weights):  # a buffer of older transformers, which counts positions
        if name.endswith(".position_ids") and name not in wanted:
            del weights[name]
    _refuse(checkpoint.name, "lacks weights that its network needs", wanted.keys() - weights)
    _refuse(checkpoint.name, "has weights that its network does not know", weights.keys() - wanted)
    for name, weight in weights.items():
        if weight.shape != wanted[name].shape:
            raise InputError(
                f"the model {checkpoint.name}: {name} has shape {tuple(weight.shape)}, expected {tuple(wanted[name].shape)} "
                f"by config.json and the backbone in {backbone}"
            )
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def _refuse(name: str, what: str, weights: set[str]) -> None:
    if weights:
        shown = ", ".join(sorted(weights)[:4]) + (f" and {len(weights) - 4} more" if len(weights) > 4 else "")
        raise InputError(f"the model {name} {what} ({shown}): look at its config.json and its backbone")


def _read(checkpoint: Checkpoint) -> list[tuple[str, Any]]:
    """The names and tensors of all weights."""
    import torch
    from safetensors.torch import load_file

    files = sorted(checkpoint.folder.glob("*.safetensors"))
    try:
        if files:
            return [item for path in files for item in load_file(path).items()]
        found = torch.load(checkpoint.folder / PICKLED, map_location="cpu", weights_only=True)
        return [(str(name), torch.as_tensor(weight)) for name, weight in found.items()]
    except Exception as error:  # safetensors and torch raise many classes for a broken file
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the weights of the model {checkpoint.name} can't be read ({type(error).__name__}: {reason}): they must be "
            f"tensors by name, in safetensors or as torch saves them"
        ) from error


def save_colberter(folder: str | os.PathLike[str], network: Any, config: ColberterConfig, tokenizer: Any) -> None:
    """Write a checkpoint that loads without any other folder. `UsageError` where something is in the folder already."""
    from safetensors.torch import save_file

    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder}: something is here already: name a new folder for the model")
    (folder / BACKBONE).mkdir(parents=True, exist_ok=True)
    network.bert_model.config.save_pretrained(folder / BACKBONE)
    tokenizer.save_pretrained(folder / BACKBONE)
    weights = {name: weight.detach().cpu().contiguous().clone() for name, weight in network.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    described = {"architectures": ["ColBERTer"], "model_type": "ColBERT"} | dataclasses.asdict(config)
    (folder / "config.json").write_text(json.dumps(described, indent=2) + "\n")
