"""Learned sparse vectors in Lucene: Anserini's impact index, whose term frequencies are the weights, in whole numbers."""

from __future__ import annotations

import itertools
import logging
import struct
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

import numpy as np

from ..errors import InputError, UsageError
from ..progress import Advance
from ..records import Document, Ranking
from ..registry import register
from ..vectors import EncoderSpec, Sparse
from . import jvm
from .build import build_index
from .filtering import selected_rows
from .id_ranks import open_ranks
from .lucene import unpacked_hits
from .lucene_writer import FOLDER, LuceneWriter, lucene_errors, packed_batches
from .manifest import Manifest, Plan
from .of_encoder import OfEncoder
from .texts import TextStore

logger = logging.getLogger("cribble")

#: Documents that are encoded at a time.
_ENCODED_AT_ONCE = 4096

#: So many hits (8 bytes each) come back from Java in one call.
_HITS_PER_CALL = 1 << 21

#: Lucene's scores are float32, which holds all whole numbers up to here; its frequencies must stay below it too.
LARGEST = 1 << 24


class ImpactWriter(LuceneWriter):
    """Encodes documents and writes their terms into Lucene, weights as frequencies."""

    def __init__(
        self, encode: Callable[[list[Document]], Sparse], terms: int, truncated: Callable[[], int] | None = None
    ) -> None:
        self._analyzer = ""  # none: the documents come as terms
        self._encode, self._terms, self._truncated = encode, terms, truncated
        self._empty = 0

    def write(self, folder: Path, documents: list[Document], advance: Advance) -> Mapping[str, int]:
        before, self._empty = self._truncated() if self._truncated else 0, 0
        super().write(folder, documents, advance)
        counts = {"empty_vectors": self._empty}
        return counts | ({"truncated_texts": self._truncated() - before} if self._truncated else {})

    def batches(self, documents: list[Document]) -> Iterator[tuple[bytes, int]]:
        return packed_batches(self._encoded(documents))

    def _encoded(self, documents: list[Document]) -> Iterator[tuple[Document, bytes]]:
        for start in range(0, len(documents), _ENCODED_AT_ONCE):
            batch = documents[start : start + _ENCODED_AT_ONCE]
            vectors = self._encode(batch)
            if len(vectors) != len(batch) or vectors.terms != self._terms:
                raise InputError(
                    f"the encoder gave {len(vectors)} sparse vectors over {vectors.terms:,} terms for {len(batch)} "
                    f"documents, expected {len(batch)} over {self._terms:,}: check its spec"
                )
            _require_whole(vectors, [document.id for document in batch], "document")
            self._empty += int((np.diff(vectors.indptr) == 0).sum())
            for i, document in enumerate(batch):
                ids, weights = vectors.row(i)
                yield (
                    document,
                    struct.pack("<i", len(ids)) + ids.astype("<i4").tobytes() + weights.astype("<i4").tobytes(),
                )


