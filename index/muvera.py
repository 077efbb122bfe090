"""MUVERA: an approximate search for one vector proposes documents, the exact MaxSim of their token vectors decides."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..errors import UsageError, suggest
from ..records import Document, Ranking
from ..registry import register
from ..vectors import EncoderSpec, MultiVector
from .ann_rules import checked_options, recipe
from .build import build_index
from .exact import candidates, faiss_nearest
from .faiss_files import mapped, open_faiss
from .faiss_search import NARROW, Proposer
from .manifest import Manifest, Plan
from .multivector import MultivectorIndex, batches, token_options, warn_of_empty
from .muvera_encoding import FixedDimensional
from .muvera_options import LEAST_CANDIDATES, STRUCTURES
from .muvera_writer import MuveraWriter, structure_kind
from .token_search import share_found

logger = logging.getLogger("cribble")

#: Encodings that are scanned at a time: 40 MB at 10,240 numbers.
_SCANNED = 1024

#: Queries whose encodings are held at a time.
_QUERIES = 256


@register("muvera")
class MuveraIndex(MultivectorIndex):
    """Fixed-dimensional encodings propose documents, their stored token vectors decide (MUVERA).

    The folder holds what a multivector-exact index holds, and an encoding per document (muvera_encoding.py). Scores are
    exact, and the order is that of the exact index among the documents that were proposed.
    """

    def __init__(self, path: Path, manifest: Manifest, device: str) -> None:
        super().__init__(path, manifest, device)
        self.encoding = encoding_of(manifest.options, self.dim)

    @classmethod
    def build(
        cls,
        path: str | Path,
        documents: Iterable[Document],
        encode: Callable[[list[Document]], MultiVector],
        *,
        spec: EncoderSpec,
        corpus: str,
        total: int | None = None,
        shard_documents: int = 4096,
        similarity: str | None = None,
        storage: str = "float16",
        mean: bool | None = None,
        pool_factor: float = 1.0,
        pool: str | None = None,
        truncated: Callable[[], int] | None = None,
        overwrite: bool = False,
        structure: str = "flat",
        partition_bits: int = 5,
        projected: int | None = 16,
        repetitions: int = 20,
        encoding_seed: int = 42,
        numbering: str = "binary",
        encoding_storage: str = "float16",
        **options: Any,
    ) -> Self:
        """As `MultivectorIndex.build`, with encodings of `repetitions` · 2^`partition_bits` · `projected` numbers (0 or None
        keeps all of a token's dimensions), kept as `encoding_storage`: float16 or float32.

        `structure` searches them: flat (a scan), or an approximate kind, with its `options` (`ann_rules.py`).
        """
        name = cls.registered_name
        kept: dict[str, Any] = token_options(name, spec, similarity, storage, mean, pool_factor, pool)
        if kept["similarity"] == "l2":
            raise UsageError(f"{name} index: encodings estimate inner products: similarity has to be dot or cosine")
        if structure not in STRUCTURES:
            raise UsageError(f"{name} index: structure {structure!r} is unknown: {suggest(structure, STRUCTURES)}")
        if encoding_storage not in ("float16", "float32"):
            raise UsageError(f"{name} index: encoding_storage is {encoding_storage!r}, expected float16 or float32")
        kept |= {
            "structure": structure,
            "partition_bits": partition_bits,
            "projected": projected or None,
            "repetitions": repetitions,
            "encoding_seed": encoding_seed,
            "numbering": numbering,
            "encoding_storage": encoding_storage,
        }
        kept |= _structure_options(name, kept, options)
        encoding = encoding_of(kept, spec.dim)
        if (kind := structure_kind(kept)) is not None:
            recipe(kind, total or 1, encoding.width, kept).new(encoding.width, "dot")
        writer = MuveraWriter(encode, spec.dim, kept, truncated, encoding=encoding)
        plan = Plan(name, corpus, shard_documents, kept, spec)
        warn_of_empty(path, build_index(path, documents, writer, plan, total=total, overwrite=overwrite))
        return cls.open(path, verify=False)

    @classmethod
    def change_writer(
        cls,
        manifest: Manifest,
        encode: Callable[[list[Document]], MultiVector],
        truncated: Callable[[], int] | None = None,
    ) -> MuveraWriter:
        """What adds to the index (nothing is trained again), deletes from it and compacts it (made anew)."""
        dim = manifest.encoder.dim if manifest.encoder else 0
        return MuveraWriter(encode, dim, manifest.options, truncated, encoding=encoding_of(manifest.options, dim))

    @cached_property
    def _proposer(self) -> Proposer | None:
        """The FAISS index over the encodings, mapped at first use; None where they are scanned."""
        if structure_kind(self.manifest.options) is None:
            return None
        return Proposer(open_faiss(self.manifest.whole_folder(self.path)), "dot")

    def check_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Raise `UsageError` for a search parameter that the structure lacks, or a bad value."""
        kind = structure_kind(self.manifest.options)
        known = ("candidates", *(name for name in (kind.search if kind else ()) if name != "verify"))
        for name, value in parameters.items():
            if name not in known:
                what = self.manifest.options["structure"]
                raise UsageError(f"muvera over {what} is not searched with {name}: {suggest(name, known)}")
            if value < 1:
                raise UsageError(f"{name} is {value}, expected at least 1")

    def search(
        self,
        queries: MultiVector,
        k: int,
        *,
        allow: Collection[str] | None = None,
        deny: Collection[str] | None = None,
        where: str | None = None,
        **parameters: Any,
    ) -> list[Ranking]:
        """Per query the best `k` of the documents that are proposed: ids and exact scores, as `MultivectorIndex.search`.

        `parameters`: the number of `candidates` that are scored exactly (2 · k, at least 256), never fewer than k; `nprobe`
        and `ef` where the structure has them. Where as many as there are, or a filter leaves few, all are scored.
        """
        queries = self._checked(queries, k)
        given = {name: value for name, value in parameters.items() if value is not None}
        self.check_parameters(given)
        selection = self._selection(allow, deny, where)
        rows = len(self._filled)
        available = rows if selection is None else len(selection)
        wanted = max(given.pop("candidates", max(LEAST_CANDIDATES, 2 * k)), k)
        if wanted >= available or available < NARROW * rows:
            return self._exact(queries, k, selection)
        found = []
        for batch in batches(queries, _QUERIES, _QUERIES * _SCANNED):
            for i, own in enumerate(self._proposed(self.encoding.queries(batch), wanted, selection, given)):
                own = np.unique(own[own >= 0]) if len(batch[i]) else own[:0]
                found.append(self._ranked(batch[i], own, k) if len(own) else Ranking(np.empty(0, object), np.empty(0)))
        if short := sum(len(ranking.ids) < k and len(queries[i]) > 0 for i, ranking in enumerate(found)):
            logger.warning(
                "%s: %d of %d queries were proposed fewer than %d documents: search with larger nprobe or ef",
                self.path, short, len(found), k,
            )  # fmt: skip
        return found

    def recall(self, queries: MultiVector, k: int, **parameters: Any) -> float:
        """The share of the exact best `k` documents that a search with these parameters finds, over all `queries`."""
        exact = self._exact(self._checked(queries, k), k, self._selection(None, None, None))
        return share_found(exact, self.search(queries, k, **parameters))

    def _proposed(
        self, values: np.ndarray, wanted: int, selection: np.ndarray | None, parameters: Mapping[str, Any]
    ) -> np.ndarray:
        """Rows (queries, wanted) that the encodings propose, -1 for none."""
        if self._proposer is None:
            _, positions = candidates(faiss_nearest("dot"), values, self._encodings(selection), wanted)
            return positions if selection is None else selection[positions]
        mask = None
        if selection is not None:
            mask = np.zeros(len(self._filled), bool)
            mask[selection] = True
        return self._proposer.propose(values, wanted, mask, **parameters)[1]

    def _encodings(self, selection: np.ndarray | None) -> Iterator[tuple[int, np.ndarray]]:
        """Encodings of all rows, or of ascending `selection`, in blocks, each with the position of its first."""
        done = 0
        folders, spans = self.manifest.shard_folders(self.path), itertools.pairwise(self._starts)
        for folder, (start, end) in zip(folders, spans, strict=True):
            vectors = mapped(folder)
            own = np.arange(end - start)
            if selection is not None:
                own = selection[slice(*np.searchsorted(selection, [start, end]))] - start
            for first in range(0, len(own), _SCANNED):
                part = own[first : first + _SCANNED]
                yield done + first, vectors[part]
            done += len(own)


def encoding_of(options: Mapping[str, Any], dim: int) -> FixedDimensional:
    """The encodings that the options of an index say, of tokens of `dim` dimensions."""
    return FixedDimensional(
        dim,
        options["partition_bits"],
        options["projected"],
        options["repetitions"],
        options["encoding_seed"],
        options["numbering"],
    )


def _structure_options(name: str, kept: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    kind = structure_kind(kept)
    if kind is None:
        if given:
            raise UsageError(f"{name} index over flat encodings has no option {next(iter(given))!r}: name a structure")
        return {}
    return checked_options(f"{name} over {kept['structure']}", kind, given)
