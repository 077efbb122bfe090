"""Model cards: what a checkpoint was trained for, as data. A new checkpoint of a known kind is no code.

Shipped cards are `rerankers/model_cards/*.yaml`, by model name. A user's own is `cribble.yaml` in the model's folder, or a file
named by the option `card`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ..errors import InputError, UsageError, suggest

_FOLDER = Path(__file__).parent / "model_cards"


@dataclass(frozen=True)
class Card:
    """One checkpoint. `judge` and `strategy` are specs, `{use: NAME, option: value}`; `model` holds options of the
    backend (max_length, padding_side, …); `window` is the number of documents that it was trained for, `damage` what is
    known to happen with another. `published` lists numbers with their first stage and source."""

    name: str = ""
    judge: Mapping[str, Any] = field(default_factory=dict)
    strategy: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    window: int | None = None
    damage: str = ""
    licence: str = ""
    published: tuple[Mapping[str, Any], ...] = ()
    notes: str = ""

    @property
    def summary(self) -> str:
        """One line: how it is asked, in which windows, and what its licence is."""
        parts = [f"{self.judge.get('use', '?')} × {self.strategy.get('use', '?')}"]
        parts += [f"template {self.judge['template']}"] if "template" in self.judge else []
        parts += [f"window {self.window}"] if self.window is not None else []
        parts += [self.licence] if self.licence else []
        return ", ".join(parts)


@cache
def shipped_cards() -> dict[str, Card]:
    """All cards in the package by model name."""
    cards: dict[str, Card] = {}
    for path in sorted(_FOLDER.glob("*.yaml")):
        for name, content in _read(path).items():
            if name in cards:
                raise InputError(f"{path}: the model {name} has a card in another file: keep one")
            cards[name] = _card(name, content, path)
    return cards


def find_card(model: str | None, card: str | None = None) -> Card:
    """The card of `model`: the file or the shipped card named `card`, else `cribble.yaml` in the model's folder, else
    the shipped card of that name, else an empty one."""
    if card is not None:
        if card in shipped_cards():
            return shipped_cards()[card]
        if Path(card).is_file():
            return _card(model or card, _read(Path(card)), Path(card))
        raise UsageError(f"card {card!r} is neither a file nor a shipped card: {suggest(card, shipped_cards())}")
    own = Path(model) / "cribble.yaml" if model else None
    if own is not None and own.is_file():
        return _card(str(model), _read(own), own)
    return shipped_cards().get(model or "", Card(model or ""))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping, found {type(content).__name__}")
    return content


def _card(name: str, content: Any, path: Path) -> Card:
    known = [f.name for f in fields(Card) if f.name != "name"]
    if not isinstance(content, dict):
        raise InputError(f"{path}: the card of {name} is {content!r}, expected a mapping with {', '.join(known)}")
    for key in content:
        if key not in known:
            raise InputError(f"{path}: the card of {name} has the unknown key {key!r}: {suggest(str(key), known)}")
    return Card(name, **{key: tuple(value) if key == "published" else value for key, value in content.items()})


def card_rows() -> list[tuple[str, str]]:
    """(model, one line about it) of every shipped card: judge and strategy, window, licence."""
    return [(name, card.summary) for name, card in sorted(shipped_cards().items())]
