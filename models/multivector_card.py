"""Model cards of late-interaction checkpoints, as data: what their own files do not say, and what is known of them.

Shipped cards are `models/multivector_cards/*.yaml`, by model name; a user's own is the section `multivector` of `cribble.yaml`
in the model's folder, or a file that the option `card` names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from ..errors import InputError, UsageError
from ..yaml_files import check_card, published_numbers
from .card_files import CardFiles
from .multivector_settings import MultiVectorSettings

_OWN = ("reasons", "files_say", "dim", "pages", "remote_code", "licence", "published", "notes")


@dataclass(frozen=True)
class MultiVectorCard:
    """One late-interaction checkpoint.

    Its `settings` hold where the user gives none, before what the checkpoint's files say; each has its reason in `reasons`.
    `dim` is the width of the vectors: a checkpoint that gives others is refused, as its projection was not loaded.
    The rest informs only: `files_say` are settings that the files hold themselves, `pages` that documents are page images,
    `remote_code` that it needs trust_remote_code, `published` numbers with setting, measure, values by data set, source.
    """

    name: str = ""
    settings: MultiVectorSettings = field(default_factory=MultiVectorSettings)
    reasons: Mapping[str, str] = field(default_factory=dict)
    files_say: Mapping[str, Any] = field(default_factory=dict)
    dim: int | None = None
    pages: bool = False
    remote_code: bool = False
    licence: str = ""
    published: Sequence[Mapping[str, Any]] = ()
    notes: str = ""

    @property
    def summary(self) -> str:
        """One line: width, lengths, expansion, its first published number, its licence."""
        says = {**self.files_say, **self.settings.named()}
        parts = ["late interaction of page images" if self.pages else "late interaction"]
        parts += [f"{self.dim} dimensions"] if self.dim else []
        sides = (("queries", "query_length"), ("documents", "document_length"))
        lengths = [f"{what} of {says[name]} tokens" for what, name in sides if name in says]
        parts += [" and ".join(lengths)] if lengths else []
        parts += [f"expansion {says['expansion']}"] if "expansion" in says else []
        parts += ["needs trust_remote_code"] if self.remote_code else []
        if self.published:
            first = self.published[0]
            dataset, value = next(iter(first["values"].items()))
            parts.append(f"{dataset} {first['measure']} {value}")
        return ", ".join([*parts, *filter(None, [self.licence])])

    def refuse_other_width(self, dim: int) -> None:
        """Raise `InputError` where a loaded checkpoint's vectors have another width than the card says."""
        if self.dim is not None and dim != self.dim:
            raise InputError(
                f"the model {self.name} gives vectors of {dim} dimensions, its card says {self.dim}: its projection was not "
                "loaded as it was trained; name a checkpoint that is whole, or card=none to run it as it is"
            )


def find_card(name: str, folder: Path | None = None, card: str | None = None) -> MultiVectorCard:
    """The card of the model `name` (`CardFiles.find`), else an empty one."""
    return CARDS.find(name, folder, card) or MultiVectorCard(name)


def _card(name: str, content: Any, path: Path) -> MultiVectorCard:
    where = f"{path}: the card of {name}"
    settings = get_type_hints(MultiVectorSettings)
    own = {name: kind for name, kind in get_type_hints(MultiVectorCard).items() if name in _OWN}
    check_card(where, content, settings | own)
    values: dict[str, Any] = {key: value for key, value in content.items() if key in own}
    values["published"] = published_numbers(where, content.get("published"), ("setting", "measure", "values", "source"))
    check_card(f"{where}: files_say", content.get("files_say", {}), settings)
    set_here = {key: value for key, value in content.items() if key in settings}
    if missing := set_here.keys() ^ content.get("reasons", {}).keys():
        raise InputError(
            f"{where}: {min(missing)} needs both a value and a reason, why the checkpoint's files are not enough"
        )
    try:
        MultiVectorSettings(**content.get("files_say", {}))
        chosen = MultiVectorSettings(**set_here)
    except UsageError as error:
        raise InputError(f"{where}: {error}") from error
    return MultiVectorCard(name, chosen, **values)


#: All cards of this kind.
CARDS = CardFiles(Path(__file__).parent / "multivector_cards", "multivector", _card)
