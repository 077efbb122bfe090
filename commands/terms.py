"""The terms of a corpus: terms."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..corpora import load_dataset
from ..envelope import Answer, Table
from ..errors import InputError, UsageError
from ..files import numbered_lines, write_whole

if TYPE_CHECKING:
    from ..eval.terms import Candidates


@dataclass(frozen=True)
class Extraction:
    """Which candidates there are and how they are scored first; see `eval.terms`."""

    base: str = "c-value"
    max_words: int = 4
    min_frequency: int = 2
    documents: int | None = None


@dataclass(frozen=True, eq=False)
class _Scored:
    """Candidates with their scores (t,) before and after, and both orders."""

    found: Candidates
    base: np.ndarray
    revised: np.ndarray
    importance: np.ndarray
    by_base: list[str]
    order: list[str]
    seeds: int


def extract_terms(
    dataset: str,
    out: Path,
    extraction: Extraction,
    *,
    seeds: Path | None,
    top_seeds: int,
    model: str | None,
    known: Path | None,
    top: int,
    options: dict[str, Any],
) -> Answer:
    """Extract a dataset's terms, revise their scores by SemRe-Rank, and write them best first.

    `seeds` is a file of terms, else the best `top_seeds` by the base score personalise PageRank. `known` is a file of
    true terms: how many of the best are among them, before and after. `options` are of the graphs or the encoder.
    """
    if top_seeds < 1 or top < 0:
        raise UsageError(f"--top-seeds {top_seeds}, --top {top}: expected at least 1, and at least 0")
    true = frozenset(line.lower() for line in _lines(known)) if known else None
    start = time.perf_counter()
    scored = _scored(dataset, extraction, _lines(seeds) if seeds else top_seeds, model, options)
    place = _write(scored, out)
    results: dict[str, Any] = {
        "terms": len(scored.order),
        "documents": scored.found.size,
        "base": extraction.base,
        "seeds": scored.seeds,
        "out": str(out),
        "best": scored.order[:top],
        "seconds": round(time.perf_counter() - start, 3),
    }
    rank = {term: i for i, term in enumerate(scored.by_base, 1)}
    rows = [
        [term, f"{scored.revised[place[term]]:.3f}", f"{scored.importance[place[term]]:.3f}", str(rank[term])]
        for term in scored.order[:top]
    ]
    tables = [Table(["term", "score", "importance", f"rank by {extraction.base}"], rows)]
    if true is not None:
        tables.append(_compared(scored, true, results))
    return Answer(results, tables, [f"{out}: {len(scored.order):,} terms of {scored.found.size:,} documents"])


def _scored(
    dataset: str, extraction: Extraction, seeds: list[str] | int, model: str | None, options: dict[str, Any]
) -> _Scored:
    from ..eval.semantic_importance import Graphs, revised_scores
    from ..eval.terms import base_scores, candidates
    from ..models.encoders import make_encoder

    own = {name: options[name] for name in ("similarity", "share", "damping") if name in options}
    graphs = Graphs(**own)
    found = candidates(
        islice(load_dataset(dataset).documents(), extraction.documents),
        max_words=extraction.max_words,
        min_frequency=extraction.min_frequency,
    )
    base = base_scores(found, extraction.base)
    by_base = _ranked(found.terms, base)
    given = by_base[:seeds] if isinstance(seeds, int) else seeds
    encoder = make_encoder(model, **{name: value for name, value in options.items() if name not in own})
    revised, importance = revised_scores(found, base, given, encoder, graphs)
    return _Scored(found, base, revised, importance, by_base, _ranked(found.terms, revised), len(given))


def _write(scored: _Scored, out: Path) -> dict[str, int]:
    """Write the terms best first; where each stands among the candidates."""
    place = {term: i for i, term in enumerate(scored.found.terms)}
    rank = {term: i for i, term in enumerate(scored.by_base, 1)}
    with write_whole(out) as stream:
        stream.write(b"term\tscore\tbase\timportance\tfrequency\tdocuments\trank_by_base\n")
        for term in scored.order:
            i = place[term]
            scores = f"{scored.revised[i]:.6g}\t{scored.base[i]:.6g}\t{scored.importance[i]:.6g}"
            counts = f"{scored.found.frequency[i]}\t{scored.found.documents[i]}\t{rank[term]}"
            stream.write(f"{term}\t{scores}\t{counts}\n".encode())
    return place


def _compared(scored: _Scored, true: frozenset[str], results: dict[str, Any]) -> Table:
    from ..eval.terms import precision_at

    results["by_base"], results["revised"] = precision_at(scored.by_base, true), precision_at(scored.order, true)
    names = list(results["revised"])
    rows = [[what, *(f"{results[what][name]:.4f}" for name in names)] for what in ("by_base", "revised")]
    return Table(["terms", *names], rows)


def _ranked(terms: Sequence[str], scores: np.ndarray) -> list[str]:
    """Best first, equal scores in alphabetical order."""
    alphabetical = sorted(range(len(terms)), key=lambda i: terms[i])
    return [terms[i] for i in sorted(alphabetical, key=lambda i: -scores[i])]


def _lines(path: Path) -> list[str]:
    lines = [line.strip() for _, line in numbered_lines(path) if line.strip()]
    if not lines:
        raise InputError(f"{path} is empty: expected one term a line")
    return lines
