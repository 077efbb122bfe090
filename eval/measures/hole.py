"""Hole: share of the best k that is judged for no query at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...registry import register
from ..engine import Joined
from ..measure import Measure


@register("Hole")
@dataclass(frozen=True, repr=False)
class Hole(Measure):
    """Documents among the best k that the judgements know for no query at all, over k (BEIR's Hole@k).

    Weaker than Unjudged: a document that was judged for another query is no hole.
    """

    takes_cutoff = "required"
    merit = "none"

    def values(self, joined: Joined) -> np.ndarray:
        query, row = joined.listed(self.cutoff)
        known = pc.is_in(joined.run.doc_ids.take(pa.array(row)), value_set=joined.qrels.doc_ids)
        hole = ~known.to_numpy(zero_copy_only=False).astype(bool)
        return joined.count(query[hole]) / float(self.cutoff or 1)
