"""The options of `cribble fit`, `tune` and `depth`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..envelope import Envelope
from .common import DatasetOption, Json, Set, commands, settings

app = commands()


@app.command()
def fit(
    what: Annotated[str, typer.Argument(help="cosine-adapter: a calibrated cut of a dense retriever's results.")],
    index: Annotated[Path, typer.Argument(help="Folder of a dense index.")],
    dataset: DatasetOption,
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    set_: Set = None,
    overwrite: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
    json: Json = False,
) -> None:
    """Learn from a dataset's judgements, and say by cross-validation what it is worth."""
    from ..commands.dense import fit as fitted

    with Envelope("fit", json) as envelope:
        envelope.show(fitted(what, index, dataset, out, settings(set_), overwrite=overwrite))


@app.command()
def tune(
    index: Annotated[Path, typer.Argument(help="Folder of an approximate dense index.")],
    dataset: DatasetOption,
    recall: Annotated[float, typer.Option(help="Share of the exact search's answer that must be found.")] = 0.95,
    k: Annotated[int, typer.Option(help="Documents a query of which that share is counted.")] = 10,
    queries: Annotated[int, typer.Option(help="Queries to measure with; drawn where the dataset has more.")] = 300,
    seed: Annotated[int, typer.Option(help="Seed of that draw.")] = 42,
    json: Json = False,
) -> None:
    """Measure recall and latency of an approximate index's settings; name the cheapest that finds enough."""
    from ..commands.dense import tune_index

    with Envelope("tune", json) as envelope:
        envelope.show(tune_index(index, dataset, recall=recall, k=k, queries=queries, seed=seed))


@app.command()
def depth(
    index: Annotated[Path, typer.Argument(help="Folder of a dense index.")],
    against: Annotated[
        Path | None, typer.Option(help="Another index: do its documents lie as deep in the first?")
    ] = None,
    distance: Annotated[str, typer.Option(help="cosine, exact at any size, or chord.")] = "cosine",
    sample: Annotated[int, typer.Option(help="With chord: documents to compare with where there are more.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Seed of that sample.")] = 42,
    top: Annotated[int, typer.Option(help="Documents to show of either end.")] = 10,
    out: Annotated[Path | None, typer.Option(help="File for the depths of all documents (tab-separated).")] = None,
    json: Json = False,
) -> None:
    """Show a corpus' most central and most outlying documents; compare two corpora by a rank sum test."""
    from ..commands.dense import depth_of

    with Envelope("depth", json) as envelope:
        envelope.show(depth_of(index, against, distance=distance, sample=sample, seed=seed, top=top, out=out))
