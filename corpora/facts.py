"""What is known about the sets of BEIR, as data: `beir_sets.json` beside this file, with its sources."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from .dataset import DEFAULT_MEASURES


@dataclass(frozen=True)
class SetFacts:
    """One BEIR set. `drop_self`: hits with the query's own id do not count, by the policy that `beir_sets.json` explains;
    `parts`: sub-collections and their number of documents; `private`: where a set without a download is to be asked for.
    """

    description: str = ""
    documents: int | None = None
    splits: tuple[str, ...] = ()
    default_split: str = "test"
    drop_self: bool = False
    parts: dict[str, int] = field(default_factory=dict)
    measures: str = DEFAULT_MEASURES
    note: str = ""
    md5: str = ""
    bytes: int = 0
    private: str = ""


@cache
def beir_sets() -> dict[str, SetFacts]:
    """Facts by the set's official name, in BEIR's order."""
    table = json.loads((Path(__file__).parent / "beir_sets.json").read_text(encoding="utf-8"))["sets"]
    return {name: SetFacts(**(row | {"splits": tuple(row["splits"])})) for name, row in table.items()}


def facts_of(name: str) -> SetFacts:
    """Facts of a folder or set by its name; a name that is not BEIR's has the defaults."""
    return beir_sets().get(name.lower(), SetFacts())
