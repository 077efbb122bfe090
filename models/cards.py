"""Model cards of encoders, as data: prompts, pooling and the like, where a checkpoint does not say them itself.

Shipped cards are `models/encoder_cards/*.yaml`, by model name. A user's own is the section `encoder` of `cribble.yaml` in the
model's folder (the rest of that file is the model's card as a reranker), or a file named by the option `card`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from ..errors import InputError, UsageError, suggest
from ..yaml_files import check_card, published_numbers, read_entries, read_mapping
from .encoder_settings import EncoderSettings

Card = TypeVar("Card")

#: What `card` says for a checkpoint as its own files have it.
NO_CARD = "none"

_FOLDER = Path(__file__).parent / "encoder_cards"
_TWICE = "the model {} has a card in another file: keep one"
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


@cache
def shipped_cards() -> dict[str, EncoderCard]:
    """All cards in the package by model name."""
    return read_entries(_FOLDER, _card, _TWICE)


def find_card(name: str, folder: Path | None = None, card: str | None = None) -> EncoderCard:
    """The card of the model `name`: the file or the shipped card that `card` names ("none": none), else the section
    `encoder` of `cribble.yaml` in its `folder`, else the shipped card of its name, else an empty one."""
    return chosen_card(name, folder, card, shipped_cards(), _section) or EncoderCard(name)


def chosen_card(
    name: str,
    folder: Path | None,
    card: str | None,
    shipped: Mapping[str, Card],
    section: Callable[[str, Path], Card | None],
) -> Card | None:
    """The rule of `find_card` for cards of any kind; `section` reads theirs from a file. None is an empty one."""
    if card == NO_CARD:
        return None
    if card is not None:
        if card in shipped:
            return shipped[card]
        if Path(card).is_file():
            return section(name, Path(card))
        raise UsageError(f"card {card!r} is neither a file nor a shipped card: {suggest(card, [NO_CARD, *shipped])}")
    file = folder / "cribble.yaml" if folder else None
    own = section(name, file) if file is not None and file.is_file() else None
    return own or shipped.get(name)


def card_rows() -> list[tuple[str, str]]:
    """(model, one line about it) of every shipped card, by name."""
    return [(name, card.summary) for name, card in sorted(shipped_cards().items())]


def _section(name: str, path: Path) -> EncoderCard | None:
    content = read_mapping(path)
    return _card(name, content["encoder"], path) if "encoder" in content else None


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
