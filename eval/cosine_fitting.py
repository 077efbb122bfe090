"""Fitting a Cosine Adapter from judgements, and saying by cross-validation over queries what it is worth."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..corpora.dataset import Dataset
from ..errors import InputError, UsageError, suggest
from ..index.exact import unit_length
from ..retrievers.cosine_map import FORMS, CosineMap
from ..retrievers.dense import DenseRetriever
from .cosine_training import Pairs, Trained, train
from .set_measures import average_precision, best_threshold, set_measures

if TYPE_CHECKING:
    from ..records import Qrels, Run

logger = logging.getLogger("cribble")


@dataclass(frozen=True)
class Fitting:
    """How a Cosine Adapter is fitted.

    `form` is that of the map: linear, sqrt, quadratic or power (the paper's best; with hundreds of queries and not
    MS MARCO's many, linear held up better here). The best `depth` documents of each judged query are the
    pairs, relevant from the label `rel` on; unjudged ones count as not relevant. The network has `hidden` units and is
    trained for at most `epochs` over all pairs. `folds` of the queries are held out in turn. The threshold is the one
    with the best F1, or with `recall` the highest that keeps this share of the relevant documents. `seed` is that of the
    folds and the weights.
    """

    form: str = "linear"
    depth: int = 100
    rel: int = 1
    hidden: int = 32
    epochs: int = 300
    folds: int = 5
    recall: float | None = None
    seed: int = 42

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise UsageError(f"cosine-adapter: form {self.form!r} is unknown: {suggest(self.form, FORMS)}")
        for name, least in (("depth", 1), ("rel", 1), ("hidden", 1), ("epochs", 1), ("folds", 2)):
            if getattr(self, name) < least:
                raise UsageError(f"cosine-adapter: {name} is {getattr(self, name)}, expected at least {least}")
        if self.recall is not None and not 0 < self.recall <= 1:
            raise UsageError(f"cosine-adapter: recall is {self.recall}, expected a share above 0, up to 1")


@dataclass(frozen=True)
class Fitted:
    """A map, and what held-out queries say of it: `measures["cosine" | "adapter"]` are those of one global threshold on
    the cosine and on the map's probability (see `set_measures`, and `pr_auc`), each chosen on other queries than it is
    applied to.
    """

    map: CosineMap
    measures: dict[str, dict[str, float]]
    queries: int
    pairs: int


def fit_cosine_adapter(dense: DenseRetriever, dataset: Dataset, fitting: Fitting) -> Fitted:
    """Fit on a dense index of cosines and the judged queries of `dataset`.

    Every query's probability comes from a network that was trained without it (and stopped on queries that it was not
    trained on either); thresholds are chosen on these, so that they are those of new queries. The map itself is then
    trained on all queries, for as long as the folds did at the median.
    """
    pairs = judged_pairs(dense, dataset, fitting)
    if len(pairs.total) < 2 * fitting.folds:
        raise InputError(
            f"{dataset.id} has {len(pairs.total)} judged queries, too few for {fitting.folds} folds: expected at least two "
            "a fold"
        )
    rng = np.random.default_rng(fitting.seed)
    fold_of = rng.permutation(np.arange(len(pairs.total)) % fitting.folds)
    held_out = np.empty(len(pairs.cosines))
    epochs = []
    for fold in range(fitting.folds):
        rest = np.flatnonzero(fold_of != fold)
        watched = rng.permutation(rest)[: max(1, len(rest) // 5)]
        trained = train(pairs.of(np.setdiff1d(rest, watched)), pairs.of(watched), **_how(fitting))
        epochs.append(trained.epochs)
        rows = pairs.rows(np.flatnonzero(fold_of == fold))
        held_out[rows] = _probabilities(trained, fitting, pairs.of(np.flatnonzero(fold_of == fold)))
    final = train(pairs, None, **_how(fitting) | {"epochs": int(np.median(epochs))})
    threshold = best_threshold(held_out, pairs.relevant, int(pairs.total.sum()), fitting.recall)
    measures = {
        "cosine": _cross_validated(pairs, pairs.cosines, fold_of, fitting.recall),
        "adapter": _cross_validated(pairs, held_out, fold_of, fitting.recall),
    }
    facts = {"dataset": dataset.id, "fitting": asdict(fitting), "epochs": final.epochs, "measures": measures}
    adapter = _map(final, fitting, threshold, dense, facts)
    return Fitted(adapter, measures, len(pairs.total), len(pairs.cosines))


def judged_pairs(dense: DenseRetriever, dataset: Dataset, fitting: Fitting) -> Pairs:
    """The best documents of each judged query, with its unit vector and what is relevant among them."""
    if dataset.qrels is None:
        raise InputError(f"{dataset.id} has no judgements to fit from")
    judged = [query for query in dataset.queries if query.id in dataset.qrels]
    run = (dense % fitting.depth)(judged, exclude=dataset.exclusions())
    if run.score_kind != "cosine":
        raise UsageError(
            f"{dense.label}: its scores are of the kind {run.score_kind}, and the adapter maps cosines: build the index with "
            "similarity=cosine"
        )
    vectors = unit_length(dense.query_vectors(judged).values)[0] if judged else np.zeros((0, dense.opened.dim))
    return _joined(run, vectors, dataset.qrels, fitting.rel)


def _joined(run: Run, vectors: np.ndarray, qrels: Qrels, rel: int) -> Pairs:
    relevant, total = np.zeros(run.num_rows, bool), []
    for query_id in run:
        wanted = {doc_id for doc_id, label in qrels[query_id].items() if label >= rel}
        rows = run.rows(query_id)
        relevant[rows] = [doc_id in wanted for doc_id in run.ids(query_id)]
        total.append(len(wanted))
    return Pairs(vectors, np.asarray(run.offsets), run.scores, relevant, np.array(total, np.int64))


def _how(fitting: Fitting) -> dict[str, Any]:
    return {"form": fitting.form, "hidden": fitting.hidden, "epochs": fitting.epochs, "seed": fitting.seed}


def _probabilities(trained: Trained, fitting: Fitting, pairs: Pairs) -> np.ndarray:
    """By the map itself, so that what is measured is what will be used."""
    return probabilities(_map(trained, fitting, 0.0, None, {}), pairs)


def probabilities(adapter: CosineMap, pairs: Pairs) -> np.ndarray:
    """The map's probabilities (n,) of all pairs."""
    parameters = adapter.parameters(pairs.vectors)
    values = [
        adapter.probabilities(own, pairs.cosines[pairs.offsets[i] : pairs.offsets[i + 1]])
        for i, own in enumerate(parameters)
    ]
    return np.concatenate(values) if values else np.zeros(0)


def _map(
    trained: Trained, fitting: Fitting, threshold: float, dense: DenseRetriever | None, facts: dict[str, Any]
) -> CosineMap:
    spec = dense.opened.manifest.encoder if dense is not None else None
    return CosineMap(fitting.form, trained.weights, trained.mean, trained.deviation, threshold, spec, facts)  # type: ignore[arg-type]


def _cross_validated(pairs: Pairs, scores: np.ndarray, fold_of: np.ndarray, recall: float | None) -> dict[str, float]:
    """Set measures where each fold is cut at the threshold that is best on the others."""
    kept = np.zeros(len(scores), bool)
    for fold in range(int(fold_of.max()) + 1):
        others = np.flatnonzero(fold_of != fold)
        rows = pairs.rows(others)
        threshold = best_threshold(scores[rows], pairs.relevant[rows], int(pairs.total[others].sum()), recall)
        mine = pairs.rows(np.flatnonzero(fold_of == fold))
        kept[mine] = scores[mine] >= threshold
    measures = {"pr_auc": average_precision(scores, pairs.relevant)}
    return measures | set_measures(kept, pairs.relevant, pairs.offsets, pairs.total)
