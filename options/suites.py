"""The options of `cribble leaderboard` and `cribble export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..envelope import Envelope
from .common import Json, commands

Results = Annotated[Path, typer.Argument(help="Folder with results, such as that of `cribble run`; searched through.")]


app = commands()


@app.command()
def leaderboard(
    folder: Results,
    out: Annotated[
        Path | None,
        typer.Option(help="File to write: .md, .html or .json; FOLDER/leaderboard.md and .html by default."),
    ] = None,
    measure: Annotated[str | None, typer.Option(help="nDCG@10 by default, or what all results have.")] = None,
    baseline: Annotated[str | None, typer.Option(help="System to test the others against.")] = None,
    title: Annotated[str, typer.Option(help="The page's heading.")] = "Leaderboard",
    published: Annotated[bool, typer.Option(help="Also rows of published numbers on the same sets.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of the randomisation tests.")] = 42,
    json: Json = False,
) -> None:
    """Show systems by data sets: scores, corrected tests, radar charts, scores against costs, published numbers."""
    from ..commands.suites import show_leaderboard

    with Envelope("leaderboard", json) as envelope:
        envelope.show(
            show_leaderboard(
                folder, out, measure=measure, baseline=baseline, title=title, published=published, seed=seed
            )
        )


@app.command()
def export(
    folder: Results,
    form: Annotated[str, typer.Option(help="trec (as Pyserini writes it), beir, bright or mteb.")],
    out: Annotated[Path, typer.Option(help="Folder to write into.")],
    system: Annotated[str | None, typer.Option(help="Only this system's.")] = None,
    model: Annotated[str | None, typer.Option(help="For mteb: organisation/name.")] = None,
    task: Annotated[
        str | None, typer.Option(help="For mteb: its task, where the data set's name does not say.")
    ] = None,
    header: Annotated[bool, typer.Option("--header", help="For trec: an ir_metadata header before the run.")] = False,
    json: Json = False,
) -> None:
    """Write results and runs as other tools and leaderboards take them."""
    from ..commands.suites import export_results

    with Envelope("export", json) as envelope:
        envelope.show(export_results(folder, form, out, system=system, model=model, task=task, header=header))
