"""The work behind the verbs over dense indexes: depth, fit and tune."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from ..corpora import load_dataset
from ..envelope import Answer, Table
from ..errors import SetupError, UsageError, suggest
from ..eval.depth import Depths, corpus_depths, rank_test
from ..files import write_whole
from ..registry import check_type, option_names

logger = logging.getLogger("cribble")


# ---- depth ----------------------------------------------------------------------------------------------------------


def depth_of(
    path: Path, against: Path | None, *, distance: str, sample: int, seed: int, top: int, out: Path | None
) -> Answer:
    """The most central and most outlying documents of an index; with `against`, those of another in its corpus."""
    from ..index.opening import open_index

    if top < 0:
        raise UsageError(f"--top {top}: expected at least 0")
    index = open_index(path)
    how: dict[str, Any] = {"distance": distance, "sample": sample, "seed": seed}
    mine = corpus_depths(index, **how)
    results = _depth_results(path, index, mine, top) | {"distance": distance, "exact": mine.exact}
    compared = f"all {mine.reference:,}" if mine.exact else f"a sample of {mine.reference:,} (seed {seed})"
    results |= {"reference_documents": mine.reference, "seed": None if mine.exact else seed}
    tables = _depth_tables(results, f"{path}: {len(mine.ids):,} documents, {distance} depth against {compared}", index)
    columns, lines = [(str(path), mine)], []
    if against is not None:
        other = open_index(against)
        theirs = corpus_depths(other, index, **how)
        test = rank_test(mine.values, theirs.values)
        results["against"] = _depth_results(against, other, theirs, top) | vars(test)
        tables += _depth_tables(results["against"], f"{against}: {len(theirs.ids):,} documents in that corpus", other)
        columns.append((str(against), theirs))
        lines.append(
            f"rank sum test, the documents of {path} lie deeper than those of {against}: W = {test.w:.3f}, "
            f"p = {test.p:.3g}; Q = {test.q:.4f} (.5 where they lie alike, 0 where {against} is all further out)"
        )
    if out is not None:
        _write_depths(out, columns)
        lines.append(f"all depths: {out}")
    return Answer(results, tables, lines)


def _depth_results(path: Path, index: Any, depths: Depths, top: int) -> dict[str, Any]:
    if depths.zero_vectors:
        logger.warning("%s: %d documents have a zero vector: their distance to all is 1", path, depths.zero_vectors)
    order = depths.ranked()

    def rows(positions: np.ndarray) -> list[dict[str, Any]]:
        return [{"id": str(depths.ids[i]), "depth": float(depths.values[i])} for i in positions]

    return {
        "index": str(path),
        "documents": len(depths.ids),
        "zero_vectors": depths.zero_vectors,
        "mean": float(depths.values.mean()),
        "deviation": float(depths.values.std()),
        "central": rows(order[:top]),
        "outlying": rows(order[::-1][:top]),
    }


def _depth_tables(results: dict[str, Any], title: str, index: Any) -> list[Table]:
    from .asking import snippet

    tables = []
    for what in ("central", "outlying"):
        texts = index.texts.get_many([row["id"] for row in results[what]])
        cells = [[f"{row['depth']:.4f}", row["id"], snippet(texts[row["id"]].full_text, "")] for row in results[what]]
        tables.append(Table([f"most {what}", "document", "text"], cells, title=title if what == "central" else ""))
    tables[-1].notes = [f"mean {results['mean']:.4f}, standard deviation {results['deviation']:.4f}"]
    return tables


def _write_depths(out: Path, columns: Sequence[tuple[str, Depths]]) -> None:
    """A tab-separated line per document: index, document, depth."""
    with write_whole(out) as stream:
        stream.write(b"index\tdocument\tdepth\n")
        for name, depths in columns:
            for doc_id, value in zip(depths.ids, depths.values, strict=True):
                stream.write(f"{name}\t{doc_id}\t{float(value)!r}\n".encode())


# ---- fit ------------------------------------------------------------------------------------------------------------

_SHOWN = ("pr_auc", "precision", "recall", "f1", "macro_f1", "returned", "removed")


def fit(what: str, index: Path, dataset: str, out: Path, options: dict[str, Any], *, overwrite: bool) -> Answer:
    """Fit what is to be learned from judgements over a dense index; the only such thing now is the cosine-adapter."""
    from ..eval.cosine_fitting import Fitting, fit_cosine_adapter
    from ..retrievers.dense import DenseRetriever

    if what != "cosine-adapter":
        raise UsageError(f"fit {what!r}: {suggest(what, ['cosine-adapter'])}")
    known, types = option_names(Fitting), get_type_hints(Fitting)
    for name, value in options.items():
        if name not in known:
            raise UsageError(f"{what} is fitted by no option {name!r}: {suggest(name, known)}")
        check_type(f"{what}: {name}", value, types[name])
    fitting = Fitting(**options)
    if (out / "adapter.json").exists() and not overwrite:
        raise SetupError(f"{out} holds an adapter already: choose another --out, or --overwrite")
    done = fit_cosine_adapter(DenseRetriever(index), load_dataset(dataset), fitting)
    done.map.save(out)
    gain = done.measures["adapter"]["pr_auc"] - done.measures["cosine"]["pr_auc"]
    if gain <= 0:
        logger.warning(
            "%s: on held-out queries the adapter is no better than one threshold on the cosine (PR-AUC %+.4f)",
            out,
            gain,
        )
    results = {
        "adapter": str(out),
        "queries": done.queries,
        "pairs": done.pairs,
        "threshold": done.map.threshold,
        "measures": done.measures,
        "options": done.map.facts["fitting"],
    }
    rows = [[name, *(f"{values[m]:.4f}" for m in _SHOWN)] for name, values in done.measures.items()]
    title = f"{done.queries} queries, {done.pairs:,} pairs, {fitting.folds} folds of held-out queries, each cut as is best on the others"
    line = f"{out}: threshold {done.map.threshold:.4f}; use it as {{use: cosine-adapter, of: {{use: dense}}, adapter: {out}}}"
    return Answer(results, [Table(["threshold on the", *_SHOWN], rows, title=title)], [line])


# ---- tune -----------------------------------------------------------------------------------------------------------


def tune_index(path: Path, dataset: str, *, recall: float, k: int, queries: int, seed: int) -> Answer:
    """The recall and latency of an approximate index's settings, and the cheapest that reaches the recall."""
    from ..eval.tuning import tune
    from ..index.opening import open_index
    from ..retrievers.dense import DenseRetriever

    if queries < 1:
        raise UsageError(f"--queries {queries}: expected at least 1")
    index = open_index(path)
    asked = load_dataset(dataset).queries
    chosen = np.sort(np.random.default_rng(seed).choice(len(asked), min(queries, len(asked)), replace=False))
    vectors = DenseRetriever(path).query_vectors([asked[i] for i in chosen])
    curve = tune(index, vectors, k, recall)
    results = {
        "index": str(path),
        "kind": index.manifest.kind,
        "documents": len(index),
        "queries": len(vectors),
        "k": k,
        "target": recall,
        "exact_milliseconds": curve.exact_milliseconds,
        "settings": [vars(setting) for setting in curve.settings],
        "chosen": None if curve.chosen is None else vars(curve.chosen),
    }
    columns = ["setting", f"recall@{k}", "median ms", "95 % ms"]
    rows = [
        [_as_set(s.parameters) or "by rule", f"{s.recall:.4f}", f"{s.milliseconds:.3f}", f"{s.slowest:.3f}"]
        for s in sorted(curve.settings, key=lambda s: (s.recall, s.milliseconds))
    ]
    some = (
        f"{len(vectors)} of {len(asked)} queries (seed {seed})"
        if len(vectors) < len(asked)
        else f"{len(asked)} queries"
    )
    notes = [f"exact search over the stored vectors: {curve.exact_milliseconds:.3f} ms; one query at a time"]
    title = f"{path}: {index.manifest.kind}, {len(index):,} documents, {some}"
    return Answer(results, [Table(columns, rows, title, notes)], [_advice(results, curve.chosen)])


def _as_set(parameters: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in parameters.items())


def _advice(results: dict[str, Any], chosen: Any) -> str:
    if chosen is None:
        best = max(setting["recall"] for setting in results["settings"])
        line = f"no setting finds {results['target']} of the exact answer, the best {best:.4f}: build a less lossy kind"
        logger.warning("%s", line)
        return line
    flags = " ".join(f"--set {name}={value}" for name, value in chosen.parameters.items())
    return f"cheapest that reaches {results['target']}: {flags} (options of dense in a config)"
