"""What the approximate kinds share: an exact index's files and, beside them, a FAISS index that proposes documents."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from ..errors import InputError, UsageError, suggest
from ..records import Document, Ranking
from ..vectors import Dense, EncoderSpec
from .ann_rules import Kind, checked_options, recipe
from .build import build_index
from .faiss_files import DESCRIPTION, FILE, extend_faiss, make_faiss, mapped, open_faiss
from .faiss_search import NARROW, Proposer
from .filtering import selected_rows
from .flat import checked_similarity, warn_of_zero_vectors
from .flat_writer import FlatWriter
from .manifest import Manifest, Plan, check_index
from .verification import VerifyingIndex, candidates_for

logger = logging.getLogger("cribble")


@dataclass
class AnnWriter(FlatWriter):
    """Writes what the exact index has, and the FAISS index over all shards."""

    kind: Kind = field(default_factory=lambda: Kind(""))
    options: Mapping[str, Any] = field(default_factory=dict)

    def finish(self, folder: Path, shards: list[Path]) -> Mapping[str, int]:
        super().finish(folder, shards)
        rows = sum(len(mapped(shard)) for shard in shards)
        size = make_faiss(folder, shards, self.dim, self.similarity, recipe(self.kind, rows, self.dim, self.options))
        return _bytes_per_document(size, shards)

    def extend(self, folder: Path, before: Path, shards: list[Path], new: list[Path]) -> Mapping[str, int]:
        super().extend(folder, before, shards, new)
        return _bytes_per_document(extend_faiss(before, folder, new), shards)


def _bytes_per_document(faiss_bytes: int, shards: list[Path]) -> dict[str, int]:
    """What a search maps or holds in memory (the FAISS file), and what lies on the disk to verify (the vectors)."""
    vectors = [mapped(shard) for shard in shards]
    rows = sum(map(len, vectors))
    return {
        "ann_bytes_per_document": -(-faiss_bytes // rows),
        "vector_bytes_per_document": vectors[0].shape[1] * vectors[0].itemsize,
    }


class AnnIndex(VerifyingIndex):
    """An approximate index: FAISS proposes documents, the stored vectors can verify them.

    The folder holds what a `flat` index holds, and `ann.faiss`. Scores are FAISS's, which are those of codes where the
    kind stores codes; with `verify` they are exact and in `flat`'s order. Under a filter that leaves few documents, the
    stored vectors of those are searched exactly.
    """

    registered_name: ClassVar[str]
    kind: ClassVar[Kind]

    def __init__(self, path: Path, manifest: Manifest, device: str) -> None:
        super().__init__(path, manifest, device)
        self.scan = "plain"  # what is searched exactly here is little
        whole = manifest.whole_folder(path)
        self.description: dict[str, Any] = json.loads(
            (whole / DESCRIPTION).read_bytes()
        )  #: how the FAISS index was made

    @classmethod
    def build(
        cls,
        path: str | Path,
        documents: Iterable[Document],
        encode: Callable[[list[Document]], Dense],
        *,
        spec: EncoderSpec,
        corpus: str,
        total: int | None = None,
        shard_documents: int = 4096,
        similarity: str | None = None,
        storage: str = "float32",
        truncated: Callable[[], int] | None = None,
        overwrite: bool = False,
        **options: Any,
    ) -> Self:
        """As `FlatIndex.build`; `options` are the kind's (`ann_rules.py`), by rule where they are not given.

        Memory holds, besides, the training sample and the finished FAISS index. Options that FAISS refuses raise
        `UsageError` before the first document is encoded.
        """
        name = cls.registered_name
        similarity = checked_similarity(name, spec, similarity, storage)
        chosen = checked_options(name, cls.kind, options)
        recipe(cls.kind, total or 1, spec.dim, chosen).new(spec.dim, similarity)
        writer = AnnWriter(encode, spec.dim, similarity, storage, truncated, kind=cls.kind, options=chosen)
        plan = Plan(name, corpus, shard_documents, {"similarity": similarity, "storage": storage} | chosen, spec)
        manifest = build_index(path, documents, writer, plan, total=total, overwrite=overwrite)
        warn_of_zero_vectors(path, manifest)
        return cls.open(path, verify=False)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        spec: EncoderSpec | None = None,
        verify: bool | None = None,
        device: str = "cpu",
        truncate_dim: int | None = None,
    ) -> Self:
        """As `FlatIndex.open`. FAISS searches on the CPU; `device` (auto is the CPU here) is where filters' exact
        searches run. There is no view of fewer dimensions: `truncate_dim` raises `UsageError`.
        """
        if truncate_dim is not None:
            raise UsageError(
                f"{path}: truncate_dim needs a flat index, this is of kind {cls.registered_name}: build one with dim={truncate_dim}"
            )
        manifest = check_index(path, kind=cls.registered_name, verify=verify)
        return cls(Path(path), manifest, "cpu" if device == "auto" else device).fitting(spec)

    @classmethod
    def change_writer(
        cls,
        manifest: Manifest,
        encode: Callable[[list[Document]], Dense],
        truncated: Callable[[], int] | None = None,
    ) -> AnnWriter:
        """What adds to the index (nothing is trained again), deletes from it and compacts it (made anew)."""
        dim = manifest.encoder.dim if manifest.encoder else 0
        stored = manifest.options
        return AnnWriter(encode, dim, stored["similarity"], stored["storage"], truncated, kind=cls.kind, options=stored)

    @cached_property
    def proposer(self) -> Proposer:
        """The FAISS index, mapped at first use."""
        faiss_index = open_faiss(self.manifest.whole_folder(self.path))
        if faiss_index.ntotal != self.manifest.rows or faiss_index.d != self.dim:
            raise InputError(
                f"{self.path}: {FILE} holds {faiss_index.ntotal} vectors of {faiss_index.d} dimensions, expected "
                f"{self.manifest.rows} of {self.dim}: build the index again with overwrite"
            )
        return Proposer(faiss_index, self.score_kind)

    @classmethod
    def check_parameters(cls, parameters: Mapping[str, Any]) -> None:
        """Raise `UsageError` for a search parameter (one that is not None) which this kind lacks, or a bad value."""
        for name, value in parameters.items():
            if value is None:
                continue
            if name not in cls.kind.search:
                known = suggest(name, cls.kind.search)
                raise UsageError(f"an index of the kind {cls.registered_name} is not searched with {name}: {known}")
            least = 0 if name in ("pq_weight", "verify") else 1
            if not value >= least:
                raise UsageError(f"{name} is {value}, expected at least {least}")

    @classmethod
    def scores_are(cls, similarity: str, **parameters: Any) -> str:
        """The kind of the scores (`records.SCORE_KINDS`) that a search with these parameters gives."""
        return similarity

    def search(
        self,
        queries: Dense,
        k: int,
        *,
        allow: Collection[str] | None = None,
        deny: Collection[str] | None = None,
        where: str | None = None,
        **parameters: Any,
    ) -> list[Ranking]:
        """Per query the best `k` documents that are found: ids (m,) str objects and scores (m,) float64, best first.

        `parameters`: `nprobe` (lists that are scanned) and `ef` (nodes that HNSW keeps), where the kind has them, by rule
        where they are None (`faiss_search.py`); `verify`, the number of candidates whose stored vectors are scored
        exactly, True for 10 · k up to 1,000 and always somewhat more than k. Another one raises `UsageError`.
        """
        self._check(queries, k)
        self.check_parameters(parameters)
        mask = selected_rows(self.texts, allow=allow, deny=deny, where=where)
        available = self.manifest.rows if mask is None else int(mask.sum())
        if not available or not len(queries):
            return self._exact(queries, k, mask)
        if mask is not None and available < NARROW * len(mask):
            return self._few(queries, k, mask, parameters)
        return self._found(self._prepared(queries), k, mask, available, parameters)

    def _few(self, queries: Dense, k: int, mask: np.ndarray, parameters: Mapping[str, Any]) -> list[Ranking]:
        """A search under a filter that leaves few documents."""
        return self._exact(queries, k, mask)

    def _found(
        self, values: np.ndarray, k: int, mask: np.ndarray | None, available: int, parameters: Mapping[str, Any]
    ) -> list[Ranking]:
        verify = parameters.get("verify")
        wanted = candidates_for(k, verify)
        step = self._step(wanted)
        found: list[Ranking] = []
        for start in range(0, len(values), step):
            batch = values[start : start + step]
            scores, rows = self.proposer.propose(
                batch, min(wanted, available), mask, nprobe=parameters.get("nprobe"), ef=parameters.get("ef")
            )
            if verify:
                found += self._verified(batch, rows, k)
            else:
                found += [self._ranked(s[r >= 0], r[r >= 0], k) for s, r in zip(scores, rows, strict=True)]
        return found
