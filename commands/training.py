"""The work behind `cribble train`: from an index's folder to a trained binariser's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import numpy as np

from ..envelope import Answer, Table
from ..errors import InputError, UsageError, suggest
from ..registry import check_type, option_names
from ..training.bebr import BebrOptions, Material, train_bebr

if TYPE_CHECKING:
    from ..models.recurrent_binarisation import RecurrentBinariser

#: Options beside those of the training itself.
_OLDER = ("compatible_with", "old_vectors")


def train_bebr_model(
    vectors: Path, out: Path, options: dict[str, Any], *, queries: str | None, overwrite: bool, dry_run: bool
) -> Answer:
    """Train a binariser on the stored vectors of the dense index in `vectors`; `queries` names a dataset whose texts the
    index's encoder makes anchors of. The option `compatible_with` is the folder of an older binariser whose index the new
    one's queries are to search, `old_vectors` the dense index of the same documents that the older one was made for, where
    it is not `vectors`."""
    chosen = {name: options.pop(name, None) for name in _OLDER}
    settings = _settings(options)
    older = _older(chosen)
    material = _material(vectors, settings, queries, older, chosen["old_vectors"])
    shape = settings.shape(material.vectors.shape[1])
    size = {"bits": shape.bits, "bytes": shape.bits // 8, "width": shape.width, "planes": shape.planes}
    size |= {"vectors": len(material.vectors), "dim": shape.dim}
    if dry_run:
        steps = settings.epochs * -(-len(material.vectors) // settings.batch)
        line = f"{vectors}: {size['vectors']:,} vectors of {shape.dim} dimensions → {size['bytes']} bytes a document, {steps:,} steps"
        return Answer(size | {"steps": steps}, lines=[line])
    made = train_bebr(material, out, settings, overwrite=overwrite)
    return _described(out, made, size)


def _settings(options: dict[str, Any]) -> BebrOptions:
    known, types = option_names(BebrOptions), get_type_hints(BebrOptions)
    for name, value in options.items():
        if name not in known:
            raise UsageError(f"bebr is trained by no option {name!r}: {suggest(name, [*known, *_OLDER])}")
        check_type(f"bebr: {name}", value, types[name])
    return BebrOptions(**options)


def _older(chosen: dict[str, Any]) -> RecurrentBinariser | None:
    if chosen["compatible_with"] is None:
        if chosen["old_vectors"] is not None:
            raise UsageError("old_vectors has no effect without compatible_with: name the older binariser's folder too")
        return None
    from ..models.recurrent_binarisation import RecurrentBinariser

    return RecurrentBinariser.load(str(chosen["compatible_with"]))


def _material(
    path: Path, settings: BebrOptions, queries: str | None, older: RecurrentBinariser | None, old_path: Any
) -> Material:
    index = _open(path)
    rows = _rows(index, settings)
    facts: dict[str, Any] = {"corpus": index.manifest.plan.corpus, "corpus_fingerprint": index.manifest.fingerprint}
    if index.manifest.encoder:
        facts["encoder"] = {"model": index.manifest.encoder.model, "revision": index.manifest.encoder.revision}
    its = None
    if older is not None:
        rows, its_rows, old = _shared_rows(index, rows, path if old_path is None else Path(str(old_path)))
        its = old.vectors(its_rows)
    vectors = index.vectors(rows)
    if older is not None and old_path is None:
        its = vectors
    asked = None
    if queries is not None:
        from ..corpora import load_dataset
        from ..retrievers.recorded import recorded_encoder

        facts["queries"] = queries
        encoder = recorded_encoder(path, index.manifest.encoder, None, "auto")
        asked = encoder.encode_queries([query.text for query in load_dataset(queries).queries]).values
    return Material(vectors, index.score_kind, facts, asked, older, its)


def _open(path: Path) -> Any:
    from ..index.opening import open_index

    index = open_index(path)
    if not hasattr(index, "vectors"):
        raise InputError(
            f"{path}: an index of kind {index.manifest.kind!r} stores no dense vectors, expected one such as flat"
        )
    return index


def _rows(index: Any, settings: BebrOptions) -> np.ndarray:
    """The rows to train on, ascending: all that are not deleted, or a sample."""
    rows = np.setdiff1d(np.arange(index.manifest.rows), index.manifest.deleted_rows(index.path))
    if len(rows) <= settings.sample:
        return rows
    return np.sort(np.random.default_rng(settings.seed).choice(rows, settings.sample, replace=False))


def _shared_rows(index: Any, rows: np.ndarray, old_path: Path) -> tuple[np.ndarray, np.ndarray, Any]:
    """Those of `rows` whose documents the index in `old_path` has too, and their rows there."""
    old = _open(old_path)
    places = {doc_id: row for row, doc_id in enumerate(old.texts.ids_at(np.arange(old.manifest.rows)))}
    for row in old.manifest.deleted_rows(old_path):
        places = {doc_id: at for doc_id, at in places.items() if at != row}
    pairs = [(row, places[i]) for row, i in zip(rows, index.texts.ids_at(rows), strict=True) if i in places]
    if not pairs:
        raise InputError(f"{old_path} and {index.path} share no document id: expected indexes of the same documents")
    mine, theirs = np.array(pairs, np.int64).T
    return mine, theirs, old


def _described(out: Path, made: RecurrentBinariser, size: dict[str, Any]) -> Answer:
    facts = made.training
    results = {
        "binariser": str(out),
        **size,
        "sha256": made.sha256,
        "compatible_with": list(made.compatible_with),
        "fidelity": facts["fidelity"],
        "best_epoch": facts["best_epoch"],
        "history": facts["history"],
        "seconds": facts["seconds"],
    }
    rows = [[str(h["epoch"]), f"{h['loss']:.4f}", f"{h['fidelity']:.4f}"] for h in facts["history"]]
    notes = [
        f"{size['vectors']:,} vectors of {size['dim']} dimensions → {size['width']} × {size['planes']} bits",
        "fidelity: share of held-out anchors' ten nearest documents that the codes find among their ten; "
        f"of the finished codes {facts['fidelity']:.4f}",
    ]
    line = (
        f"{out}: {size['bytes']} bytes a document, epoch {facts['best_epoch']}, {facts['seconds']:.0f} s; "
        f"index with --retriever binary --index bebr --set binariser={out}"
    )
    return Answer(results, [Table(["epoch", "loss", "fidelity"], rows, notes=notes)], [line])
