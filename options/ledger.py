"""The options of `cribble ledger`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..envelope import Envelope
from .common import DryRun, Json, commands

app = commands("The judgements that language models were asked for and paid for.")
LedgerPath = Annotated[Path | None, typer.Option("--path", help="The ledger's file; the cache folder's by default.")]


@app.command("show")
def ledger_show(
    path: LedgerPath = None,
    model: Annotated[str | None, typer.Option(help="Only this model's.")] = None,
    json: Json = False,
) -> None:
    """How many judgements there are of each model and kind, what they cost, and from when they are."""
    from ..commands.ledger import show_ledger

    with Envelope("ledger show", json) as envelope:
        envelope.show(show_ledger(path, model))


@app.command("export")
def ledger_export(
    out: Annotated[Path, typer.Argument(help="File to write: .jsonl or .jsonl.gz.")],
    path: LedgerPath = None,
    model: Annotated[str | None, typer.Option(help="Only this model's.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind, such as LabelCall.")] = None,
    query: Annotated[str | None, typer.Option(help="Only those that this query id asked for first.")] = None,
    json: Json = False,
) -> None:
    """Write judgements as JSON Lines, in the order in which they were made."""
    from ..commands.ledger import export_ledger

    with Envelope("ledger export", json) as envelope:
        envelope.show(export_ledger(out, path, model=model, kind=kind, query=query))


@app.command("prune")
def ledger_prune(
    path: LedgerPath = None,
    older_than: Annotated[str | None, typer.Option(help="Such as 12h, 30d or 4w; 0d means all.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model's.")] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Delete judgements that are old, or of one model; they would be asked for again."""
    from ..commands.ledger import prune_ledger

    with Envelope("ledger prune", json) as envelope:
        envelope.show(prune_ledger(path, older_than=older_than, model=model, dry_run=dry_run))
