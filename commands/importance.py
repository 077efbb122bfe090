"""What documents and sources are worth: importance."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..envelope import Answer, Table
from ..errors import InputError, UsageError
from ..files import write_whole
from ..run_files import read_run
from .scoring import judgements

if TYPE_CHECKING:
    from ..eval.importance import Retrievals
    from ..eval.pruning import Answers, Pruned, Worth
    from ..records import Run

logger = logging.getLogger("cribble")


@dataclass(frozen=True)
class Learning:
    """How weights are learned: the first `k` items count; the share `holdout` of the queries is kept for the report."""

    k: int = 10
    sources: str | None = None
    epochs: int = 100
    learning_rate: float = 10.0
    epsilon: float = 0.0
    holdout: float = 0.5
    seed: int = 42


@dataclass(frozen=True)
class Files:
    """What is written: weights by item, ids to drop, the run without them, the run with weighted scores."""

    out: Path
    drop: Path | None = None
    pruned: Path | None = None
    reweighted: Path | None = None


@dataclass(frozen=True, eq=False)
class _Task:
    """What was retrieved and is worth what; RAG answers or a run beside it."""

    retrievals: Retrievals
    answers: Answers | None
    run: Run | None

    def worth(self, queries: np.ndarray, k: int, weights: np.ndarray | None = None) -> Worth:
        """How much the queries at these positions are worth without some items."""
        from ..eval.pruning import answer_worth, retrieval_worth

        if self.answers is not None:
            return answer_worth(self.answers.select(queries), k, weights)
        return retrieval_worth(self.retrievals.select(queries), k)


def importance_of(
    file: Path,
    dataset: str | None,
    qrels: Path | None,
    learning: Learning,
    files: Files,
    *,
    gain: str = "binary",
    depth: int = 100,
    top: int = 10,
) -> Answer:
    """Learn weights of a run's documents by its judgements, or of the items of RAG answers (a .jsonl file without
    judgements), tune a threshold, and report what pruning is worth on queries that were not learned from."""
    from ..eval.importance import importance, learn_weights
    from ..eval.pruning import prune, sources_of

    if not 0 <= learning.holdout < 1:
        raise UsageError(f"--holdout {learning.holdout}: expected a share from 0 to less than 1")
    task = _read(file, dataset, qrels, files, gain, depth)
    everything, k = task.retrievals, learning.k
    learned_on, held_out = _split(everything, learning)
    part = everything.select(learned_on)
    names = sources_of(everything.names, learning.sources) if learning.sources else list(everything.names)
    sources, groups = np.unique(np.array(names), return_inverse=True)
    weights = learn_weights(
        part,
        k,
        groups=groups if learning.sources else None,
        epochs=learning.epochs,
        learning_rate=learning.learning_rate,
        epsilon=learning.epsilon,
    )
    values = importance(part, weights, k, epsilon=learning.epsilon)
    pruned = prune(weights, np.isin(groups, groups[part.item]), task.worth(learned_on, k))
    told = held_out if len(held_out) else learned_on
    if not len(held_out):
        logger.warning("--holdout 0: what pruning is worth is told of the queries that it was learned from")
    all_there, worth = np.ones(len(weights), bool), task.worth(told, k)
    _write(files, everything, names, weights, values, pruned, task.run)
    results = _results(everything, sources, groups, weights, pruned, worth(all_there), worth(pruned.kept))
    results |= {"learned_from": len(part), "held_out": len(held_out), "most_important": float(values.max())}
    if task.answers is not None:
        results["weighted_votes"] = float(task.worth(told, k, weights)(all_there).mean())
    return Answer(results, _tables(results, sources, groups, weights, values, top), [str(files.out)])


def _read(file: Path, dataset: str | None, qrels: Path | None, files: Files, gain: str, depth: int) -> _Task:
    from ..eval.pruning import read_answers, run_utilities

    if dataset is None and qrels is None:
        if files.pruned or files.reweighted:
            raise UsageError("--pruned and --reweighted are for runs: answers have no run to write")
        answers = read_answers(file)
        return _Task(answers.retrievals, answers, None)
    judged, _, exclude = judgements(dataset, qrels, None)
    run = read_run(file).drop(exclude)
    return _Task(run_utilities(run, judged, gain=gain, depth=depth), None, run)


def _split(everything: Retrievals, learning: Learning) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the queries to learn from and of those held out, each in their order."""
    order = np.random.default_rng(learning.seed).permutation(len(everything))
    out = int(learning.holdout * len(everything))
    if out == len(everything):
        raise InputError(f"{len(everything)} queries are too few to hold {learning.holdout} of them out")
    return np.sort(order[out:]), np.sort(order[:out])


