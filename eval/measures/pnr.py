"""Positive-negative ratio of pairs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from ...registry import register
from ..engine import Joined
from ..measure import Measure


@register("PNR")
@dataclass(frozen=True, repr=False)
class PositiveNegativeRatio(Measure):
    """Positive-negative ratio: pairs of judged documents in the best k whose labels differ and whose scores agree with
    the labels, over those whose scores disagree; equal scores are neither. Queries are taken together.

    One ratio for the whole run: a query's value is its agreeing pairs over the mean number of disagreeing ones. Raises
    `InputError` where no pair disagrees, as the ratio does not exist then.
    """

    def values(self, joined: Joined) -> np.ndarray:
        keep = (joined.label >= 0) & (joined.rank <= (self.cutoff or joined.rank.max(initial=0)))
        query, label, row = joined.query[keep], joined.label[keep], joined.row[keep]
        with np.errstate(over="ignore"):
            score = joined.run.scores[row].astype(joined.ties)
        agree, disagree = np.zeros(len(joined.query_ids)), 0
        for at in np.split(np.arange(len(query)), np.flatnonzero(np.diff(query)) + 1):
            if len(at):
                signs = np.sign(label[at, None] - label[at]) * np.sign(score[at, None] - score[at])
                agree[query[at[0]]] = (signs > 0).sum() / 2
                disagree += int((signs < 0).sum()) // 2
        if not disagree:
            raise InputError(
                f"PNR: in the run {joined.run.name!r} no pair of documents stands against its labels, so there is no "
                "ratio: take another measure, such as nDCG"
            )
        return agree * len(agree) / disagree
