"""The options of `cribble add`, `delete` and `compact`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..envelope import Envelope
from .common import DryRun, Json, commands, settings

Index = Annotated[Path, typer.Argument(help="Folder of an index.")]


app = commands()


@app.command()
def add(
    index: Index,
    dataset: Annotated[str, typer.Argument(help="Dataset whose documents are added.")],
    replace: Annotated[bool, typer.Option("--replace", help="Replace documents that have the same ids.")] = False,
    model: Annotated[str | None, typer.Option(help="The recorded encoder, where it lies elsewhere now.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Such as device=cuda; repeat.")] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Add a dataset's documents to an index. A killed addition goes on where it stopped when run again."""
    from ..commands.changes import add_dataset

    options = settings(set_) | ({"model": model} if model is not None else {})
    with Envelope("add", json) as envelope:
        envelope.show(add_dataset(index, dataset, options, replace=replace, dry_run=dry_run))


@app.command()
def delete(
    index: Index,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids of documents; after -- where one begins with -.")] = None,
    from_: Annotated[Path | None, typer.Option("--from", help="File of ids, one a line.")] = None,
    ignore_unknown: Annotated[bool, typer.Option("--ignore-unknown", help="Count unknown ids, don't fail.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Delete documents from an index by id. `cribble compact` gives their room on the disk back."""
    from ..commands.changes import delete_ids

    with Envelope("delete", json) as envelope:
        envelope.show(delete_ids(index, ids or [], from_, ignore_unknown=ignore_unknown, dry_run=dry_run))


@app.command()
def compact(index: Index, dry_run: DryRun = False, json: Json = False) -> None:
    """Rewrite an index without its deleted documents, and join small shards. Nothing is encoded."""
    from ..commands import changes

    with Envelope("compact", json) as envelope:
        envelope.show(changes.compact(index, dry_run=dry_run))
