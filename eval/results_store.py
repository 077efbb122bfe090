"""What systems scored, kept as files: one JSON per system and data set, written whole, with what it cost and what made it.

STORE/SYSTEM/DATASET.result.json
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import write_whole
from .evaluation import Evaluation
from .grammar import parse_measures

_ENDING = ".result.json"
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Result:
    """One system on one data set. `means` by measure; `values` by measure and query (q,), in the order of `query_ids`.

    `cost` may hold `seconds_per_query`, `tokens_per_query` and `index_bytes`. `manifest` is the SHA-256 of the run folder's manifest.
    `parts` (q,) numbers the sub-collection of each query where the score is the mean over those. A published number has neither
    queries nor values, but a `source` and a `setting`.
    """

    system: str
    dataset: str
    means: Mapping[str, float]
    query_ids: tuple[str, ...] = ()
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    parts: tuple[int, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    cost: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    suite: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    manifest: str = ""
    source: str = ""
    setting: str = ""

    @property
    def published(self) -> bool:
        return bool(self.source)

    @classmethod
    def of(cls, evaluation: Evaluation, dataset: str, **facts: Any) -> Result:
        """The result that an evaluation holds; `facts` are the other fields."""
        parts = () if evaluation.part_of_query is None else tuple(evaluation.part_of_query.tolist())
        return cls(
            system=evaluation.name,
            dataset=dataset,
            means=evaluation.means,
            query_ids=evaluation.query_ids,
            values={str(measure): tuple(evaluation[measure].tolist()) for measure in evaluation.measures},
            parts=parts,
            counts=evaluation.counts,
            **facts,
        )

    def evaluation(self, measure: str) -> Evaluation:
        """The per-query values of one measure as an evaluation, to be compared with another's."""
        weights = None
        if self.parts:
            sizes = np.bincount(self.parts)
            weights = 1 / (np.count_nonzero(sizes) * sizes[np.array(self.parts)])
        return Evaluation(
            name=self.system,
            query_ids=self.query_ids,
            measures=tuple(parse_measures(measure)),
            values=np.array(self.values[measure], np.float64)[:, None],
            weights=weights,
        )


def file_of(store: Path, result: Result) -> Path:
    """Where a result lies in the store."""
    return store / _slug(result.system) / f"{_slug(result.dataset)}{_ENDING}"


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.") or "unnamed"


def save_result(result: Result, store: Path) -> Path:
    """Write a result into the store, whole or not at all; one of the same system and data set is replaced."""
    path = file_of(store, result)
    if path.exists():
        other = read_result(path)
        if (other.system, other.dataset) != (result.system, result.dataset):
            raise InputError(
                f"{path} holds {other.system!r} on {other.dataset!r}, and {result.system!r} on {result.dataset!r} would "
                "overwrite it: give the system another name"
            )
    with write_whole(path) as stream:
        content = {"format": _FORMAT} | asdict(result)
        stream.write(json.dumps(content, ensure_ascii=False, default=str).encode() + b"\n")
    return path


def read_result(path: Path) -> Result:
    """Read one result; a file that is none is an `InputError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no JSON ({error})") from error
    if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
        raise InputError(f"{path}: no result of format {_FORMAT}: run the system again with this version")
    known = {item.name for item in fields(Result)}
    if missing := [name for name in ("system", "dataset", "means") if name not in content]:
        raise InputError(f"{path}: the result has no {missing[0]!r}")
    if unknown := sorted(content.keys() - known):
        raise InputError(f"{path}: the result has the unknown key {unknown[0]!r}")
    for name in ("query_ids", "parts", "notes"):
        content[name] = tuple(content.get(name, ()))
    content["values"] = {measure: tuple(row) for measure, row in content.get("values", {}).items()}
    for measure, row in content["values"].items():
        if len(row) != len(content["query_ids"]):
            raise InputError(f"{path}: {measure} has {len(row)} values for {len(content['query_ids'])} queries")
    return Result(**content)


def read_store(folder: Path) -> list[Result]:
    """All results beneath a folder. Two of one system on one data set are refused, as no table could show both."""
    return [result for _, result in stored(folder)]


def stored(folder: Path) -> list[tuple[Path, Result]]:
    """As `read_store`, with each result's file."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder with results")
    found: dict[tuple[str, str], Path] = {}
    results = []
    for path in sorted(folder.rglob(f"*{_ENDING}")):
        result = read_result(path)
        key = (result.system, result.dataset)
        if key in found:
            raise InputError(
                f"{path} and {found[key]} are both of {result.system!r} on {result.dataset!r}: remove one, or rename a system"
            )
        found[key] = path
        results.append((path, result))
    if not results:
        raise InputError(f"{folder} holds no results (*{_ENDING}): `cribble run` writes them into its folder")
    return results
