"""The work behind the verbs that look into dense indexes: depth."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .envelope import Answer, Table
from .errors import UsageError
from .eval.depth import Depths, corpus_depths, rank_test
from .files import write_whole

logger = logging.getLogger("cribble")


# ---- depth ----------------------------------------------------------------------------------------------------------


def depth_of(
    path: Path, against: Path | None, *, distance: str, sample: int, seed: int, top: int, out: Path | None
) -> Answer:
    """The most central and most outlying documents of an index; with `against`, those of another in its corpus."""
    from .index.opening import open_index

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
    from .commands import snippet

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
