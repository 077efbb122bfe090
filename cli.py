"""The command line: each command reads its options, calls one function, and prints a table or one JSON object.

Exit codes: 0 done, 2 wrong option or name, 3 bad data, 4 something of this machine is missing, 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .envelope import Envelope, run_command
from .errors import UsageError
from .options import analysis, changes, dense, expansion, judging, ledger, suites, training
from .options.common import DatasetOption, DryRun, Json, Set, settings

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help takes half the time: rich is imported where a table is printed
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Retrieve, rerank and score text collections. Start with: cribble run demo",
)

MeasuresOption = Annotated[str | None, typer.Option(help='Such as "nDCG@10 R@100"; the dataset\'s own by default.')]
ModelOption = Annotated[str | None, typer.Option(help="Hub name or folder; the embedded MiniLM by default.")]
Around = Annotated[
    str | None,
    typer.Option("--retriever", help="Around the index's own: dense-prf, reranker-feedback, cosine-adapter."),
]


def _version(asked: bool) -> None:
    if asked:
        from . import __version__

        sys.stdout.write(f"cribble {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    pass


@app.command()
def index(
    dataset: Annotated[str, typer.Argument(help="Dataset, such as beir:FOLDER or sample:stdlib.")],
    out: Annotated[Path, typer.Option(help="Folder of the index.")],
    retriever: Annotated[str, typer.Option(help="bm25, dense, sparse, binary or late.")],
    kind: Annotated[
        str | None,
        typer.Option(
            "--index",
            help="dense: flat (default), hnsw, …; binary: sign, bebr, …; late: multivector-exact (default). See `cribble list indexes`.",
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="bm25: lucene (default) or inverted, without Java; sparse: inverted (default), lucene or seismic."
        ),
    ] = None,
    model: ModelOption = None,
    set_: Set = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an index that is there.")] = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Build an index of a dataset's documents. A killed build goes on where it stopped when run again."""
    from .commands.runs import index_dataset

    named = {"model": model, "kind": kind, "engine": engine}
    options = settings(set_) | {name: value for name, value in named.items() if value is not None}
    with Envelope("index", json) as envelope:
        envelope.show(index_dataset(dataset, retriever, out, options, overwrite=overwrite, dry_run=dry_run))


