"""The options of `cribble train`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from .envelope import Envelope

Read = Callable[[list[str] | None], dict[str, Any]]

Set = Annotated[list[str] | None, typer.Option("--set", help="An option of the training, as key=value; repeat.")]


def add_training(app: typer.Typer, read: Read) -> None:
    """Register the group `train`; `read` makes options of `key=value` pairs."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make models of what you have.")
    app.add_typer(group, name="train")

    @group.callback()
    def _group() -> None:
        """Keeps the recipe's name a word of the command line while there is one recipe only."""

    @group.command()
    def bebr(
        vectors: Annotated[Path, typer.Option(help="Folder of a dense index: its stored vectors are trained on.")],
        out: Annotated[Path, typer.Option(help="Folder of the binariser to write.")],
        queries: Annotated[
            str | None, typer.Option(help="A dataset whose queries (their texts only) are trained on too.")
        ] = None,
        set_: Set = None,
        overwrite: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, do nothing.")] = False,
        json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")] = False,
    ) -> None:
        """Train packed codes of several bits a coordinate (BEBR). A killed training goes on when run again."""
        from .commands.training import train_bebr_model

        with Envelope("train bebr", json) as envelope:
            envelope.show(
                train_bebr_model(vectors, out, read(set_), queries=queries, overwrite=overwrite, dry_run=dry_run)
            )
