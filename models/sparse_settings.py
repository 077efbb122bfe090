"""How a learned sparse encoder is run, and its model card: pooling, lengths, pruning, whole-number weights, its query side.

Shipped cards are `models/sparse_cards/*.yaml`, by model name; a user's own is the section `sparse` of `cribble.yaml` in the
model's folder, or a file that the option `card` names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from ..errors import InputError, UsageError, suggest
from ..registry import check_type
from ..yaml_files import check_card, published_numbers
from .card_files import CardFiles

#: Names of rules that make whole numbers of weights: naver's export rounds 100 · w, pyserini w / 5 · 256.
RULES = ("none", "card", "naver", "pyserini")
_CHOICES = {"pooling": ("max", "sum"), "activation": ("relu", "log1p_relu")}
_COUNTS = {"max_length": "token", "query_max_length": "token", "document_terms": "term", "query_terms": "term"}


@dataclass(frozen=True)
class SparseSettings:
    """What of a checkpoint is set; None leaves it as its files say.

    `query_prompt` and `document_prompt` stand before every text. `max_length` tokens of a document are read and
    `query_max_length` of a query (by default as many). `pooling` over a text's tokens is max or sum, `activation` relu
    (one logarithm) or log1p_relu (two). A document keeps its `document_terms` largest weights and none below
    `least_weight`, a query its `query_terms` largest. `quantise` makes whole numbers of both sides' weights, rounded half
    to even: a factor, or `naver` (100 · w), `pyserini` (w / 5 · 256), `card` (what the model's card says) or `none`.
    `query_model` encodes the queries.
    """

    query_prompt: str | None = None
    document_prompt: str | None = None
    max_length: int | None = None
    query_max_length: int | None = None
    pooling: str | None = None
    activation: str | None = None
    quantise: str | float | None = None
    document_terms: int | None = None
    query_terms: int | None = None
    least_weight: float | None = None
    query_model: str | None = None

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in known:
                raise UsageError(f"{name} {value!r} is unknown: {suggest(str(value), known)}")
        for name, unit in _COUNTS.items():
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name}={value}: expected at least 1 {unit}")
        if self.least_weight is not None and not 0 < self.least_weight < np.inf:
            raise UsageError(f"least_weight={self.least_weight}: expected a number above 0")
        if isinstance(self.quantise, str) and self.quantise not in RULES:
            raise UsageError(f"quantise {self.quantise!r} is unknown: a factor, or {suggest(self.quantise, RULES)}")
        if isinstance(self.quantise, int | float) and not 0 < self.quantise < np.inf:
            raise UsageError(f"quantise={self.quantise}: expected a factor above 0")

    def named(self) -> dict[str, Any]:
        """Those that are set, by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def quantised(weights: np.ndarray, rule: str | float | None) -> np.ndarray:
    """Weights (n,) as the whole numbers (float32) that `rule` makes of them, 0 where they vanish; halves go to even numbers.

    The arithmetic is that of the code that each rule is named after: float32 in naver/splade (create_anserini.py), float64
    in pyserini (encode/_splade.py).
    """
    if rule is None or rule == "none":
        return weights
    if rule == "pyserini":
        return np.rint(weights.astype(np.float64) / 5 * 256).astype(np.float32)
    factor = 100.0 if rule == "naver" else float(rule)
    return np.rint(weights.astype(np.float32) * np.float32(factor))


def given_settings(options: Mapping[str, Any]) -> SparseSettings:
    """The settings that a user gives by name; another name or a value of a wrong type raises `UsageError`."""
    kinds = get_type_hints(SparseSettings)
    for name, value in options.items():
        if name not in kinds:
            raise UsageError(f"the sparse encoder has no option {name!r}: {suggest(name, kinds)}")
        check_type(f"sparse encoder: {name}", value, kinds[name])
    return SparseSettings(**options)


@dataclass(frozen=True)
class SparseCard:
    """What is known of a model. Its `settings` hold where the user gives none, lengths also before the checkpoint's own; but
    `quantise` is only looked at where whole numbers are asked for.

    `remote_code` says that it needs trust_remote_code. `published` lists numbers: setting, measure, values by data set,
    source.
    """

    name: str = ""
    settings: SparseSettings = field(default_factory=SparseSettings)
    remote_code: bool = False
    licence: str = ""
    published: Sequence[Mapping[str, Any]] = ()
    notes: str = ""

    @property
    def summary(self) -> str:
        """One line: lengths, the query side, its first published number, its licence."""
        parts = ["sparse encoder"]
        parts += [f"{self.settings.max_length} tokens"] if self.settings.max_length else []
        parts += [f"queries by {self.settings.query_model}"] if self.settings.query_model else []
        parts += [f"quantise {self.settings.quantise}"] if self.settings.quantise else []
        if self.published:
            first = self.published[0]
            dataset, value = next(iter(first["values"].items()))
            parts.append(f"{dataset} {first['measure']} {value}")
        return ", ".join([*parts, *filter(None, [self.licence])])


def settle(given: SparseSettings, card: SparseCard) -> SparseSettings:
    """What is to be set: the user's word, else the card's."""
    chosen = card.settings.named() | given.named()
    chosen.pop("quantise", None)
    if given.quantise not in (None, "none"):
        chosen["quantise"] = card.settings.quantise if given.quantise == "card" else given.quantise
        if chosen["quantise"] is None:
            raise UsageError(
                f"quantise=card: no card of {card.name} has a rule: name one of naver, pyserini, or a factor"
            )
    return SparseSettings(**chosen)


def find_card(name: str, folder: Path | None = None, card: str | None = None) -> SparseCard:
    """The card of the model `name` (`CardFiles.find`), else an empty one."""
    return CARDS.find(name, folder, card) or SparseCard(name)


def _card(name: str, content: Any, path: Path) -> SparseCard:
    where = f"{path}: the card of {name}"
    settings = get_type_hints(SparseSettings)
    own = {name: kind for name, kind in get_type_hints(SparseCard).items() if name not in ("name", "settings")}
    check_card(where, content, settings | own)
    values: dict[str, Any] = {key: value for key, value in content.items() if key in own}
    values["published"] = published_numbers(where, content.get("published"), ("setting", "measure", "values", "source"))
    try:
        chosen = SparseSettings(**{key: value for key, value in content.items() if key in settings})
    except UsageError as error:
        raise InputError(f"{where}: {error}") from error
    return SparseCard(name, chosen, **values)


#: All cards of this kind.
CARDS = CardFiles(Path(__file__).parent / "sparse_cards", "sparse", _card)
