"""Where model cards of one kind stand: those that are shipped, and a user's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from ..errors import UsageError, suggest
from ..yaml_files import read_entries, read_mapping

#: What `card` says for a checkpoint as its own files have it.
NO_CARD = "none"


class Summarised(Protocol):
    """A card says in one line what it is of."""

    @property
    def summary(self) -> str: ...


Card = TypeVar("Card", bound=Summarised)


@dataclass(frozen=True)
class CardFiles(Generic[Card]):
    """The cards of one kind of model: shipped ones are the YAML files in `folder`, by model name; a user's own is the `section`
    of `cribble.yaml` in the model's folder, or of a file. `read` makes a card of a name, an entry and its file.
    """

    folder: Path
    section: str
    read: Callable[[str, Any, Path], Card]

    @cached_property
    def shipped(self) -> dict[str, Card]:
        """All cards in the package by model name."""
        return read_entries(self.folder, self.read, "the model {} has a card in another file: keep one")

    def find(self, name: str, folder: Path | None = None, card: str | None = None) -> Card | None:
        """The card of the model `name`: the file or the shipped card that `card` names ("none": none), else the user's in the
        model's `folder`, else the shipped one of its name, else None."""
        if card == NO_CARD:
            return None
        if card is not None:
            if card in self.shipped:
                return self.shipped[card]
            if Path(card).is_file():
                return self._own(name, Path(card))
            known = [NO_CARD, *self.shipped]
            raise UsageError(f"card {card!r} is neither a file nor a shipped card: {suggest(card, known)}")
        file = folder / "cribble.yaml" if folder else None
        own = self._own(name, file) if file is not None and file.is_file() else None
        return own or self.shipped.get(name)

    def rows(self) -> list[tuple[str, str]]:
        """(model, one line about it) of every shipped card, by name."""
        return [(name, card.summary) for name, card in sorted(self.shipped.items())]

    def _own(self, name: str, path: Path) -> Card | None:
        content = read_mapping(path)
        return self.read(name, content[self.section], path) if self.section in content else None
