"""The options of `cribble judge`, `agreement` and `summhay`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..envelope import Envelope
from ..errors import UsageError
from .common import Json, commands, settings

app = commands()


@app.command()
def judge(
    dataset: Annotated[str, typer.Option(help="Dataset whose queries and documents are judged.")],
    out: Annotated[Path, typer.Option(help="Judgements to write (TREC's columns): .txt or .qrels.")],
    runs: Annotated[list[Path] | None, typer.Argument(help="Runs whose best documents are judged.")] = None,
    depth: Annotated[int | None, typer.Option(help="Documents a query and run to judge; 10 by default.")] = None,
    fill: Annotated[bool, typer.Option("--fill", help="Only documents without a judgement; keep the others.")] = False,
    qrels: Annotated[Path | None, typer.Option(help="With --fill: judgements instead of the dataset's.")] = None,
    pairs: Annotated[Path | None, typer.Option(help="Judgements whose pairs are judged, instead of runs.")] = None,
    agreement: Annotated[Path | None, typer.Option(help="Human judgements to compare the labels with.")] = None,
    measures: Annotated[str | None, typer.Option(help="For the runs' scores and rankings.")] = None,
    grader: Annotated[str, typer.Option(help="umbrela or widedeep; `cribble list graders`.")] = "umbrela",
    model: Annotated[str | None, typer.Option(help="Folder, Hub name, or the server's name of it.")] = None,
    backend: Annotated[str, typer.Option(help="hf, vllm, openai or fake.")] = "hf",
    ledger: Annotated[str, typer.Option(help="File that keeps every answer; auto, or off.")] = "auto",
    max_failure_rate: Annotated[float, typer.Option(help="Share of pairs without a label that is an error.")] = 1.0,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Of the grader (samples=3) or backend (backend.url=…); repeat."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count pairs, calls and tokens; ask nothing.")] = False,
    json: Json = False,
) -> None:
    """Let a language model judge relevance from 0 to 3, fill the holes of human judgements, say how far it agrees."""
    from ..commands.judging import Wanted
    from ..commands.judging import judge as judged

    options = settings(set_)
    given = options.pop("backend", {})
    spec = {"use": backend} | (given if isinstance(given, dict) else {"use": given})
    with Envelope("judge", json) as envelope:
        envelope.show(
            judged(
                dataset,
                out,
                Wanted(runs or [], depth, pairs, fill, qrels),
                grader=grader,
                options=options,
                backend=spec,
                model=model,
                ledger=ledger,
                max_failure_rate=max_failure_rate,
                agreement_with=agreement,
                measures=measures,
                dry_run=dry_run,
            )
        )


@app.command()
def agreement(
    labels: Annotated[Path, typer.Argument(help="Judgements, such as a machine's.")],
    human: Annotated[Path, typer.Argument(help="Other judgements of the same pairs.")],
    runs: Annotated[list[Path] | None, typer.Argument(help="Runs that both rank.")] = None,
    measures: Annotated[str, typer.Option(help="By which the runs are ranked.")] = "nDCG@10",
    scale: Annotated[str | None, typer.Option(help="Such as 0:3; labels outside count as its ends.")] = None,
    json: Json = False,
) -> None:
    """Say how far two files of judgements agree: Cohen's κ, Krippendorff's α; and the rankings of runs: τ, τ_AP, RBO."""
    from ..commands.judging import compare_labels

    with Envelope("agreement", json) as envelope:
        envelope.show(compare_labels(labels, human, runs or [], measures, _scale(scale)))


@app.command()
def summhay(
    haystacks: Annotated[list[Path], typer.Argument(help="Haystacks with judged summaries (SummHay's JSON).")],
    key: Annotated[str | None, typer.Option(help="Only this summary, such as summary_subtopic_vector_gpt-4o.")] = None,
    json: Json = False,
) -> None:
    """Score judged summaries of haystacks: coverage of insights, citations of their sources, and both together."""
    from ..commands.summhay import score_files

    with Envelope("summhay", json) as envelope:
        envelope.show(score_files(haystacks, key))


def _scale(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        lowest, highest = map(int, text.split(":"))
    except ValueError as error:
        raise UsageError(f"--scale {text!r}: expected the lowest and the highest label, such as 0:3") from error
    return lowest, highest
