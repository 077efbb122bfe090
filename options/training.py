"""The options of `cribble train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..envelope import Envelope
from .common import DryRun, Json, Set, commands, settings

app = commands("Make models of what you have.")


@app.callback()
def _group() -> None:
    """Keeps the recipe's name a word of the command line while there is one recipe only."""


@app.command()
def bebr(
    vectors: Annotated[Path, typer.Option(help="Folder of a dense index: its stored vectors are trained on.")],
    out: Annotated[Path, typer.Option(help="Folder of the binariser to write.")],
    queries: Annotated[
        str | None, typer.Option(help="A dataset whose queries (their texts only) are trained on too.")
    ] = None,
    set_: Set = None,
    overwrite: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Train packed codes of several bits a coordinate (BEBR). A killed training goes on when run again."""
    from ..commands.training import train_bebr_model

    with Envelope("train bebr", json) as envelope:
        envelope.show(
            train_bebr_model(vectors, out, settings(set_), queries=queries, overwrite=overwrite, dry_run=dry_run)
        )
