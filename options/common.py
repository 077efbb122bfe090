"""What commands have in common: `--set`, `--json`, `--dry-run`, and how their values are read."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..errors import UsageError

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, estimate the work, do nothing.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="An option of the stage or index, as key=value; repeat.")]
DatasetOption = Annotated[str, typer.Option(help="Dataset, such as beir:FOLDER, ir_datasets:ID, sample:stdlib.")]


def commands(help: str | None = None) -> typer.Typer:
    """An empty group of commands, of the main program or with `help` of their own."""
    return typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=help)


def settings(pairs: list[str] | None) -> dict[str, Any]:
    """`key=value` pairs, values read as YAML; `part.key=value` sets an option of a part: backend.dtype=bfloat16."""
    import yaml

    found: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        *parts, name = key.replace("-", "_").split(".")
        if not equals or not name or not all(parts):
            raise UsageError(f"--set {pair!r}: expected key=value")
        place = found
        for part in parts:
            if not isinstance(place.setdefault(part, {}), dict):
                place[part] = {"use": place[part]}
            place = place[part]
        try:
            place[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {pair!r}: the value is no YAML") from error
    return found
