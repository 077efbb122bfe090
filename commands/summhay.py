"""SummHay's scores of judged summaries: summhay."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..envelope import Answer, Table
from ..errors import InputError


def score_files(paths: Sequence[Path], key: str | None) -> Answer:
    """Coverage, citation and joint scores of the judged summaries in haystack files, of all keys or of one."""
    from ..eval.summhay import score_haystacks, summary_keys

    haystacks = [_haystack(path) for path in paths]
    keys = (
        [key] if key is not None else list(dict.fromkeys(k for haystack in haystacks for k in summary_keys(haystack)))
    )
    if not keys:
        raise InputError(f"{paths[0]}: no summary is judged (eval_summaries of its subtopics)")
    found = {name: score_haystacks(haystacks, name) for name in keys}
    rows = []
    for name, s in sorted(found.items(), key=lambda item: -item[1].joint):
        means = ["—" if value is None else f"{value:.4f}" for value in (s.coverage, s.citation, s.joint)]
        rows.append([name, *means, str(s.insights), str(s.covered), str(s.unmatched)])
    note = "Coverage and joint are over all insights, citation over the covered ones; unmatched: no such bullet, no citations."
    columns = ["summary", "coverage", "citation", "joint", "insights", "covered", "unmatched"]
    return Answer({name: asdict(scores) for name, scores in found.items()}, [Table(columns, rows, notes=[note])])


def _haystack(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no haystack could be read ({error}): expected the JSON of SummHay") from error
    lists = [content.get(name) for name in ("documents", "subtopics")] if isinstance(content, dict) else [None]
    if not all(isinstance(part, list) for part in lists):
        raise InputError(f"{path}: no haystack: expected an object with the lists documents and subtopics")
    return dict(content)
