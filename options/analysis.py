"""The options of `cribble importance` and `terms`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..envelope import Envelope
from .common import Json, commands, settings

app = commands()


@app.command()
def importance(
    file: Annotated[Path, typer.Argument(help="A run; or RAG answers (.jsonl: query, retrieved, answers, correct).")],
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
    drop: Annotated[Path | None, typer.Option(help="File for the ids to drop, for `cribble delete --from`.")] = None,
    pruned: Annotated[Path | None, typer.Option(help="File for the run without them.")] = None,
    reweighted: Annotated[Path | None, typer.Option(help="File for the run with scores times weights.")] = None,
    top: Annotated[int, typer.Option(help="Sources to show of either end.")] = 10,
    json: Json = False,
) -> None:
    """Learn what each document or source of a corpus is worth, and what the corpus is worth without the worst."""
    from ..commands.importance import Files, Learning, importance_of

    learning = Learning(k, sources, epochs, learning_rate, epsilon, holdout, seed)
    files = Files(out, drop, pruned, reweighted)
    with Envelope("importance", json) as envelope:
        envelope.show(importance_of(file, dataset, qrels, learning, files, gain=gain, depth=depth, top=top))


@app.command()
def terms(
    dataset: Annotated[str, typer.Argument(help="Dataset whose documents' terms are wanted.")],
    out: Annotated[Path, typer.Option(help="Table to write: term, score, base, importance, counts.")],
    base: Annotated[
        str, typer.Option(help="First score: c-value, tf-idf, ridf, basic, combo-basic or frequency.")
    ] = "c-value",
    seeds: Annotated[Path | None, typer.Option(help="File of terms of the subject, one a line.")] = None,
    top_seeds: Annotated[int, typer.Option(help="Without seeds: the best terms by the first score instead.")] = 100,
    model: Annotated[str | None, typer.Option(help="Encoder of the words; the embedded MiniLM by default.")] = None,
    max_words: Annotated[int, typer.Option(help="Words of a term, at most.")] = 4,
    min_frequency: Annotated[int, typer.Option(help="Occurrences of a term, at least.")] = 2,
    documents: Annotated[int | None, typer.Option(help="Only so many of the first documents.")] = None,
    known: Annotated[Path | None, typer.Option(help="File of true terms: precision before and after.")] = None,
    top: Annotated[int, typer.Option(help="Terms to show.")] = 20,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="similarity, share or damping of the graphs, or the encoder's; repeat."),
    ] = None,
    json: Json = False,
) -> None:
    """Extract a corpus' terms; revise their scores by how central their words are (SemRe-Rank)."""
    from ..commands.terms import Extraction, extract_terms

    extraction = Extraction(base, max_words, min_frequency, documents)
    with Envelope("terms", json) as envelope:
        envelope.show(
            extract_terms(
                dataset,
                out,
                extraction,
                seeds=seeds,
                top_seeds=top_seeds,
                model=model,
                known=known,
                top=top,
                options=settings(set_),
            )
        )
