"""Judging by a language model, and agreement: judge, agreement."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..corpora import load_dataset
from ..envelope import Answer, Table
from ..errors import InputError, UsageError
from ..records import Qrels, Run
from ..registry import make
from .scoring import read_runs

if TYPE_CHECKING:
    from ..eval.agreement import Agreement, SystemAgreement
    from ..eval.judging.asking import Judged

logger = logging.getLogger("cribble")


@dataclass(frozen=True)
class Wanted:
    """What to judge: the best `depth` (10) documents of runs, those of them that `qrels` (or the dataset) does not judge
    where `fill` is set, or the pairs of the judgements in the file `pairs`."""

    runs: Sequence[Path]
    depth: int | None
    pairs: Path | None
    fill: bool
    qrels: Path | None


def judge(
    dataset: str,
    out: Path,
    wanted: Wanted,
    *,
    grader: str,
    options: dict[str, Any],
    backend: str | Mapping[str, Any],
    model: str | None,
    ledger: str,
    max_failure_rate: float,
    agreement_with: Path | None,
    measures: str | None,
    dry_run: bool,
) -> Answer:
    """Grade documents for a dataset's queries and write judgements, machine labels marked; see `Wanted` for which."""
    from ..eval.judging import ROOM
    from ..eval.judging.asking import judge_pairs
    from ..eval.judging.filling import filled
    from ..eval.judging.planning import plan_judging
    from ..models.backends import make_backend
    from ..models.ledger import Ledger

    if not 0 <= max_failure_rate <= 1:
        raise UsageError(f"--max-failure-rate {max_failure_rate}: expected a share from 0 to 1")
    if out.name.removesuffix(".gz").endswith(".tsv"):
        raise UsageError(
            f"{out}: BEIR's columns can't say which labels are a machine's: write TREC's, to .txt or .qrels"
        )
    _check_measures(measures, wanted, agreement_with)
    chosen, runner = make(ROOM, grader, options), make_backend(backend, model)
    data = load_dataset(dataset)
    others = Qrels.read(agreement_with) if agreement_with is not None else None
    runs = read_runs(wanted.runs, data.exclusions())
    human = _human(dataset, data.qrels, wanted)
    pairs = _pairs(wanted, runs, human)
    queries = {query.id: query.text for query in data.queries}
    if dry_run:
        planned = plan_judging(pairs, queries, data, chosen, runner)
        return Answer(planned, [Table(list(planned), [[f"{value:,}" for value in planned.values()]])])
    start = time.perf_counter()
    with Ledger.at(ledger) if ledger != "off" and runner.remembered else nullcontext() as book:
        judged = judge_pairs(pairs, queries, data, chosen, runner, ledger=book, max_failure_rate=max_failure_rate)
    labels = judged.qrels(name=str(out))
    judgements = filled(human, labels) if wanted.fill and human else labels
    judgements.write(out)
    answer = _told(judged, labels, out, time.perf_counter() - start)
    if others is not None:
        _add_agreement(answer, labels, others, runs if len(runs) > 1 else {}, measures)
    if wanted.fill and human:
        _add_scores(answer, runs, human, judgements, measures or data.measures)
    return answer


def _check_measures(measures: str | None, wanted: Wanted, agreement_with: Path | None) -> None:
    """Refuse measures that are none, or that nothing would be scored by, before anything is paid for."""
    from ..eval import parse_measures

    if measures is None:
        return
    parse_measures(measures)
    if not wanted.fill and (agreement_with is None or len(wanted.runs) < 2):
        raise UsageError(
            "--measures score runs with --fill, or rank two runs or more with --agreement: add one, or leave it out"
        )


def _human(dataset: str, own: Qrels | None, wanted: Wanted) -> Qrels | None:
    """The judgements whose holes are filled."""
    if not wanted.fill:
        if wanted.qrels is not None:
            raise UsageError("--qrels names the judgements to fill: add --fill")
        return None
    human = own if wanted.qrels is None else Qrels.read(wanted.qrels)
    if human is None:
        raise InputError(f"{dataset} has no judgements whose holes could be filled: name some with --qrels")
    return human


def _pairs(wanted: Wanted, runs: Mapping[str, Run], human: Qrels | None) -> dict[str, list[str]]:
    from ..eval.judging.filling import top_pairs

    if wanted.pairs is not None:
        if runs or wanted.fill or wanted.depth is not None:
            raise UsageError("--pairs says itself what is judged: leave out the runs, --fill and --depth")
        listed = Qrels.read(wanted.pairs)
        return {query: listed.ids(query) for query in listed}
    if not runs:
        raise UsageError("nothing to judge: name runs, or --pairs QRELS")
    depth = 10 if wanted.depth is None else wanted.depth
    pairs = top_pairs(runs.values(), depth, without=human)
    if not pairs:
        raise InputError(f"every document among the best {depth} is judged already: there is no hole to fill")
    return pairs