@app.command()
def retrieve(
    index: Annotated[Path, typer.Argument(help="Folder of an index.")],
    dataset: DatasetOption,
    out: Annotated[Path, typer.Option(help="Run to write: .trec, .parquet, .jsonl (with texts); .gz compresses.")],
    k: Annotated[int, typer.Option(help="Documents a query.")] = 1000,
    retriever: Around = None,
    set_: Set = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Search an index with a dataset's queries and write the run."""
    from .commands.runs import retrieve_run

    with Envelope("retrieve", json) as envelope:
        envelope.show(retrieve_run(index, dataset, out, k, settings(set_), dry_run=dry_run, retriever=retriever))


@app.command()
def rerank(
    run: Annotated[Path, typer.Argument(help="Run with the candidates.")],
    dataset: DatasetOption,
    reranker: Annotated[
        str, typer.Option(help="maxsim, cross-encoder, first, prp-heapsort, …; `cribble list rerankers`.")
    ],
    out: Annotated[Path, typer.Option(help="Run to write.")],
    model: ModelOption = None,
    depth: Annotated[int | None, typer.Option(help="Candidates to rerank; others stay beneath.")] = None,
    backend: Annotated[str | None, typer.Option(help="Where an LLM runs: hf, vllm, openai or fake.")] = None,
    window: Annotated[int | None, typer.Option(help="Documents in a window.")] = None,
    stride: Annotated[int | None, typer.Option(help="Documents that the next window starts higher.")] = None,
    passes: Annotated[int | None, typer.Option(help="Times that the windows go over the list.")] = None,
    index: Annotated[Path | None, typer.Option(help="Index to read the texts from (faster than the dataset).")] = None,
    set_: Set = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Put a run's candidates into a better order."""
    from .commands.runs import rerank_run

    options = settings(set_)
    if backend is not None:
        given = options.get("backend", {})
        options["backend"] = {"use": backend} | (given if isinstance(given, dict) else {})
    named = {"model": model, "depth": depth, "window": window, "stride": stride, "passes": passes}
    options |= {name: value for name, value in named.items() if value is not None}
    with Envelope("rerank", json) as envelope:
        envelope.show(rerank_run(run, dataset, reranker, out, options, index=index, dry_run=dry_run))


@app.command()
def fuse(
    runs: Annotated[list[Path], typer.Argument(help="Two or more runs.")],
    out: Annotated[Path, typer.Option(help="Run to write.")],
    method: Annotated[str, typer.Option(help="rrf, wsum, sum or a method of ranx; `cribble list fusions`.")] = "rrf",
    weights: Annotated[str | None, typer.Option(help="One number a run, for rrf and wsum: 0.7,0.3.")] = None,
    norm: Annotated[str | None, typer.Option(help="min-max, max, sum, z-score or rank.")] = None,
    k: Annotated[int | None, typer.Option("--rrf-k", help="The constant of rrf; 60 by default.")] = None,
    depth: Annotated[int, typer.Option(help="Documents a query to keep.")] = 1000,
    json: Json = False,
) -> None:
    """Fuse runs into one."""
    from .commands.runs import fuse_runs

    with Envelope("fuse", json) as envelope:
        envelope.show(fuse_runs(runs, out, method, weights=_numbers(weights), norm=norm, k=k, depth=depth))


@app.command("eval")
def evaluate(
    runs: Annotated[list[Path], typer.Argument(help="Runs to score.")],
    dataset: Annotated[str | None, typer.Option(help="Dataset whose judgements and rules apply.")] = None,
    qrels: Annotated[Path | None, typer.Option(help="Judgements instead of a dataset.")] = None,
    measures: MeasuresOption = None,
    ties: Annotated[str, typer.Option(help="float32 as trec_eval <= 9, float64 as trec_eval 10.")] = "float32",
    per_query: Annotated[bool, typer.Option("--per-query", help="Also every query's values (JSON only).")] = False,
    json: Json = False,
) -> None:
    """Score runs, exactly as `trec_eval -c` does: a query without results counts 0, and is shown."""
    from .commands.scoring import evaluate_runs

    if per_query and not json:
        raise UsageError("--per-query shows in the JSON only: add --json")
    with Envelope("eval", json) as envelope:
        envelope.show(evaluate_runs(runs, dataset, qrels, measures, ties=ties, per_query=per_query))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Two or more runs.")],
    dataset: Annotated[str | None, typer.Option(help="Dataset whose judgements and rules apply.")] = None,
    qrels: Annotated[Path | None, typer.Option(help="Judgements instead of a dataset.")] = None,
    measures: MeasuresOption = None,
    baseline: Annotated[str | None, typer.Option(help="Run (its stem) to test against; the first by default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Report to write: .html, .md, .tex or .json.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of intervals and randomisation tests.")] = 42,
    json: Json = False,
) -> None:
    """Compare runs: means with 95 % intervals, paired tests with Holm correction, effect sizes, wins and losses."""
    from .commands.scoring import compare_runs

    with Envelope("compare", json) as envelope:
        envelope.show(compare_runs(runs, dataset, qrels, measures, baseline=baseline, out=out, seed=seed))


@app.command()
def run(
    config: Annotated[
        str,
        typer.Argument(
            help="YAML file, or a shipped one: `cribble list configs`; or suite:NAME: `cribble list suites`."
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, such as runtime.seed=1; for a suite pipeline=CONFIG.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; runs/NAME-HASH by default.")] = None,
    only: Annotated[str | None, typer.Option(help="Sets of a suite, such as scifact,nfcorpus.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with a suite's sets; CRIBBLE_DATA by default.")] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Run an experiment: index, retrieve, rerank, score, report. A killed run goes on when run again."""
    from .commands.scoring import run_config

    with Envelope("run", json) as envelope:
        envelope.show(run_config(config, overrides or [], out, only=only, data=data, dry_run=dry_run))


@app.command()
def search(
    where: Annotated[str, typer.Argument(help="Folder of an index, or a config.")],
    text: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option(help="Answers.")] = 10,
    retriever: Around = None,
    set_: Set = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Late interaction: colour the words that matched, and list what each query token matched and adds to the score.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Ask an index, or a config's pipeline, from the shell."""
    from .commands.asking import search_text

    with Envelope("search", json) as envelope:
        envelope.show(search_text(where, text, k, settings(set_), retriever, explain=explain))


@app.command("list")
def list_(
    what: Annotated[
        str,
        typer.Argument(
            help="datasets, retrievers, indexes, rerankers, strategies, judges, backends, templates, models, measures, "
            "graders, fusions, configs, suites."
        ),
    ],
    json: Json = False,
) -> None:
    """Show what there is by name."""
    from .commands.asking import list_names

    with Envelope("list", json) as envelope:
        envelope.show(list_names(what))


@app.command()
def doctor(
    index: Annotated[list[Path] | None, typer.Argument(help="Indexes to verify file by file.")] = None,
    json: Json = False,
) -> None:
    """Say what of this machine works: packages, Java, CUDA, the embedded model, disk; verify indexes."""
    from .doctor import examine

    with Envelope("doctor", json) as envelope:
        envelope.show(examine(index or []))


for room in (dense, changes, suites, expansion, judging, analysis):
    app.add_typer(room.app)
app.add_typer(training.app, name="train")
app.add_typer(ledger.app, name="ledger")


def _numbers(text: str | None) -> list[float] | None:
    try:
        return [float(part) for part in text.split(",")] if text is not None else None
    except ValueError as error:
        raise UsageError(f"--weights {text!r}: expected numbers with commas between, such as 0.7,0.3") from error


def main() -> None:
    """The console script."""
    sys.exit(run_command(app))
