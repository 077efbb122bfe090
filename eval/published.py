"""Published reference numbers as data: `published_numbers/*.yaml`, each with its source and setting."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..yaml_files import check_card, read_entries
from .results_store import Result

_FOLDER = Path(__file__).parent / "published_numbers"
_KEYS: dict[str, Any] = {"suite": str, "source": str, "setting": str, "values": dict[str, Any]}


@cache
def published_results() -> tuple[Result, ...]:
    """One result per published system and data set, named `SUITE/SET`; a published average stands under its label."""
    entries = read_entries(_FOLDER, _results, "the published system {!r} is there twice")
    return tuple(result for results in entries.values() for result in results)


def _results(name: str, content: Any, path: Path) -> list[Result]:
    where = f"{path.name}: {name}"
    check_card(where, content, _KEYS)
    if missing := [key for key in _KEYS if not content.get(key)]:
        raise InputError(f"{where}: the key {missing[0]!r} is missing")
    means: dict[str, dict[str, float]] = {}
    for measure, row in content["values"].items():
        for dataset, value in row.items():
            if not isinstance(value, float | int) or not 0 <= value <= 1:
                raise InputError(f"{where}: {measure} on {dataset} is {value!r}, expected a number from 0 to 1")
            means.setdefault(dataset, {})[measure] = float(value)
    suite = content["suite"]
    return [
        Result(name, f"{suite}/{dataset}", row, suite=suite, source=content["source"], setting=content["setting"])
        for dataset, row in means.items()
    ]
