"""Sparse vectors in a compressed inverted index, searched exactly or nearly so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Self

from ..errors import InputError, UsageError, suggest
from ..records import Document, Ranking
from ..registry import register
from ..vectors import EncoderSpec, Sparse
from .block_max import search
from .build import build_index
from .filtering import selected_rows
from .id_ranks import open_ranks
from .inversion import STORAGE
from .inverted_writer import FOLDER, InvertedWriter
from .manifest import Manifest, Plan
from .of_encoder import OfEncoder
from .postings import Postings
from .texts import TextStore

logger = logging.getLogger("cribble")


@register("inverted")
class InvertedIndex(OfEncoder):
    """An index of one bag of weighted terms per document (learned sparse vectors), by terms.

    A score is the sum over common terms of the query's weight times the stored one, in float64, terms in ascending order;
    equal scores order by document id descending, also at the cut. Only documents with a common term are found.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.texts = TextStore(path, manifest)
        self.terms = manifest.encoder.dim if manifest.encoder else 0
        self.score_kind: str = manifest.encoder.similarity if manifest.encoder else "dot"
        whole = manifest.whole_folder(path)
        self.postings = Postings.open(whole / FOLDER)
        self._ranks = open_ranks(whole)

    @classmethod
    def build(
        cls,
        path: str | Path,
        documents: Iterable[Document],
        encode: Callable[[list[Document]], Sparse],
        *,
        spec: EncoderSpec,
        corpus: str,
        total: int | None = None,
        shard_documents: int = 4096,
        storage: str = "uint8",
        truncated: Callable[[], int] | None = None,
        overwrite: bool = False,
    ) -> Self:
        """Encode `documents` into the folder `path`, or go on with a build that was interrupted there (see build.py).

        `spec` is the identity of `encode`, its `dim` the size of the vocabulary. `storage` is how lists keep weights:
        `uint8` or `uint16`, multiples of one step (exact if all weights are whole and not too large), or `float32`,
        exact. The shards keep them exactly in any case, 3 to 6 bytes each, so that the index can be changed.
        `truncated` returns the encoder's running count of cut texts. Memory holds a shard, and 16 million postings.
        Errors: those of `build_index`; `InputError` for vectors that do not fit; `UsageError` for an unknown storage.
        """
        if storage not in STORAGE:
            raise UsageError(f"inverted index: storage {storage!r} is unknown: {suggest(storage, STORAGE)}")
        if spec.dim < 1:
            raise InputError(
                f"inverted index: the encoder spec of {spec.model!r} has dim {spec.dim}, expected the vocabulary's size"
            )
        if spec.similarity != "dot" and not spec.normalised:
            raise UsageError(
                f"inverted index: the encoder {spec.model!r} is compared by {spec.similarity} and its vectors are not of "
                f"unit length: products of weights are added up here as they are, so it has to be dot"
            )
        writer = InvertedWriter(encode, spec.dim, storage, truncated)
        plan = Plan("inverted", corpus, shard_documents, {"storage": storage}, spec)
        manifest = build_index(path, documents, writer, plan, total=total, overwrite=overwrite)
        if empty := manifest.counts["empty_vectors"]:
            logger.warning("%s: %d documents have no terms: no query finds them", path, empty)
        return cls.open(path, verify=False)

    @classmethod
    def change_writer(
        cls,
        manifest: Manifest,
        encode: Callable[[list[Document]], Sparse],
        truncated: Callable[[], int] | None = None,
    ) -> InvertedWriter:
        """What adds to, deletes from and compacts the index of this `manifest` (changes.py). Lists are written anew."""
        terms = manifest.encoder.dim if manifest.encoder else 0
        return InvertedWriter(encode, terms, manifest.options["storage"], truncated)

    def search(
        self,
        queries: Sparse,
        k: int,
        *,
        allow: Collection[str] | None = None,
        deny: Collection[str] | None = None,
        where: str | None = None,
        approx: float = 0.0,
    ) -> list[Ranking]:
        """Per query the best `k` documents: ids (m,) str objects and scores (m,) float64, best first, m <= k.

        `allow`, `deny` and `where` limit the search, see `filtering.selected_rows`. `approx`, from 0 (exact) to below 1,
        leaves out those terms of a query that together can make at most this share of a score (block_max.py): faster,
        and scores lack them. Raises `InputError` for queries over another vocabulary.
        """
        mask = selected_rows(self.texts, allow=allow, deny=deny, where=where)
        found = search(self.postings, queries, k, ranks=self._ranks, mask=mask, approx=approx)
        return [Ranking(self.texts.kept_ids_at(rows), scores) for scores, rows in found]