def _told(judged: Judged, labels: Qrels, out: Path, seconds: float) -> Answer:
    by_label = Counter(labels.labels.tolist())
    failed = [{"query": q, "document": d, "failures": list(kinds)} for (q, d), kinds in judged.failed.items()]
    results: dict[str, Any] = {
        "qrels": str(out),
        "labels": {str(label): by_label[label] for label in sorted(by_label)},
        "counts": dict(judged.counts),
        "failed": failed,
        "seconds": round(seconds, 3),
    }
    if failed or judged.counts["missing_texts"]:
        kinds = Counter(kind for verdict in judged.failed.values() for kind in verdict)
        logger.warning(
            "%d of %d pairs have no label that could be read (%s), and %d have no text: they stay unjudged",
            len(failed),
            judged.counts["pairs"],
            ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none failed",
            judged.counts["missing_texts"],
        )
    if judged.counts["cut_documents"]:
        logger.warning("%d of %d documents were cut to fit", judged.counts["cut_documents"], judged.counts["pairs"])
    shown = ", ".join(f"{count:,} of label {label}" for label, count in sorted(by_label.items()))
    line = f"{out}: {labels.num_rows:,} machine labels ({shown}), {judged.counts['calls']:,} calls, {seconds:.1f} s"
    return Answer(results, lines=[line])


def _add_agreement(answer: Answer, labels: Qrels, human: Qrels, runs: Mapping[str, Run], measures: str | None) -> None:
    told = agreement_answer(labels, human, runs, measures or "nDCG@10", scale=(0, 3))
    answer.results |= told.results
    answer.tables += told.tables


def _add_scores(answer: Answer, runs: Mapping[str, Run], human: Qrels, judgements: Qrels, measures: str) -> None:
    """The runs' scores by the labels that were there before, and by all labels beside the share of those of a machine."""
    from ..eval import evaluate, parse_measures

    plain = parse_measures(measures)
    shown: list[str] = []
    scores: dict[str, Any] = {}
    rows = []
    for name, run in runs.items():
        before = evaluate(run, human, plain, name=name).means
        by_all = evaluate(run, judgements, plain, name=name).means
        shown = list(by_all)
        scores[name] = {"before": before, "filled": by_all}
        for who, means in (("labels before", before), ("filled", by_all)):
            rows.append([name, who, *(f"{means[m]:.4f}" if m in means else "—" for m in shown)])
    answer.results["scores"] = scores
    note = "Machine@k: the share of a score's labels that a machine gave."
    answer.tables.append(Table(["run", "judged by", *shown], rows, notes=[note]))


def compare_labels(
    labels: Path, human: Path, paths: Sequence[Path], measures: str, scale: tuple[int, int] | None
) -> Answer:
    """How far two files of judgements agree, and the rankings of runs that they give."""
    return agreement_answer(Qrels.read(labels), Qrels.read(human), read_runs(paths, {}), measures, scale=scale)


def agreement_answer(
    labels: Qrels, human: Qrels, runs: Mapping[str, Run], measures: str, *, scale: tuple[int, int] | None
) -> Answer:
    from ..eval import parse_measures
    from ..eval.agreement import agreement, paired_labels, system_agreement

    if len(runs) == 1:
        raise UsageError("a ranking of systems needs two runs or more, got 1")
    found = agreement(paired_labels(labels, human, scale=scale))
    answer = Answer({"agreement": found.to_dict()}, [_labels_table(found)])
    if runs:
        systems = system_agreement(runs, labels, human, parse_measures(measures))
        answer.results["systems"] = [system.to_dict() for system in systems]
        answer.tables.append(_systems_table(systems))
    return answer


def _labels_table(found: Agreement) -> Table:
    rows = [
        ["pairs judged by both", str(found.counts["pairs"])],
        ["equal labels", f"{found.raw:.4f}"],
        ["Cohen's κ", _value(found.kappa)],
        *([f"κ of label ≥ {cut}", _value(value)] for cut, value in found.cuts.items()),
        ["quadratic κ", _value(found.weighted_kappa)],
        ["Krippendorff's α, ordinal", _value(found.alpha)],
    ]
    left = found.counts
    note = (
        f"{left['only_first']} pairs are judged by the first alone, {left['only_second']} by the second alone; "
        f"{left['clamped']} labels lay outside the scale and count as its ends."
    )
    return Table(["labels", ""], rows, notes=[note])


def _systems_table(systems: Sequence[SystemAgreement]) -> Table:
    rows = [
        [
            s.measure,
            str(len(s.scores)),
            _value(s.tau),
            _value(s.tau_ap),
            f"{s.overlap.extrapolated:.4f}",
            str(s.largest_drop),
        ]
        for s in systems
    ]
    note = "— means that the value does not exist: equal scores for τ_AP, a ranking that is one tie for τ."
    columns = ["rankings of systems", "systems", "Kendall's τ_b", "τ_AP", "RBO(.9)", "largest drop"]
    return Table(columns, rows, notes=[note])


def _value(value: float | None) -> str:
    return "—" if value is None else f"{value:.4f}"
