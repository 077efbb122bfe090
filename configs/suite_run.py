"""Runs a config on the sets of a suite: those that are here or can be had, one experiment each, and the suite's means."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..corpora.dataset import Dataset
from ..errors import InputError
from ..eval.evaluation import Evaluation
from ..eval.suite import Absent, Found, Suite, find_set
from ..files import write_whole
from ..records import Run
from ..registry import find, option_names
from ..stage import Retriever
from .building import stage_names
from .experiment import Experiment, run_experiment
from .schema import parse_config, read_config

logger = logging.getLogger("cribble")


@dataclass
class SuiteRun:
    """What ran of a suite: an experiment by set, the sets that are absent, and remarks on sets that are not the official ones."""

    suite: Suite
    folder: Path
    experiments: dict[str, Experiment]
    absent: tuple[Absent, ...]
    remarks: tuple[str, ...]
    #: Sets of which some parts are absent: a labelled mean is not over such.
    partial: frozenset[str] = frozenset()

    def score(self, system: str, set_name: str, measure: str) -> float | None:
        if set_name not in self.experiments:
            return None
        return _of(self.experiments[set_name], system).mean(measure)

    def means(self, measure: str) -> dict[str, dict[str, float | None]]:
        """Label → system → mean over the sets; None where one of them has no score. Last, under a label that says so, the
        mean over the sets that ran, where they are not all that a label asks for.
        """
        systems = list(next(iter(self.experiments.values())).config.pipeline)
        labelled = dict(self.suite.means)
        ran = tuple(self.experiments)
        if len(ran) > 1 and set(ran) not in [set(names) for names in labelled.values()]:
            labelled[f"mean of the {len(ran)} that ran, of {len(self.suite.sets)}"] = ran
        table: dict[str, dict[str, float | None]] = {}
        for label, names in labelled.items():
            whole = label not in self.suite.means or self.partial.isdisjoint(names)
            scores = {
                system: [self.score(system, name, measure) if whole else None for name in names] for system in systems
            }
            table[label] = {
                system: None if None in row else float(np.mean([value for value in row if value is not None]))
                for system, row in scores.items()
            }
        return table

    def holes(self) -> list[str]:
        """One sentence for each labelled mean that lacks sets, and for each set that is absent."""
        lines = []
        for label, names in self.suite.means.items():
            missing = [name for name in names if name not in self.experiments or name in self.partial]
            if missing:
                listed = ", ".join(missing[:6]) + (", …" if len(missing) > 6 else "")
                count = f"{len(missing)} of its {len(names)} sets"
                lines.append(f"No {label}: {count} did not run, or are not whole ({listed}).")
        lines += [f"{item.item.name} is absent: {item.reason}." for item in self.absent]
        return lines

    def to_dict(self) -> dict[str, Any]:
        measures = [str(measure) for measure in _measures(self.experiments)]
        return {
            "suite": self.suite.name,
            "self_match": self.suite.self_match,
            "variant": self.suite.variant,
            "sets": {name: done.report.to_dict()["runs"] for name, done in self.experiments.items()},
            "means": {measure: self.means(measure) for measure in measures},
            "absent": {item.item.name: item.reason for item in self.absent},
            "holes": self.holes(),
            "remarks": list(self.remarks),
            "folder": str(self.folder),
        }


def run_suite(
    suite: Suite,
    config: Mapping[str, Any],
    *,
    only: Sequence[str] = (),
    data: Path | None = None,
    out: str | Path | None = None,
) -> SuiteRun:
    """Run the systems of `config` (an experiment's keys but `dataset`) on the suite's sets, by its measures and the config's.

    Each set is an experiment of its own in `out/SET`, so a killed run goes on where it stopped. Sets that can't be had are
    listed, with the reason; `InputError` when that is all of them. suite.json in `out` has the scores, means and holes.
    """
    folder = Path(out) if out else Path("runs") / f"suite-{suite.name}"
    located = [find_set(suite, item, data) for item in suite.chosen(only)]
    absent = tuple(item for item in located if isinstance(item, Absent))
    found = [item for item in located if isinstance(item, Found)]
    for item in absent:
        logger.warning("%s is left out: %s", item.item.name, item.reason)
    if not found:
        raise InputError(f"suite:{suite.name}: none of its sets is here ({absent[0].item.name}: {absent[0].reason})")
    remarks = tuple(remark for item in found for remark in item.remarks)
    for remark in remarks:
        logger.warning("%s", remark)
    experiments = {}
    for here in found:
        logger.info("%s: %s", here.item.name, here.dataset.id)
        experiments[here.item.name] = _run_set(suite, here, config, folder)
    partial = frozenset(item.item.name for item in found if not item.whole)
    done = SuiteRun(suite, folder, experiments, absent, remarks, partial)
    with write_whole(folder / "suite.json") as stream:
        stream.write(json.dumps(done.to_dict(), ensure_ascii=False, indent=1).encode() + b"\n")
    return done


def _run_set(suite: Suite, found: Found, config: Mapping[str, Any], folder: Path) -> Experiment:
    item, dataset = found.item, found.dataset
    data: dict[str, Any] = json.loads(json.dumps(config)) | {"dataset": dataset.id}
    more = data.get("measures") or ""
    data["measures"] = " ".join([suite.measures, *([more] if isinstance(more, str) else more)])
    finish = None
    if item.rank == "candidates":
        only_candidates(dataset)
        finish = whole_candidates
        retrieve_all(data["pipeline"], dataset.num_documents or 1)
    name = f"{suite.name}/{item.name}"
    if not found.whole:
        name += f" ({len(dataset.parts)} of {item.parts} parts)"
    return run_experiment(
        parse_config(data), folder / item.name, dataset=dataset, finish=finish, suite=suite.name, set_name=name
    )


# ---- each query has its own candidates ------------------------------------------------------------------------------


def only_candidates(dataset: Dataset) -> None:
    """Exclude, for each query, all documents that are no candidates of its own: `Dataset.candidates`, or those judged."""
    everything = frozenset(document.id for document in dataset.documents())
    dataset.num_documents = len(everything)
    candidates = candidates_of(dataset)
    for query in dataset.queries:
        dataset.excluded[query.id] = everything.difference(candidates.get(query.id, ()))


def candidates_of(dataset: Dataset) -> dict[str, list[str]]:
    source = dataset.candidates if dataset.candidates is not None else dataset.qrels
    return {} if source is None else {query_id: source.ids(query_id) for query_id in source}


def whole_candidates(dataset: Dataset, run: Run) -> tuple[Run, list[str]]:
    """The run with all candidates of each query: those that it lacks stand last, in descending order of id."""
    candidates = candidates_of(dataset)
    rankings, added = [], 0
    for query_id, (ids, scores) in run.items():
        found = set(ids.tolist())
        rest = sorted((i for i in candidates.get(query_id, ()) if i not in found), reverse=True)
        added += len(rest)
        low = float(scores[-1]) if len(scores) else 0.0
        below = low - np.arange(1, len(rest) + 1) * max(1.0, abs(low) * 1e-6)
        rankings.append((query_id, [*ids.tolist(), *rest], np.concatenate([scores, below])))
    notes = [f"{added:,} candidates were not retrieved and stand last, in descending order of id"] if added else []
    return Run.from_rankings(rankings, **run.facts()), notes


def retrieve_all(pipeline: Any, documents: int) -> None:
    """Set `k` of all retrievers in a config's stages to the number of documents, as all candidates are to be ranked."""
    for stage in _stages(pipeline):
        room = stage_names().get(str(stage.get("use")))
        cls = find(room, stage["use"]) if room else None
        if cls is not None and issubclass(cls, Retriever) and "k" in option_names(cls):
            stage["k"] = documents


def _stages(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, Mapping):
        if "use" in value:
            yield value  # type: ignore[misc]
        for inner in value.values():
            yield from _stages(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _stages(inner)


def _of(experiment: Experiment, system: str) -> Evaluation:
    return next(item.evaluation for item in experiment.systems if item.name == system)


def _measures(experiments: Mapping[str, Experiment]) -> Any:
    return next(iter(experiments.values())).report.measures


def suite_config(path: str, overrides: Sequence[str]) -> dict[str, Any]:
    """A config for suites as data, with `key=value` overrides: an experiment's, whose `dataset` gives way to the suite's sets."""
    data = read_config(path, overrides)
    given = data.pop("dataset", None)
    if given is not None:
        logger.info("%s: its dataset %s is not used, the suite has its own", path, given)
    return data
