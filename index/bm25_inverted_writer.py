"""What a build for BM25 without Java writes: counts of terms into each shard, over all of them their vocabulary and lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..progress import Advance
from ..records import Document
from ..vectors import Sparse
from .analysis.vocabulary import joined, write_vocabulary
from .bm25_counts import ShardCounts, write_counts
from .id_ranks import write_ranks
from .inversion import invert

#: The sub-folder of `whole/` with the lists.
FOLDER = "postings"


class Bm25Writer:
    """Analyses the documents of a shard (bm25_counts.py) and, over all shards, inverts the counts (inversion.py)."""

    libraries: ClassVar[Sequence[str]] = ("numpy", "numba", "pyarrow")

    def write(self, folder: Path, documents: list[Document], advance: Advance) -> Mapping[str, int]:
        write_counts(folder, documents, advance)
        return {}

    def finish(self, folder: Path, shards: list[Path]) -> Mapping[str, int]:
        documents = write_ranks(folder)
        counts = [ShardCounts(shard) for shard in shards]
        terms = joined([shard.terms for shard in counts])
        write_vocabulary(folder, terms)
        (folder / FOLDER).mkdir()
        about = invert(folder / FOLDER, _blocks(counts, terms), documents, len(terms), payload="count")
        return {"terms": len(terms), "postings": about["postings"]}


def _blocks(shards: list[ShardCounts], terms: pa.Array) -> Iterator[Sparse]:
    """All counts in the order of the documents; `terms` is the vocabulary of all shards."""
    for shard in shards:
        numbers = pc.index_in(shard.terms.terms(), value_set=terms).to_numpy().astype(np.int32)
        for indptr, ids, counts in shard:  # numbers ascend, so terms stay in order
            yield Sparse(indptr, numbers[ids], counts.astype(np.float32), len(terms))
