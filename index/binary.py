"""An index of packed codes: exhaustive, in inverted lists or as a graph; the stored vectors can verify what it finds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from ..errors import InputError, UsageError, suggest
from ..ids import order_descending
from ..records import Document, Ranking
from ..vectors import Dense, EncoderSpec
from . import scan, sdc
from .binary_codes import check_shape
from .binary_files import IDENTITY, Run, require_compatible, same_binariser
from .binary_graph import nearest, open_graph
from .binary_lists import Lists, directions
from .binary_options import checked_options
from .binary_rotations import Binariser, Rotation, check_itq
from .binary_writer import BinaryWriter, WithCodes, all_runs
from .build import build_index
from .faiss_search import NARROW
from .filtering import selected_rows
from .flat import checked_similarity, warn_of_zero_vectors
from .manifest import Manifest, Plan, check_index
from .verification import VerifyingIndex, candidates_for

#: Parameter of a search → the structures that have it.
SEARCH = {
    "verify": ("flat", "ivf", "hnsw"),
    "nprobe": ("ivf",),
    "ef": ("hnsw",),
    "query_bits": ("flat", "ivf"),
}


class BinaryIndex(VerifyingIndex):
    """Codes of one or more bits a coordinate, beside the vectors that they were made of, unless these are left out.

    Scores are inner products of the codes' values, exact (sdc.py), and where the similarity is cosine, their cosines;
    with `verify` those of the stored vectors. Equal scores order by document id descending, also at the cut. In the
    structure flat, under filters that leave few documents, and in a graph under any, nothing is approximate but the codes.
    """

    registered_name: ClassVar[str]

    def __init__(self, path: Path, manifest: Manifest, device: str) -> None:
        super().__init__(path, manifest, device)
        self.scan = "plain"
        self.structure: str = manifest.options["structure"]
        self.whole = manifest.whole_folder(path)
        self._binariser: Binariser | None = None

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
        """As `FlatIndex.build`; `options` are those of binary_options.py. `encode` of the kind bebr is a `WithCodes`.

        Codes take exactly width · planes / 8 bytes a document. `vectors=False` leaves the vectors out, and with them
        verification. Options that don't fit raise `UsageError` before the first document is encoded.
        """
        name = cls.registered_name
        similarity = checked_similarity(name, spec, similarity, storage)
        if similarity == "l2":
            raise UsageError(f"{name} index: codes are compared by dot or cosine, not by l2")
        chosen = checked_options(name, options)
        writer = BinaryWriter(encode, spec.dim, similarity, storage, truncated, kind=name, options=chosen)
        recorded: dict[str, Any] = {"similarity": similarity, "storage": storage} | chosen
        if name == "itq":
            check_itq(spec.dim, chosen["bits"])
        else:
            identity = writer.binariser.identity
            check_shape(identity["width"], identity["planes"])
            if identity["planes"] > 1 and chosen["structure"] == "hnsw":
                raise UsageError(
                    f"{name} index: a graph takes 1 bit a coordinate, these codes have {identity['planes']}"
                )
            recorded["binariser"] = {part: identity[part] for part in IDENTITY}
            writer.binariser.codes(np.zeros((1, spec.dim), np.float32))  # one that takes other vectors raises here
        plan = Plan(name, corpus, shard_documents, recorded, spec)
        manifest = build_index(path, documents, writer, plan, total=total, overwrite=overwrite)
        warn_of_zero_vectors(path, manifest)
        index = cls.open(path, verify=False)
        if isinstance(encode, WithCodes):
            index.use(encode.binariser)
        return index

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        spec: EncoderSpec | None = None,
        verify: bool | None = None,
        device: str = "cpu",
        truncate_dim: int | None = None,
        binariser: Binariser | None = None,
    ) -> Self:
        """As `FlatIndex.open`. `binariser` makes the codes of queries where the index has not its own: one that did not
        make its codes, and is not compatible with them, raises `InputError` with both values. `device` cuda scans codes
        by torch; auto does where there is one.
        """
        if truncate_dim is not None:
            raise UsageError(f"{path}: truncate_dim needs a flat index, this is of kind {cls.registered_name}")
        manifest = check_index(path, kind=cls.registered_name, verify=verify)
        index = cls(Path(path), manifest, device).fitting(spec)
        if binariser is not None:
            index.use(binariser)
        return index

    @classmethod
    def change_writer(
        cls,
        manifest: Manifest,
        encode: Callable[[list[Document]], Dense],
        truncated: Callable[[], int] | None = None,
    ) -> BinaryWriter:
        """What adds to the index (nothing is learnt again), deletes from it and compacts it (what was learnt from all
        is learnt anew)."""
        stored = manifest.options
        dim = manifest.encoder.dim if manifest.encoder else 0
        if isinstance(encode, WithCodes) and not stored["vectors"]:
            dim = encode.dim or dim
        writer = BinaryWriter(
            encode, dim, stored["similarity"], stored["storage"], truncated, kind=cls.registered_name, options=stored
        )
        if isinstance(encode, WithCodes):
            require_compatible(encode.binariser, [stored["binariser"]], manifest.plan.corpus)
        return writer

    # ---- codes ------------------------------------------------------------------------------------------------------

    @cached_property
    def runs(self) -> list[Run]:
        """The codes of all rows, mapped, and who made them."""
        runs = all_runs(self.whole, self.manifest.shard_folders(self.path))
        rows = sum(len(run.codes) for run in runs)
        if rows != self.manifest.rows:
            raise InputError(
                f"{self.path}: codes of {rows} documents, expected {self.manifest.rows}: build the index again with overwrite"
            )
        return runs

    @property
    def binarisers(self) -> list[Mapping[str, Any]]:
        """What made the codes, each once, the first first."""
        found: list[Mapping[str, Any]] = []
        for run in self.runs:
            if not any(same_binariser(run.binariser, known) for known in found):
                found.append(run.binariser)
        return found

    def use(self, binariser: Binariser) -> None:
        """Make queries' codes by `binariser`; raises `InputError` where its codes can't be compared with the index's."""
        require_compatible(binariser, self.binarisers, self.path)
        self._binariser = binariser

    @cached_property
    def binariser(self) -> Binariser:
        """What makes the codes of queries."""
        if self._binariser is None:
            raise UsageError(f"{self.path}: queries need the binariser that made the codes: open the index with it")
        return self._binariser

    @cached_property
    def segments(self) -> list[tuple[int, np.ndarray, int, int]]:
        """First row, codes (n, bytes), width and planes of consecutive rows of one kind of code."""
        grouped: list[tuple[int, list[np.ndarray], int, int]] = []
        first = 0
        for run in self.runs:
            shape = (run.binariser["width"], run.binariser["planes"])
            if not grouped or grouped[-1][2:] != shape:
                grouped.append((first, [], *shape))
            grouped[-1][1].append(run.codes)
            first += len(run.codes)
        return [(first, np.concatenate(codes), width, planes) for first, codes, width, planes in grouped]

    @cached_property
    def _tiles(self) -> list[sdc.Tiles]:
        """The codes in memory, in row order."""
        return [
            sdc.make_tiles(codes, np.arange(first, first + len(codes)), width, planes, cosine=self._cosine)
            for first, codes, width, planes in self.segments
        ]

    @cached_property
    def _lists(self) -> Lists:
        return Lists(self.whole, self.segments, cosine=self._cosine)

    @cached_property
    def _graph(self) -> Any:
        return open_graph(self.whole)

    @property
    def _cosine(self) -> bool:
        return self.score_kind == "cosine"

    def _ranks(self) -> np.ndarray:
        """Of each row, more for an id that comes later."""
        order = order_descending(self.texts.ids, np.zeros(len(self.texts.ids), np.int64))
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order))[::-1]
        return ranks

    def _coded(self, values: np.ndarray, query_bits: int) -> sdc.Queries:
        width, planes = self.binariser.identity["width"], self.binariser.identity["planes"]
        factors = np.ones(len(values))
        if query_bits == 1:
            codes = self.binariser.codes(values)
        elif isinstance(self.binariser, Rotation):
            planes = query_bits
            codes, factors = self.binariser.query_codes(values, planes)
        else:
            raise UsageError(
                f"query_bits has no effect: {self.registered_name} codes of queries are as their model makes them"
            )
        if self._cosine:
            factors = 1 / sdc.norms(codes, width, planes)
        return sdc.Queries(codes, width, planes, factors)

    # ---- search -----------------------------------------------------------------------------------------------------

    @classmethod
    def check_parameters(cls, parameters: Mapping[str, Any]) -> None:
        """Raise `UsageError` for a search parameter (one that is not None) that no structure has, or a bad value."""
        for name, value in parameters.items():
            if value is None:
                continue
            if name not in SEARCH:
                raise UsageError(
                    f"an index of the kind {cls.registered_name} is not searched with {name}: {suggest(name, SEARCH)}"
                )
            if not value >= (least := int(name != "verify")):
                raise UsageError(f"{name} is {value}, expected at least {least}")

    def _check_parameters(self, parameters: Mapping[str, Any]) -> None:
        self.check_parameters(parameters)
        for name, value in parameters.items():
            if value is not None and self.structure not in SEARCH[name]:
                raise UsageError(f"{name} has no effect: {self.path} has the structure {self.structure}")
        if parameters.get("verify") and not self.manifest.options["vectors"]:
            raise UsageError(
                f"{self.path}: verify needs the vectors, which this index was built without (vectors=false)"
            )

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

        `parameters`: `nprobe` (lists that are scanned) and `ef` (nodes that the graph's search keeps), by rule where they
        are None; `query_bits`, the bits a coordinate of the codes that rotations make of queries (1: symmetric);
        `verify`, the number of candidates whose stored vectors are scored exactly, True for 10 · k up to 1,000. Another
        one, and one that the structure lacks, raises `UsageError`.
        """
        self._check(queries, k)
        self._check_parameters(parameters)
        verify = parameters.get("verify")
        if verify:
            super()._check(queries, k)  # the stored vectors are the recorded encoder's
        mask = selected_rows(self.texts, allow=allow, deny=deny, where=where)
        available = self.manifest.rows if mask is None else int(mask.sum())
        if not available or not len(queries):
            return [Ranking(np.empty(0, object), np.empty(0)) for _ in range(len(queries))]
        if verify and mask is not None and available < NARROW * len(mask):
            return self._exact(queries, k, mask)
        wanted = min(candidates_for(k, verify) if verify or self.structure == "hnsw" else k, available)
        values = self._prepared(queries)
        found: list[Ranking] = []
        step = self._step(wanted) if verify else len(values)
        for start in range(0, len(values), step):
            batch = values[start : start + step]
            proposed = self._proposed(batch, wanted, mask, available, parameters)
            if verify:
                found += self._verified(batch, _padded([rows for _, rows in proposed]), k)
            else:
                found += [self._ranked(scores, rows, k) for scores, rows in proposed]
        return found

    def _check(self, queries: Dense, k: int) -> None:
        """A model of codes says itself which vectors it takes: those of a newer encoder may have another width."""
        nothing = Dense(np.empty((0, self.dim), np.float32))
        super()._check(queries if isinstance(self.binariser, Rotation) else nothing, k)

    def vectors(self, rows: np.ndarray) -> np.ndarray:
        if not self.manifest.options["vectors"]:
            raise UsageError(f"{self.path}: the index was built without its vectors (vectors=false)")
        return super().vectors(rows)

    def _proposed(
        self, values: np.ndarray, k: int, mask: np.ndarray | None, available: int, parameters: Mapping[str, Any]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Per query scores and rows of at least the `k` best codes, as far as the structure finds them."""
        asked = self._coded(values, parameters.get("query_bits") or 1)
        if self.structure == "hnsw" and mask is None:
            return self._by_graph(asked, k, parameters.get("ef"))
        share = available / self.manifest.rows
        if self.structure == "ivf" and (mask is None or share >= NARROW):
            near = directions(asked.packed, asked.width, asked.planes)
            probed = self._lists.probed(near, k, share, parameters.get("nprobe"))
            tiles = self._lists.tiles
            return sdc.search(tiles, asked, k, mask=mask, probed=probed, ranks=self._ranks, workers=scan.threads())
        if self._on_torch:
            from . import sdc_torch

            device = "cuda" if self.device == "auto" else self.device.removeprefix("torch:")
            return sdc_torch.search(self.segments, asked, k, mask=mask, cosine=self._cosine, device=device)
        return sdc.search(self._tiles, asked, k, mask=mask, ranks=self._ranks, workers=scan.threads())

    def _by_graph(self, asked: sdc.Queries, k: int, ef: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        distances, rows = nearest(self._graph, asked.packed, k, ef)
        of_document = 1 / np.sqrt(asked.width) if self._cosine else 1.0
        for distance, mine, factor in zip(distances, rows, asked.factors, strict=True):
            there = mine >= 0
            scores = (asked.width - 2.0 * distance[there]) * of_document * factor
            yield scores.astype(np.float32).astype(np.float64), mine[there]


def _padded(lists: list[np.ndarray]) -> np.ndarray:
    """Lists of rows as one matrix, filled up with -1."""
    table = np.full((len(lists), max(map(len, lists))), -1, np.int64)
    for line, rows in zip(table, lists, strict=True):
        line[: len(rows)] = rows
    return table


class RotatedIndex(BinaryIndex):
    """Codes by a rotation that the index itself holds."""

    @cached_property
    def binariser(self) -> Binariser:
        return Rotation.load(self.registered_name, self.dim, self.whole)
