"""The options of `cribble expand`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..envelope import Envelope
from .common import Json, commands

app = commands()


@app.command()
def expand(
    dataset: Annotated[str, typer.Argument(help="Dataset whose documents are expanded.")],
    model: Annotated[
        str, typer.Option(help="T5 that writes queries: castorini/doc2query-t5-base-msmarco, or a folder.")
    ],
    out: Annotated[Path, typer.Option(help="BEIR folder to write.")],
    queries: Annotated[int, typer.Option(help="Queries a document.")] = 40,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 42,
    top_k: Annotated[int, typer.Option(help="Likeliest tokens that each is drawn from.")] = 10,
    max_length: Annotated[int, typer.Option(help="Tokens of a document that are read.")] = 512,
    max_tokens: Annotated[int, typer.Option(help="Tokens of a query at most.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    overwrite: Annotated[bool, typer.Option(help="Replace what is there.")] = False,
    json: Json = False,
) -> None:
    """Append generated queries to documents (doc2query). A killed run goes on where it stopped when run again."""
    from ..commands.expansion import expand_dataset

    options = {
        "queries": queries,
        "seed": seed,
        "top_k": top_k,
        "max_length": max_length,
        "max_tokens": max_tokens,
        "device": device,
        "dtype": dtype,
    }
    with Envelope("expand", json) as envelope:
        envelope.show(expand_dataset(dataset, out, model, options, overwrite=overwrite))
