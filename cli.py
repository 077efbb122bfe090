"""The command line: each command reads its options, calls one function, and prints a table or one JSON object.

Exit codes: 0 done, 2 wrong option or name, 3 bad data, 4 something of this machine is missing, 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .analysis_cli import add_commands as add_analysis
from .change_cli import add_commands
from .envelope import Envelope, run_command
from .errors import UsageError
from .expansion_cli import add_expand
from .judge_cli import add_commands as add_judging
from .suite_cli import add_commands as add_suites
from .train_cli import add_training

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help takes half the time: rich is imported where a table is printed
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Retrieve, rerank and score text collections. Start with: cribble run demo",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout and nothing else.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, estimate the work, do nothing.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="An option of the stage or index, as key=value; repeat.")]
DatasetOption = Annotated[str, typer.Option(help="Dataset, such as beir:FOLDER, ir_datasets:ID, sample:stdlib.")]
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
    retriever: Annotated[str, typer.Option(help="bm25 or dense; `cribble list retrievers`.")],
    kind: Annotated[
        str | None, typer.Option("--index", help="Kind of a dense index, flat by default; `cribble list indexes`.")
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
    options = _settings(set_) | {name: value for name, value in named.items() if value is not None}
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
        envelope.show(retrieve_run(index, dataset, out, k, _settings(set_), dry_run=dry_run, retriever=retriever))


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

    options = _settings(set_)
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
    json: Json = False,
) -> None:
    """Ask an index, or a config's pipeline, from the shell."""
    from .commands.asking import search_text

    with Envelope("search", json) as envelope:
        envelope.show(search_text(where, text, k, _settings(set_), retriever))


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
    from .commands.dense import fit as fitted

    with Envelope("fit", json) as envelope:
        envelope.show(fitted(what, index, dataset, out, _settings(set_), overwrite=overwrite))


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
    from .commands.dense import tune_index

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
    from .commands.dense import depth_of

    with Envelope("depth", json) as envelope:
        envelope.show(depth_of(index, against, distance=distance, sample=sample, seed=seed, top=top, out=out))


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


add_commands(app, lambda pairs: _settings(pairs))
add_suites(app)
add_expand(app)
add_judging(app, lambda pairs: _settings(pairs))
add_training(app, lambda pairs: _settings(pairs))
add_analysis(app, lambda pairs: _settings(pairs))

ledger = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="The judgements that language models were asked for and paid for."
)
app.add_typer(ledger, name="ledger")
LedgerPath = Annotated[Path | None, typer.Option("--path", help="The ledger's file; the cache folder's by default.")]


@ledger.command("show")
def ledger_show(
    path: LedgerPath = None,
    model: Annotated[str | None, typer.Option(help="Only this model's.")] = None,
    json: Json = False,
) -> None:
    """How many judgements there are of each model and kind, what they cost, and from when they are."""
    from .commands.ledger import show_ledger

    with Envelope("ledger show", json) as envelope:
        envelope.show(show_ledger(path, model))


@ledger.command("export")
def ledger_export(
    out: Annotated[Path, typer.Argument(help="File to write: .jsonl or .jsonl.gz.")],
    path: LedgerPath = None,
    model: Annotated[str | None, typer.Option(help="Only this model's.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind, such as LabelCall.")] = None,
    query: Annotated[str | None, typer.Option(help="Only those that this query id asked for first.")] = None,
    json: Json = False,
) -> None:
    """Write judgements as JSON Lines, in the order in which they were made."""
    from .commands.ledger import export_ledger

    with Envelope("ledger export", json) as envelope:
        envelope.show(export_ledger(out, path, model=model, kind=kind, query=query))


@ledger.command("prune")
def ledger_prune(
    path: LedgerPath = None,
    older_than: Annotated[str | None, typer.Option(help="Such as 12h, 30d or 4w; 0d means all.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model's.")] = None,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Delete judgements that are old, or of one model; they would be asked for again."""
    from .commands.ledger import prune_ledger

    with Envelope("ledger prune", json) as envelope:
        envelope.show(prune_ledger(path, older_than=older_than, model=model, dry_run=dry_run))


def _settings(pairs: list[str] | None) -> dict[str, Any]:
    """`key=value` pairs, values read as YAML; `part.key=value` sets an option of a part: backend.dtype=bfloat16."""
    import yaml

    settings: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        *parts, name = key.replace("-", "_").split(".")
        if not equals or not name or not all(parts):
            raise UsageError(f"--set {pair!r}: expected key=value")
        place = settings
        for part in parts:
            if not isinstance(place.setdefault(part, {}), dict):
                place[part] = {"use": place[part]}
            place = place[part]
        try:
            place[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"--set {pair!r}: the value is no YAML") from error
    return settings


def _numbers(text: str | None) -> list[float] | None:
    try:
        return [float(part) for part in text.split(",")] if text is not None else None
    except ValueError as error:
        raise UsageError(f"--weights {text!r}: expected numbers with commas between, such as 0.7,0.3") from error


def main() -> None:
    """The console script."""
    sys.exit(run_command(app))
