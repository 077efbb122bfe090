"""Model cards of encoders, as data: prompts, pooling and the like, where a checkpoint does not say them itself.

Shipped cards are `models/encoder_cards/*.yaml`, by model name. A user's own is the section `encoder` of `cribble.yaml` in the
model's folder (the rest of that file is the model's card as a reranker), or a file named by the option `card`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from ..errors import InputError, UsageError
from ..yaml_files import check_card, published_numbers
from .card_files import CardFiles
from .encoder_settings import EncoderSettings

_PUBLISHED = ("setting", "measure", "values", "source")


@dataclass(frozen=True)
class EncoderCard:
    """One encoder. `settings` hold where the checkpoint's own files say nothing, and those named in `known_wrong` (with the
    reason) also where they say otherwise. `dims` are the widths and `layers` the depths that it was trained to be cut to;
    `remote_code` says that it needs trust_remote_code. `published` lists numbers: setting, measure, values by data set,
    source."""

    name: str = ""
    settings: EncoderSettings = field(default_factory=EncoderSettings)
    known_wrong: Mapping[str, str] = field(default_factory=dict)
    dims: Sequence[int] = ()
    layers: Sequence[int] = ()
    remote_code: bool = False
    licence: str = ""
    published: Sequence[Mapping[str, Any]] = ()
    notes: str = ""

    @property
    def summary(self) -> str:
        """One line: encoder, pooling, prompts, what it can be cut to, its first published number, its licence."""
        parts = ["encoder"]
        parts += [f"{self.settings.pooling} pooling"] if self.settings.pooling else []
        parts += [f"{self.settings.max_length} tokens"] if self.settings.max_length else []
        prompts = (self.settings.query_prompt, self.settings.document_prompt)
        parts += [f"prompts {prompts[0] or ''!r} and {prompts[1] or ''!r}"] if any(prompts) else []
        parts += [f"dim {' '.join(map(str, self.dims))}"] if self.dims else []
        parts += [f"layer {' '.join(map(str, self.layers))}"] if self.layers else []
        if self.published:
            first = self.published[0]
            dataset, value = next(iter(first["values"].items()))
            parts.append(f"{dataset} {first['measure']} {value}")
        return ", ".join([*parts, *filter(None, [self.licence])])


def find_card(name: str, folder: Path | None = None, card: str | None = None) -> EncoderCard:
    """The card of the model `name` (`CardFiles.find`), else an empty one."""
    return CARDS.find(name, folder, card) or EncoderCard(name)


def _card(name: str, content: Any, path: Path) -> EncoderCard:
    where = f"{path}: the card of {name}"
    settings = get_type_hints(EncoderSettings)
    own = {name: kind for name, kind in get_type_hints(EncoderCard).items() if name not in ("name", "settings")}
    check_card(where, content, settings | own)
    values: dict[str, Any] = {key: value for key, value in content.items() if key in own}
    for key in ("dims", "layers"):
        values[key] = tuple(content.get(key) or ())
    values["published"] = published_numbers(where, content.get("published"), _PUBLISHED)
    for wrong in content.get("known_wrong") or ():
        if wrong not in content or wrong not in settings:
            raise InputError(f"{where}: known_wrong names {wrong!r}, which the card does not set")
    try:
        chosen = EncoderSettings(**{key: value for key, value in content.items() if key in settings})
    except UsageError as error:
        raise InputError(f"{where}: {error}") from error
    return EncoderCard(name, chosen, **values)


#: All cards of this kind.
CARDS = CardFiles(Path(__file__).parent / "encoder_cards", "encoder", _card)
