"""Which encoder a model string means: a checkpoint, or (`openai:NAME`) a server's model."""

from __future__ import annotations

import os
from inspect import signature
from typing import TYPE_CHECKING, Any, get_type_hints

from ..errors import UsageError, suggest
from .encoder_settings import EncoderSettings

if TYPE_CHECKING:
    from ..vectors import EncoderSpec
    from .encoder import Encoder
    from .remote_encoder import RemoteEncoder

#: What the models of a server begin with.
REMOTE = "openai:"

#: Options of an encoder that change its vectors, and their types. How vectors are compared is the index's affair.
ENCODING_OPTIONS: dict[str, Any] = {
    "dtype": str,
    "card": str | None,
    "trust_remote_code": bool,
    "url": str | None,
    **{name: kind for name, kind in get_type_hints(EncoderSettings).items() if name != "similarity"},
}


def make_encoder(model: str | os.PathLike[str] | None = None, **options: Any) -> Encoder | RemoteEncoder:
    """The encoder that `model` names, with `options` of its class."""
    if isinstance(model, str) and model.startswith(REMOTE):
        from .remote_encoder import RemoteEncoder

        options.pop("device", None)  # where an index is searched; the server has its own
        known = list(signature(RemoteEncoder).parameters)
        for name in options:
            if name not in known:
                raise UsageError(f"{model}: a server's model has no option {name!r}: {suggest(name, known)}")
        return RemoteEncoder(model.removeprefix(REMOTE), **options)
    device = options.get("device", "auto")
    if "," in device or device == "cuda:all":
        from .several_devices import SeveralDevicesEncoder

        return SeveralDevicesEncoder(model, **options)
    from .encoder import Encoder

    return Encoder(model, **options)


def encoder_of(
    spec: EncoderSpec, model: str | os.PathLike[str] | None = None, *, device: str = "auto"
) -> Encoder | RemoteEncoder:
    """The encoder that an index records, or `model` under the recorded settings."""
    name = model or spec.folder or spec.model
    if isinstance(name, str) and name.startswith(REMOTE):
        from .remote_encoder import RemoteEncoder

        return RemoteEncoder.of_spec(spec, name.removeprefix(REMOTE))
    from .encoder import Encoder

    return Encoder.of_spec(spec, name, device=device)
