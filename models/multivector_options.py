"""From a retriever's options to the encoder of token vectors. Loads no network."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, get_type_hints

from ..errors import InputError, UsageError, suggest
from .encoder_settings import EncoderSettings
from .multivector_settings import SETTINGS, MultiVectorSettings

if TYPE_CHECKING:
    from ..vectors import EncoderSpec
    from .multivector_encoder import MultiVectorEncoder
    from .multivector_states import TokenStates

    TokenEncoder = MultiVectorEncoder | TokenStates

_STATES = ("query_prompt", "document_prompt", "max_length", "padding_side", "append_eos", "bidirectional", "layer")
_COMMON: dict[str, Any] = {"dtype": str, "trust_remote_code": bool, "token_budget": int}

#: Options of encoders of token vectors, and their types; which kind of checkpoint takes which is checked when it is found.
TOKEN_ENCODING: dict[str, Any] = {
    **_COMMON,
    "card": str | None,
    **{name: kind for name, kind in get_type_hints(EncoderSettings).items() if name in _STATES},
    **get_type_hints(MultiVectorSettings),
}


def make_token_encoder(model: str | os.PathLike[str] | None = None, **options: Any) -> TokenEncoder:
    """The encoder that `model` names: as it was trained where that was for late interaction, else by its token states.

    `options` are of `TOKEN_ENCODING`, and `device`; one that this kind of checkpoint lacks raises `UsageError`.
    """
    from .checkpoint import find_checkpoint
    from .colberter_files import is_colberter
    from .multivector_encoder import MultiVectorEncoder, is_multi_vector
    from .multivector_states import TokenStates

    checkpoint = find_checkpoint(model, trust_remote_code=options.get("trust_remote_code", False))
    if is_colberter(checkpoint.folder):
        raise InputError(f"{checkpoint.name} is a ColBERTer model: it goes with the colberter retriever")
    late = is_multi_vector(checkpoint.folder)
    known = (*_COMMON, "card", *(SETTINGS if late else _STATES))
    for name in options:
        if name != "device" and name not in known:
            what = "a late-interaction checkpoint" if late else "an encoder of one vector, used by its token states"
            raise UsageError(f"{checkpoint.name} is {what}, which has no option {name!r}: {suggest(name, known)}")
    if late:
        return MultiVectorEncoder(model or checkpoint.folder, **options)
    return TokenStates(model, **options)


def token_encoder_of(spec: EncoderSpec, model: str | None = None, *, device: str = "auto") -> TokenEncoder:
    """The encoder that an index records, or `model` under the recorded settings."""
    from .multivector_encoder import POOLING, MultiVectorEncoder
    from .multivector_states import TokenStates

    kind: Any = MultiVectorEncoder if spec.pooling == POOLING else TokenStates
    encoder: TokenEncoder = kind.of_spec(spec, model, device=device)
    return encoder