@register("lucene-impact")
class LuceneImpactIndex(OfEncoder):
    """An index of one bag of weighted terms per document, searched by Lucene: whole weights, exact sums of products.

    In Lucene a term is the decimal number of its id, so that any vocabulary fits; the documents' weights are its
    frequencies. Sums above 2²⁴ are rounded to float32. Equal scores order by document id descending, also at the cut.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self.texts = TextStore(path, manifest)
        self.terms = manifest.encoder.dim if manifest.encoder else 0
        self.score_kind: str = manifest.encoder.similarity if manifest.encoder else "dot"
        with lucene_errors(path):
            folders = b"".join(jvm.packed(str((folder / FOLDER).resolve())) for folder in manifest.shard_folders(path))
            ranks = open_ranks(manifest.whole_folder(path)).astype("<i4").tobytes()
            self._searcher = jvm.call_number("searcher.open", folders, "", ranks)
        # Not at exit: the machine ends with the process, and calls into it then may hang.
        self._close = weakref.finalize(self, jvm.call, "searcher.close", self._searcher)
        self._close.atexit = False

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
        shard_documents: int = 200_000,
        truncated: Callable[[], int] | None = None,
        overwrite: bool = False,
    ) -> Self:
        """Encode `documents` into the folder `path`, or go on with a build that was interrupted there (see build.py).

        `spec` is the identity of `encode`, its `dim` the size of the vocabulary. Weights must be whole numbers below
        2²⁴: what an encoder's floats become (×100, round(w / 5 · 256), …) is the encoder's to say. `truncated` returns
        its running count of cut texts. Errors: those of `build_index`; `InputError` for weights that are not whole.
        """
        if spec.dim < 1:
            raise InputError(
                f"lucene-impact index: the encoder spec of {spec.model!r} has dim {spec.dim}, expected the vocabulary's size"
            )
        jvm.call("ping")  # a machine without Java fails before anything is read
        plan = Plan("lucene-impact", corpus, shard_documents, {}, spec)
        writer = ImpactWriter(encode, spec.dim, truncated)
        manifest = build_index(path, documents, writer, plan, total=total, overwrite=overwrite)
        if empty := manifest.counts["empty_vectors"]:
            logger.warning("%s: %d documents have no terms: no query finds them", path, empty)
        return cls.open(path)

    def close(self) -> None:
        """Release the mapped files. The index can't be searched afterwards."""
        self._close()

    def search(
        self,
        queries: Sparse,
        k: int,
        *,
        allow: Collection[str] | None = None,
        deny: Collection[str] | None = None,
        where: str | None = None,
        threads: int = 1,
    ) -> list[Ranking]:
        """Per query the best `k` documents: ids (m,) str objects and scores (m,) float64, best first, m <= k.

        A score is the sum over common terms of products of whole weights; only documents with a common term are found.
        `allow`, `deny` and `where` limit the search, see `filtering.selected_rows`; `threads` share the queries. Raises
        `InputError` for queries over another vocabulary or with weights that are not whole.
        """
        for name, value in (("k", k), ("threads", threads)):
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < 1:
                raise UsageError(f"{name} is {value!r}, expected a whole number of at least 1")
        if queries.terms != self.terms:
            raise InputError(
                f"{self.path}: queries have a vocabulary of {queries.terms:,} terms, the index {self.terms:,}: use its encoder"
            )
        _require_whole(queries, range(len(queries)), "query")
        mask = selected_rows(self.texts, allow=allow, deny=deny, where=where)
        allowed = b"" if mask is None else np.packbits(mask, bitorder="little").tobytes()
        k = min(k, len(self))
        found: list[Ranking] = []
        step = max(1, _HITS_PER_CALL // k)
        for start in range(0, len(queries), step):
            rows = [queries.row(i) for i in range(start, min(start + step, len(queries)))]
            packed = b"".join(
                struct.pack("<i", len(ids)) + ids.astype("<i4").tobytes() + weights.astype("<f4").tobytes()
                for ids, weights in rows
            )
            with lucene_errors(self.path):
                hits = unpacked_hits(
                    jvm.call("searcher.impacts", self._searcher, packed, k, allowed, threads), len(rows)
                )
            names, scores = self.texts.ids_at(hits.documents), hits.scores.astype(np.float64)
            found += [Ranking(names[a:b], scores[a:b]) for a, b in itertools.pairwise(hits.offsets.tolist())]
        return found


def _require_whole(vectors: Sparse, names: Iterable[object], what: str) -> None:
    """Raise `InputError` for a weight that Lucene can't keep as a frequency; `names` are those of the rows."""
    bad = (vectors.weights != np.rint(vectors.weights)) | (vectors.weights >= LARGEST)
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        row = int(np.searchsorted(vectors.indptr, at, side="right")) - 1
        name = next(itertools.islice(names, row, None))
        raise InputError(
            f"lucene-impact: {what} {name!r} has the weight {vectors.weights[at]:g} of term {vectors.ids[at]}, expected a "
            f"whole number below {LARGEST:,}: quantise the encoder's weights"
        )
