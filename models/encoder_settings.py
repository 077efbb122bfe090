"""How an encoder is run: what was asked for, what its model card says, what the checkpoint's own files say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from ..errors import InputError, UsageError, suggest
from ..registry import check_type

if TYPE_CHECKING:
    from .cards import EncoderCard

#: Ways of making one vector of a text's token states, as sentence-transformers names them.
POOLINGS = ("cls", "mean", "lasttoken", "weightedmean", "max", "mean_sqrt_len_tokens")
SIMILARITIES = ("cosine", "dot")
#: What tokenizers call no limit is beyond this.
_NO_LIMIT = 10**9
_CHOICES = {"pooling": POOLINGS, "similarity": SIMILARITIES, "padding_side": ("left", "right")}


@dataclass(frozen=True)
class EncoderSettings:
    """What of a checkpoint is set; None leaves it as its files say.

    `query_prompt` and `document_prompt` stand before every text, `pooling` (cls, mean, lasttoken, weightedmean, …) makes
    one vector of the token states, with or without the prompt's tokens (`pooled_prompt`); `normalise` makes it a unit
    vector, `similarity` is cosine or dot. `max_length` tokens are read. `padding_side` is left or right; `append_eos` says
    that every text ends with the end-of-text token, also one that is cut. `bidirectional` lets a decoder's tokens see
    those after them. `layer` runs the first so many layers only, `dim` keeps the first so many dimensions,
    `layer_norm` normalises a vector's entries before they are cut.
    """

    query_prompt: str | None = None
    document_prompt: str | None = None
    pooling: str | None = None
    pooled_prompt: bool | None = None
    normalise: bool | None = None
    similarity: str | None = None
    max_length: int | None = None
    padding_side: str | None = None
    append_eos: bool | None = None
    bidirectional: bool | None = None
    layer: int | None = None
    dim: int | None = None
    layer_norm: bool | None = None

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in known:
                raise UsageError(f"{name} {value!r} is unknown: {suggest(str(value), known)}")
        for name, unit in (("max_length", "token"), ("layer", "layer"), ("dim", "dimension")):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name}={value}: expected at least 1 {unit}")

    def network(self) -> EncoderSettings:
        """Those that change the loaded network; prompts, lengths and dimensions are applied around it."""
        return replace(self, query_prompt=None, document_prompt=None, max_length=None, dim=None, layer_norm=None)

    def named(self) -> dict[str, Any]:
        """Those that are set, by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def given_settings(options: Mapping[str, Any]) -> EncoderSettings:
    """The settings that a user gives by name; another name or a value of a wrong type raises `UsageError`."""
    kinds = get_type_hints(EncoderSettings)
    for name, value in options.items():
        if name not in kinds:
            raise UsageError(f"the encoder has no option {name!r}: {suggest(name, kinds)}")
        check_type(f"encoder: {name}", value, kinds[name])
    return EncoderSettings(**options)


def settle(given: EncoderSettings, card: EncoderCard, own: EncoderSettings) -> EncoderSettings:
    """What is to be set: the user's word, else the card's where the checkpoint says nothing or is known to be wrong."""
    chosen = given.named()
    for name, value in card.settings.named().items():
        if name not in chosen and (getattr(own, name) is None or name in card.known_wrong):
            chosen[name] = value
    if own.bidirectional:  # transformers does what the configuration says only in part: see depth
        chosen.setdefault("bidirectional", True)
    return EncoderSettings(**chosen)


def own_settings(folder: Path) -> EncoderSettings:
    """What a checkpoint's own files say, as far as a card could say it too.

    An empty prompt counts as none: sentence-transformers writes empty ones for every model.
    """
    sentence = read_object(folder / "config_sentence_transformers.json")
    prompts = {name: text for name, text in (sentence.get("prompts") or {}).items() if text}
    default = prompts.get(sentence.get("default_prompt_name") or "")
    transformer, config = read_object(folder / "sentence_bert_config.json"), read_object(folder / "config.json")
    tokenizer = read_object(folder / "tokenizer_config.json")
    longest = transformer.get("max_seq_length") or tokenizer.get("model_max_length")
    has_modules = (folder / "modules.json").is_file()
    return EncoderSettings(
        query_prompt=prompts.get("query", default),
        document_prompt=prompts.get("document", default),
        pooling="mean" if has_modules else None,  # whichever: the modules say it
        pooled_prompt=True if has_modules else None,
        normalise=True if has_modules else None,
        similarity=_known(sentence.get("similarity_fn_name"), SIMILARITIES),
        max_length=longest if isinstance(longest, int) and longest < _NO_LIMIT else None,
        padding_side=_known(tokenizer.get("padding_side"), ("left", "right")),
        bidirectional=True if config.get("is_causal") is False or config.get("use_bidirectional_attention") else None,
        dim=sentence.get("truncate_dim"),
    )


def _known(value: Any, choices: tuple[str, ...]) -> str | None:
    return value if value in choices else None


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model's folder, an empty one where there is none."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: {error}: expected JSON") from error
    return content if isinstance(content, dict) else {}
