"""Work saved over sampling: screening that may stop before its end."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...registry import register
from ..engine import Joined
from ..measure import Measure


@register("WSS")
@dataclass(frozen=True, repr=False)
class WorkSaved(Measure):
    """Work saved over sampling (Cohen et al. 2006): at WSS@95, the share of the documents that need no reading once 95 %
    of the relevant ones are found, less the 5 % that reading at random would save.

    (N - r) / N - (1 - k / 100), r being the rank of relevant document number round(k / 100 · R), at least 1, half to even as in
    CLEF-TAR's script (R = 10 → 10, R = 30 → 28), and 0 where so many are not found. N counts the judged documents
    (label >= 0), or those retrieved where they are more. `rel` is the lowest label that counts as relevant.
    """

    takes_cutoff = "required"
    percent = True
    rel: int = 1

    def values(self, joined: Joined) -> np.ndarray:
        share = float(self.cutoff or 100) / 100
        relevant = joined.num_relevant(self.rel)
        wanted = np.round(relevant * share).astype(np.int64)
        query, rank = joined.relevant(self.rel)
        found = joined.count(query)
        enough = (found > 0) & (found >= wanted)
        last = np.zeros(len(relevant), np.int64)
        last[enough] = rank[(np.cumsum(found) - found + np.maximum(wanted, 1) - 1)[enough]]
        size = screened(joined)
        return np.where(enough, (size - last) / np.maximum(size, 1) - (1 - share), 0.0)


def screened(joined: Joined) -> np.ndarray:
    """How many documents each query's screening has (q,) int64: those judged, or retrieved where they are more."""
    return np.maximum(joined.num_relevant(0), joined.retrieved)
