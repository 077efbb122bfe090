"""Loads language models through transformers: causal ones and encoder–decoders, quantised, with a LoRA adapter."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from ..errors import CribbleError, InputError, UsageError, require, suggest
from .checkpoint import Checkpoint, find_folder, refuse_pickles, weights_digest
from .loading import pack_where_it_pays, quiet, refuse_missing
from .runtime import torch_dtype

QUANTISED = ("", "8bit", "4bit")
DEVICE_MAPS = ("", "auto")

#: Models in use, so that two rerankers of a pipeline share theirs.
_loaded: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()


def check_quantise(quantise: str, device_map: str) -> None:
    """Raise `UsageError` for unknown values."""
    if quantise not in QUANTISED:
        raise UsageError(f"quantise={quantise!r} is unknown: {suggest(quantise, [q for q in QUANTISED if q])}")
    if device_map not in DEVICE_MAPS:
        raise UsageError(f"device_map={device_map!r} is unknown: expected auto, or nothing for one device")


def find_adapter(adapter: str | os.PathLike[str], trust_remote_code: bool = False) -> tuple[Path, str]:
    """The folder of a LoRA adapter (a local one or the Hub's) and the digest of its weights."""
    folder = find_folder(adapter, trust_remote_code=trust_remote_code, needs="adapter_config.json", weights=True)
    refuse_pickles(os.fspath(adapter), folder)
    if not (folder / "adapter_model.safetensors").is_file():
        raise InputError(f"the adapter {adapter} has no adapter_model.safetensors in {folder}")
    return folder, weights_digest(folder)


def load_language_model(
    checkpoint: Checkpoint,
    *,
    device: str,
    dtype: str,
    quantise: str = "",
    adapter: Path | None = None,
    device_map: str = "",
    trust_remote_code: bool = False,
) -> Any:
    """A `…ForCausalLM` or an encoder–decoder of transformers, ready for inference, shared by all that load the same.

    On a CPU that profits, its float32 linear layers are packed, without the output matrix, of which single rows are read.
    """
    key = (checkpoint, device, dtype, quantise, adapter, device_map, trust_remote_code)
    model = _loaded.get(key)
    if model is None:
        options = _placement(checkpoint.name, device, dtype, quantise, device_map)
        model = _load(checkpoint, options, trust_remote_code)
        if adapter is not None:
            model = _with_adapter(model, checkpoint.name, adapter, merge=not quantise)
        model.eval()
        if not quantise and not device_map:
            model = model.to(device)
            pack_where_it_pays(model.base_model, device, dtype)
        _clean_generation(model)
        _loaded[key] = model
    return model


def _placement(name: str, device: str, dtype: str, quantise: str, device_map: str) -> dict[str, Any]:
    """Where and in which numbers transformers shall load the weights."""
    options: dict[str, Any] = {"dtype": torch_dtype(dtype)}
    if device_map:
        require("accelerate", f"device_map={device_map!r}")
        options["device_map"] = device_map
    if quantise:
        require("accelerate", f"quantise={quantise!r}")
        require("bitsandbytes", f"quantise={quantise!r}")
        from transformers import BitsAndBytesConfig

        options.setdefault("device_map", {"": device})
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=quantise == "8bit",
            load_in_4bit=quantise == "4bit",
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch_dtype(dtype),
        )
    return options


def _load(checkpoint: Checkpoint, options: dict[str, Any], trust_remote_code: bool) -> Any:
    import transformers

    with quiet() as reports:
        try:
            config = transformers.AutoConfig.from_pretrained(
                str(checkpoint.folder), local_files_only=True, trust_remote_code=trust_remote_code
            )
            kind = "AutoModelForSeq2SeqLM" if config.is_encoder_decoder else "AutoModelForCausalLM"
            model = getattr(transformers, kind).from_pretrained(
                str(checkpoint.folder),
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                use_safetensors=True,
                **options,
            )
        except CribbleError:
            raise
        except Exception as error:  # transformers raises almost any class for a broken folder
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"the language model {checkpoint.name} can't be loaded ({type(error).__name__}: {reason})"
            ) from error
    refuse_missing(checkpoint.name, reports)
    return model


def _with_adapter(model: Any, name: str, adapter: Path, *, merge: bool) -> Any:
    """The model with the adapter's low-rank products in it: added to the weights, or beside them where these are
    quantised."""
    peft = require("peft", f"the adapter {adapter.name}")
    with quiet():
        try:
            adapted = peft.PeftModel.from_pretrained(model, str(adapter), is_trainable=False)
        except Exception as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"the adapter {adapter.name} does not fit the model {name} ({type(error).__name__}: {reason})"
            ) from error
        return adapted.merge_and_unload() if merge else adapted.get_base_model()


def _clean_generation(model: Any) -> None:
    """Forget the checkpoint's habits of generation (sampling, penalties, lengths), but not its special tokens."""
    from transformers import GenerationConfig

    config = model.generation_config
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    model.generation_config = GenerationConfig(**{name: getattr(config, name, None) for name in names})
