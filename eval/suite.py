"""Suites of collections as data: a YAML file each in `suites/`. Which sets belong, where they are found, what is known of
them, and over which of them a mean has a name.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from ..corpora import load_dataset
from ..corpora.dataset import Dataset
from ..corpora.facts import beir_sets
from ..errors import CribbleError, InputError, UsageError, suggest
from ..yaml_files import check_card, read_mapping

logger = logging.getLogger("cribble")

_FOLDER = Path(__file__).parent / "suites"

#: What becomes of hits with the query's own id: those of the sets whose facts say so are dropped, all, or none.
SELF_MATCHES = ("listed", "always", "never")

_SUITE_KEYS: dict[str, Any] = {
    "title": str,
    "source": str,
    "measures": str,
    "datasets": list[str],
    "means": dict[str, Any],
    "variants": list[str],
    "self_match": str,
    "rank": str,
    "sets": dict[str, Any],
}
_SET_KEYS: dict[str, Any] = {
    "queries": int,
    "documents": int,
    "relevant": int,
    "parts": int,
    "drop_self": bool,
    "rank": str,
    "id": str,
    "note": str,
}


@dataclass(frozen=True)
class SuiteSet:
    """What is known of one set: numbers of queries, documents and relevant pairs in its default split, parts that count as
    one. `rank` is `corpus`, or `candidates` where each query's judged documents are all that is ranked.
    """

    name: str
    queries: int | None = None
    documents: int | None = None
    relevant: int | None = None
    parts: int = 0
    drop_self: bool | None = None
    rank: str = "corpus"
    id: str = ""
    note: str = ""


@dataclass(frozen=True)
class Suite:
    """A named group of sets. `datasets` are the forms in which a set is looked for, in this order: `{data}` stands for the
    data folder, `{set}` and `{id}` for the set, `{variant}` for the chosen one of `variants`. `means` has the sets of each labelled mean.
    """

    name: str
    title: str
    source: str
    measures: str
    datasets: tuple[str, ...]
    sets: Mapping[str, SuiteSet]
    means: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    variants: tuple[str, ...] = ()
    variant: str = ""
    self_match: str = "listed"

    def with_choices(self, *, self_match: str | None = None, variant: str | None = None) -> Suite:
        """The suite with another policy on self-matches, or with a variant of its queries."""
        if self_match is not None and self_match not in SELF_MATCHES:
            raise UsageError(f"self_match={self_match!r}: {suggest(self_match, SELF_MATCHES)}")
        if variant is not None and variant not in self.variants:
            raise UsageError(f"suite:{self.name} has no variant {variant!r}: {suggest(variant, self.variants)}")
        return replace(self, self_match=self_match or self.self_match, variant=variant or self.variant)

    def chosen(self, only: Sequence[str]) -> list[SuiteSet]:
        """The sets named by `only`, in the suite's order; all for none."""
        for name in only:
            if name not in self.sets:
                raise UsageError(f"suite:{self.name} has no set {name!r}: {suggest(name, self.sets)}")
        return [item for name, item in self.sets.items() if not only or name in only]


@dataclass(frozen=True)
class Found:
    """A set that is here, as a dataset; `remarks` say where it differs from what the suite knows of it."""

    item: SuiteSet
    dataset: Dataset
    remarks: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether all parts are here, of a set whose score is the mean over its parts."""
        return not self.item.parts or len(self.dataset.parts) == self.item.parts


@dataclass(frozen=True)
class Absent:
    """A set that can't be had, and why."""

    item: SuiteSet
    reason: str


def suite_names() -> list[str]:
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


@cache
def load_suite(name: str) -> Suite:
    """The suite of this name; `UsageError` with the nearest spelling for an unknown one."""
    if name not in suite_names():
        raise UsageError(f"suite:{name} is unknown: {suggest(name, suite_names())}")
    return read_suite(_FOLDER / f"{name}.yaml")


