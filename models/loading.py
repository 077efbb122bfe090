"""Loads checkpoints through sentence-transformers: quietly, complete, in the asked device and number format."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from ..errors import CribbleError, InputError, UsageError
from .checkpoint import Checkpoint
from .encoder_settings import EncoderSettings
from .runtime import torch_dtype

_MISSING = re.compile(r"^(\S+)\s*\|\s*MISSING", re.MULTILINE)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

_AS_IT_IS = EncoderSettings()

#: Models in use, so that a dense retriever and a reranker of one pipeline share theirs.
_loaded: WeakValueDictionary[tuple[Any, ...], Any] = WeakValueDictionary()


def load_model(
    kind: str,
    checkpoint: Checkpoint,
    *,
    device: str,
    dtype: str,
    max_length: int | None = None,
    trust_remote_code: bool = False,
    may_miss: tuple[str, ...] = (),
    settings: EncoderSettings = _AS_IT_IS,
) -> Any:
    """A sentence-transformers model of class `kind` (`SentenceTransformer` or `CrossEncoder`), ready for inference.

    Weights that the network has and the file lacks would be random numbers: that is an `InputError`, but for names
    that contain one of `may_miss`. `settings` are applied where they change the network. On a CPU a float32 model of a
    known kind runs without padding (see `unpadded`), and where that is faster with packed linear layers (see
    `packed_linear`).
    """
    settings = settings.network()
    key = (kind, checkpoint, device, dtype, max_length, trust_remote_code, settings)
    model = _loaded.get(key)
    if model is None:
        model = _load(kind, checkpoint, device, dtype, trust_remote_code, may_miss, settings)
        _set_max_length(model, checkpoint, max_length)
        _loaded[key] = model
    return model


def _load(
    kind: str,
    checkpoint: Checkpoint,
    device: str,
    dtype: str,
    trust_remote_code: bool,
    may_miss: tuple[str, ...],
    settings: EncoderSettings,
) -> Any:
    import sentence_transformers

    from .pooling import own_modules

    with quiet() as reports:
        try:
            make = getattr(sentence_transformers, kind)
            if own := own_modules(checkpoint.folder):
                make = partial(make._load_with_module_classes, module_classes=own)
            model = make(
                str(checkpoint.folder),
                device=device,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                model_kwargs={"dtype": torch_dtype(dtype), "use_safetensors": True},
            )
        except CribbleError:
            raise
        except Exception as error:  # transformers raises almost any class for a broken folder
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"the model {checkpoint.name} can't be loaded ({type(error).__name__}: {reason})"
            ) from error
    refuse_missing(checkpoint.name, reports, may_miss)
    model.eval()
    if settings != _AS_IT_IS:
        from .adapting import adapt

        adapt(checkpoint.name, model, settings)
    if device == "cpu" and dtype == "float32":
        from .unpadded import unpad

        unpad(model)
    pack_where_it_pays(model, device, dtype)
    return model


def refuse_missing(name: str, reports: list[str], may_miss: tuple[str, ...] = ()) -> None:
    """Raise `InputError` when transformers reported weights that the file lacks: they would be random numbers."""
    missing = [weight for report in reports for weight in _MISSING.findall(report)]
    missing = [weight for weight in missing if not any(part in weight for part in may_miss)]
    if missing:
        raise InputError(
            f"the model {name} lacks weights that its network needs ({', '.join(missing[:4])}), they would "
            "be random: this checkpoint is made for another task, or is not whole"
        )


def pack_where_it_pays(model: Any, device: str, dtype: str) -> None:
    """Pack the float32 linear layers of a model on a CPU that profits (see `packed_linear`)."""
    if device == "cpu" and dtype == "float32":
        from .packed_linear import pack_linears, packing_pays

        if packing_pays():
            pack_linears(model)


def _set_max_length(model: Any, checkpoint: Checkpoint, max_length: int | None) -> None:
    """Tokens a text is cut at: the checkpoint's own number, or a smaller or larger one that the positions allow."""
    if max_length is None:
        return
    if max_length < 1:
        raise UsageError(f"max_length={max_length}: expected at least 1 token")
    config = getattr(model.transformers_model, "config", None)
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and 0 < positions < max_length:
        raise UsageError(f"max_length={max_length}: {checkpoint.name} has {positions} positions; use at most that")
    if model.tokenizer is None:
        raise UsageError(
            f"max_length={max_length}: {checkpoint.name} has no tokenizer that could cut texts; leave it out"
        )
    model.max_seq_length = max_length


@contextmanager
def quiet() -> Iterator[list[str]]:
    """Keep transformers' bars and tables off the terminal; what it warned of is in the yielded list."""
    from transformers.utils import logging as transformers_logging

    reports: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            reports.append(_COLOURS.sub("", record.getMessage()))

    root = logging.getLogger("transformers")
    transformers_logging.get_verbosity()  # sets up the library's own handler, which is then replaced for a while
    handlers, propagate, level = root.handlers[:], root.propagate, root.level
    bars = transformers_logging.is_progress_bar_enabled()
    root.handlers, root.propagate = [Keep()], False
    root.setLevel(logging.WARNING)
    transformers_logging.disable_progress_bar()
    try:
        yield reports
    finally:
        root.handlers, root.propagate = handlers, propagate
        root.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()
