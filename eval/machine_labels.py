"""Labels that a machine gave: whoever scores by them is told how many there were."""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Qrels
from .grammar import parse_measures
from .measure import Measure


def with_machine(measures: Iterable[Measure], qrels: Qrels) -> list[Measure]:
    """The measures and, where some of the labels are a machine's, for each cutoff the `Machine@k` that says how many."""
    chosen = list(measures)
    if not qrels.has_machine_labels:
        return chosen
    share = parse_measures("Machine")[0]
    wanted: list[Measure] = []
    for measure in chosen:
        wanted += [measure, share.with_cutoff(None if measure.percent else measure.cutoff)]
    return list(dict.fromkeys(wanted))
