"""Model cards: what a checkpoint was trained for, as data. A new checkpoint of a known kind is no code.

Shipped cards are `rerankers/model_cards/*.yaml`, by model name. A user's own is `cribble.yaml` in the model's folder, or a file
named by the option `card`; a template that it names by a file `….yaml` lies beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from ..errors import InputError, UsageError, suggest
from ..yaml_files import check_card, published_numbers, read_entries, read_mapping

_FOLDER = Path(__file__).parent / "model_cards"
_TWICE = "the model {} has a card in another file: keep one"
_PUBLISHED = ("first_stage", "measure", "values", "source")


@dataclass(frozen=True)
class Card:
    """One checkpoint. `judge` and `strategy` are specs, `{use: NAME, option: value}`; `model` holds options of the
    backend (max_length, …). `base` is the model that this one is a LoRA adapter of. `window` is the number of documents
    that it was trained for, `damage` what is known to happen with another. `published` lists numbers: first stage,
    measure, values by data set, source."""

    name: str = ""
    judge: Mapping[str, Any] = field(default_factory=dict)
    strategy: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    base: str = ""
    window: int | None = None
    damage: str = ""
    licence: str = ""
    published: tuple[Mapping[str, Any], ...] = ()
    notes: str = ""

    @property
    def summary(self) -> str:
        """One line: how it is asked, in which windows, its best known number, its licence."""
        parts = [f"{self.judge.get('use', '?')} × {self.strategy.get('use', '?')}"]
        parts += [f"template {self.judge['template']}"] if "template" in self.judge else []
        parts += [f"window {self.window}"] if self.window is not None else []
        parts += [f"adapter of {self.base}"] if self.base else []
        if self.published:
            first = self.published[0]
            dataset, value = next(iter(first["values"].items()))
            parts.append(f"{dataset} {value} ({first['first_stage']})")
        return ", ".join([*parts, *filter(None, [self.licence])])

    def options(self, model: str | None, known: Collection[str]) -> dict[str, Any]:
        """What the card says for a backend whose options are `known`. An adapter is loaded over its base where the
        backend loads adapters; a server has both under the adapter's name."""
        options = {name: value for name, value in self.model.items() if name in known}
        return options | ({"model": self.base, "adapter": model} if self.base and "adapter" in known else {})


@cache
def shipped_cards() -> dict[str, Card]:
    """All cards in the package by model name."""
    return read_entries(_FOLDER, _card, _TWICE)


def find_card(model: str | None, card: str | None = None) -> Card:
    """The card of `model`: the file or the shipped card named `card`, else `cribble.yaml` in the model's folder, else
    the shipped card of that name, else an empty one."""
    if card is not None:
        if card in shipped_cards():
            return shipped_cards()[card]
        if Path(card).is_file():
            return _card(model or card, read_mapping(Path(card)), Path(card))
        raise UsageError(f"card {card!r} is neither a file nor a shipped card: {suggest(card, shipped_cards())}")
    own = Path(model) / "cribble.yaml" if model else None
    if own is not None and own.is_file():
        content = read_mapping(own)
        content.pop("encoder", None)  # what the model is as an encoder: models/cards.py
        return _card(str(model), content, own)
    return shipped_cards().get(model or "", Card(model or ""))


def card_rows() -> list[tuple[str, str]]:
    """(model, one line about it) of every shipped card, by name."""
    return [(name, card.summary) for name, card in sorted(shipped_cards().items())]


def _card(name: str, content: Any, path: Path) -> Card:
    where = f"{path}: the card of {name}"
    check_card(where, content, {name: kind for name, kind in get_type_hints(Card).items() if name != "name"})
    values: dict[str, Any] = dict(content)
    values["published"] = published_numbers(where, content.get("published"), _PUBLISHED)
    for part in ("judge", "strategy"):
        if values.get(part) and "use" not in values[part]:
            raise InputError(f"{where}: {part} does not say which one (use: NAME)")
    values["judge"] = _beside(values.get("judge", {}), path)
    return Card(name, **values)


def _beside(judge: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The judge's spec, its template's file looked up beside the card."""
    template = judge.get("template")
    file = path.parent / template if isinstance(template, str) and template.endswith((".yaml", ".yml")) else None
    return {**judge, "template": str(file)} if file is not None and file.is_file() else judge