def _results(
    everything: Retrievals,
    sources: np.ndarray,
    groups: np.ndarray,
    weights: np.ndarray,
    pruned: Pruned,
    before: np.ndarray,
    after: np.ndarray,
) -> dict[str, Any]:
    from ..eval.significance import bootstrap

    low, high = bootstrap(after - before)[0]
    return {
        "queries": len(everything),
        "items": len(everything.names),
        "sources": len(sources),
        "threshold": pruned.threshold,
        "percentile": pruned.percentile,
        "kept_items": int(pruned.kept.sum()),
        "kept_sources": len(np.unique(groups[pruned.kept])),
        "validation": {"before": pruned.before, "after": pruned.after},
        "report": {"before": float(before.mean()), "after": float(after.mean()), "interval": [low, high]},
        "mean_weight": float(weights.mean()),
    }


def _tables(
    results: dict[str, Any], sources: np.ndarray, groups: np.ndarray, weights: np.ndarray, values: np.ndarray, top: int
) -> list[Table]:
    total = np.bincount(groups, values, len(sources))
    mean = np.bincount(groups, weights, len(sources)) / np.bincount(groups, minlength=len(sources))
    order = np.argsort(-total, kind="stable")
    ends = order if len(order) <= 2 * top else np.concatenate([order[:top], order[-top:]])
    rows = [[str(sources[i]), f"{mean[i]:.3f}", f"{total[i]:+.5f}"] for i in ends]
    told, (low, high) = results["report"], results["report"]["interval"]
    over = f"{results['held_out']} held-out queries" if results["held_out"] else "the queries learned from"
    dropped, change = results["items"] - results["kept_items"], told["after"] - told["before"]
    note = (
        f"Without {dropped} of {results['items']} items (weight < {results['threshold']:.3f}), {over} are worth "
        f"{told['after']:.4f} instead of {told['before']:.4f} ({change:+.4f} [{low:+.4f}, {high:+.4f}])."
    )
    return [Table(["source", "weight", "importance"], rows, notes=[note])]


def _write(
    files: Files,
    everything: Retrievals,
    names: list[str],
    weights: np.ndarray,
    values: np.ndarray,
    pruned: Pruned,
    run: Run | None,
) -> None:
    from ..eval.pruning import reweighted, without

    with write_whole(files.out) as stream:
        stream.write(b"item\tsource\tweight\timportance\tkept\n")
        for row in zip(everything.names, names, weights.tolist(), values.tolist(), pruned.kept.tolist(), strict=True):
            item, source, weight, value, kept = row
            stream.write(f"{item}\t{source}\t{weight:.6g}\t{value:.6g}\t{int(kept)}\n".encode())
    if files.drop:
        with write_whole(files.drop) as stream:
            for item, kept in zip(everything.names, pruned.kept.tolist(), strict=True):
                stream.write(b"" if kept else f"{item}\n".encode())
    if run is not None and files.pruned:
        without(run, everything.names, pruned.kept).write(files.pruned)
    if run is not None and files.reweighted:
        reweighted(run, everything.names, weights).write(files.reweighted)