def read_suite(path: Path) -> Suite:
    """Read and check a suite's file; unknown keys, types and names of sets raise `InputError`."""
    content = read_mapping(path)
    check_card(f"{path.name}", content, _SUITE_KEYS)
    for key in ("title", "measures", "datasets", "sets"):
        if not content.get(key):
            raise InputError(f"{path}: the key {key!r} is missing")
    rank = content.pop("rank", "corpus")
    sets = {}
    for name, facts in content["sets"].items():
        check_card(f"{path.name}: {name}", facts, _SET_KEYS)
        sets[name] = SuiteSet(name, **({"rank": rank} | facts))
        if sets[name].rank not in ("corpus", "candidates"):
            raise InputError(f"{path}: {name} has rank {sets[name].rank!r}, expected corpus or candidates")
    means = {
        label: tuple(sets) if names == "all" else tuple(names) for label, names in content.get("means", {}).items()
    }
    for label, names in means.items():
        if unknown := [name for name in names if name not in sets]:
            raise InputError(f"{path}: {label!r} is over {unknown[0]!r}, which is no set of the suite")
    return Suite(
        name=path.stem,
        title=content["title"],
        source=content.get("source", ""),
        measures=content["measures"],
        datasets=tuple(content["datasets"]),
        sets=sets,
        means=means,
        variants=tuple(content.get("variants", ())),
        self_match=content.get("self_match", "listed"),
    )


def find_set(suite: Suite, item: SuiteSet, data: Path | None, *, fetch: bool = True) -> Found | Absent:
    """The set from the first place that has it: the data folder, what was downloaded before, or, with `fetch`, a download."""
    reasons = []
    for form in suite.datasets:
        if "{data}" in form and data is None:
            continue
        if "{id}" in form and suite.variant:
            continue  # a source without the variants' texts
        spec = form.format(
            data=data, set=item.name, id=item.id or item.name, variant=f"+{suite.variant}" if suite.variant else ""
        )
        if "{data}" not in form and not fetch:
            reasons.append(f"{spec} would be looked for")
            continue
        folder = spec.partition(":")[2].rpartition("@")[0] or spec.partition(":")[2]
        if "{data}" in form and not Path(folder).exists():
            reasons.append(f"{folder} does not exist")
            continue
        try:
            dataset = _load(spec)
        except CribbleError as error:
            reasons.append(str(error))
            continue
        return settle(suite, item, dataset)
    return Absent(item, "; ".join(reasons) or "no data folder is given (--data or CRIBBLE_DATA)")


def _load(spec: str) -> Dataset:
    scheme, _, task = spec.partition(":")
    if scheme == "mteb":
        from .mteb_tasks import load_task

        return load_task(task)
    return load_dataset(spec)


def settle(suite: Suite, item: SuiteSet, dataset: Dataset) -> Found:
    """The set by the suite's rules (measures, self-matches), with what differs from the suite's facts."""
    dataset.measures = suite.measures
    for part in dataset.parts.values() or [dataset]:
        part.measures = suite.measures
        if suite.self_match != "listed":
            part.drop_self = suite.self_match == "always"
        elif item.drop_self is not None:
            part.drop_self = item.drop_self
    return Found(item, dataset, tuple(_remarks(item, dataset)))


def _remarks(item: SuiteSet, dataset: Dataset) -> list[str]:
    parts = list(dataset.parts.values()) or [dataset]
    found: dict[str, int | None] = {"queries": sum(len(part.queries) for part in parts)}
    if item.parts:
        found["parts"] = len(dataset.parts)
    if all(part.qrels is not None for part in parts):
        found["relevant"] = sum(int((part.qrels.labels > 0).sum()) for part in parts if part.qrels is not None)
    if not item.parts:
        found["documents"] = dataset.num_documents
    return [
        f"{item.name} has {number:,} {what} here, the suite's facts say {known:,}: its score is not comparable"
        for what, number in found.items()
        if number is not None and (known := getattr(item, what)) and known != number
    ]


def canonical_name(dataset_id: str) -> str:
    """How a data set is called in results: `beir/NAME` for a set of BEIR in its default split, else its own id."""
    scheme, _, rest = dataset_id.partition(":")
    place, _, split = rest.partition("@")
    name = place.rstrip("/").rpartition("/")[2]
    known = beir_sets().get(name)
    if scheme in ("beir", "ir_datasets") and known is not None and split in ("", known.default_split):
        return f"beir/{name}"
    return dataset_id


def data_folder(given: str | Path | None) -> Path | None:
    """The folder with collections: as given, or the environment variable CRIBBLE_DATA; None without either."""
    folder = given or os.environ.get("CRIBBLE_DATA")
    if not folder:
        return None
    if not Path(folder).is_dir():
        raise InputError(f"the data folder {str(folder)!r} does not exist")
    return Path(folder)
