"""The terms of a corpus: terms."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..corpora import load_dataset
from ..envelope import Answer, Table
from ..errors import InputError, UsageError
from ..files import numbered_lines, write_whole

logger = logging.getLogger("cribble")


@dataclass(frozen=True)
class Extraction:
    """Which candidates there are and how they are scored first; see `eval.terms`."""

    base: str = "c-value"
    max_words: int = 4
    min_frequency: int = 2
    documents: int | None = None


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
    true terms: how many of the best are among them, before and after.
    """
    from ..eval.semantic_importance import Graphs, revised_scores
    from ..eval.terms import base_scores, candidates, precision_at
    from ..models.encoders import make_encoder

    if top_seeds < 1 or top < 0:
        raise UsageError(f"--top-seeds {top_seeds}, --top {top}: expected at least 1, and at least 0")
    graphs = Graphs(**{name: options.pop(name) for name in ("similarity", "share", "damping") if name in options})
    start = time.perf_counter()
    documents = load_dataset(dataset).documents()
    found = candidates(
        (document for i, document in enumerate(documents) if extraction.documents is None or i < extraction.documents),
        max_words=extraction.max_words,
        min_frequency=extraction.min_frequency,
    )
    base = base_scores(found, extraction.base)
    by_base = _ranked(found.terms, base)
    given = _lines(seeds) if seeds else by_base[:top_seeds]
    revised, importance = revised_scores(found, base, given, make_encoder(model, **options), graphs)
    order = _ranked(found.terms, revised)
    place = {term: i for i, term in enumerate(found.terms)}
    before = {term: rank for rank, term in enumerate(by_base, 1)}
    with write_whole(out) as stream:
        stream.write(b"term\tscore\tbase\timportance\tfrequency\tdocuments\trank_by_base\n")
        for term in order:
            i = place[term]
            row = f"{revised[i]:.6g}\t{base[i]:.6g}\t{importance[i]:.6g}\t{found.frequency[i]}\t{found.documents[i]}"
            stream.write(f"{term}\t{row}\t{before[term]}\n".encode())
    results: dict[str, Any] = {
        "terms": len(found.terms),
        "documents": found.size,
        "base": extraction.base,
        "seeds": len(given),
        "out": str(out),
        "best": order[:top],
        "seconds": round(time.perf_counter() - start, 3),
    }
    rows = [
        [term, f"{revised[place[term]]:.3f}", f"{importance[place[term]]:.3f}", str(before[term])]
        for term in order[:top]
    ]
    tables = [Table(["term", "score", "importance", f"rank by {extraction.base}"], rows)]
    if known is not None:
        true = frozenset(line.lower() for line in _lines(known))
        results["by_base"], results["revised"] = precision_at(by_base, true), precision_at(order, true)
        names = list(results["revised"])
        tables.append(
            Table(
                ["terms", *names],
                [[what, *(f"{results[what][n]:.4f}" for n in names)] for what in ("by_base", "revised")],
            )
        )
    return Answer(results, tables, [f"{out}: {len(order):,} terms of {found.size:,} documents"])


def _ranked(terms: Sequence[str], scores: np.ndarray) -> list[str]:
    """Best first, equal scores in alphabetical order."""
    alphabetical = sorted(range(len(terms)), key=lambda i: terms[i])
    return [terms[i] for i in sorted(alphabetical, key=lambda i: -scores[i])]


def _lines(path: Path) -> list[str]:
    lines = [line.strip() for _, line in numbered_lines(path) if line.strip()]
    if not lines:
        raise InputError(f"{path} is empty: expected one term a line")
    return lines
