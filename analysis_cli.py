"""The options of `cribble importance`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .envelope import Envelope

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]


def add_commands(app: typer.Typer) -> None:
    """Put the commands on `app`."""

    @app.command()
    def importance(
        file: Annotated[
            Path, typer.Argument(help="A run; or RAG answers (.jsonl: query, retrieved, answers, correct).")
        ],
        out: Annotated[Path, typer.Option(help="Table to write: item, source, weight, importance, kept.")],
        dataset: Annotated[
            str | None, typer.Option(help="Dataset whose judgements say what a run's hits are worth.")
        ] = None,
        qrels: Annotated[Path | None, typer.Option(help="Judgements instead of a dataset.")] = None,
        k: Annotated[int, typer.Option(help="Retrieved items that count.")] = 10,
        depth: Annotated[int, typer.Option(help="Documents of a run to look at.")] = 100,
        gain: Annotated[str, typer.Option(help="Of a judged hit: binary or label.")] = "binary",
        sources: Annotated[
            str | None, typer.Option(help="Weights by source: domain, before:SEP, or a file of item, tab, source.")
        ] = None,
        epochs: Annotated[int, typer.Option(help="Steps of gradient ascent.")] = 100,
        learning_rate: Annotated[float, typer.Option(help="Its step.")] = 10.0,
        epsilon: Annotated[float, typer.Option(help="Above 0: look no deeper than this probability is worth.")] = 0.0,
        holdout: Annotated[float, typer.Option(help="Share of queries kept for the report.")] = 0.5,
        seed: Annotated[int, typer.Option(help="Seed of that draw.")] = 42,
        drop: Annotated[
            Path | None, typer.Option(help="File for the ids to drop, for `cribble delete --from`.")
        ] = None,
        pruned: Annotated[Path | None, typer.Option(help="File for the run without them.")] = None,
        reweighted: Annotated[Path | None, typer.Option(help="File for the run with scores times weights.")] = None,
        top: Annotated[int, typer.Option(help="Sources to show of either end.")] = 10,
        json: Json = False,
    ) -> None:
        """Learn what each document or source of a corpus is worth, and what the corpus is worth without the worst."""
        from .commands.importance import Files, Learning, importance_of

        learning = Learning(k, sources, epochs, learning_rate, epsilon, holdout, seed)
        files = Files(out, drop, pruned, reweighted)
        with Envelope("importance", json) as envelope:
            envelope.show(importance_of(file, dataset, qrels, learning, files, gain=gain, depth=depth, top=top))
