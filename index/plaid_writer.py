"""What a build of a PLAID index, and a change of one, writes: codes and residuals per shard, and the codec and the postings over
all of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..errors import SetupError, UsageError
from ..progress import Advance
from ..records import Document
from ..vectors import EncoderSpec, MultiVector
from .durable import remove, write_array
from .growing import GrowingArray
from .id_ranks import write_ranks
from .manifest import Plan
from .multivector import token_options
from .multivector_files import token_places
from .plaid_files import (
    CODEC_FILES,
    CODES,
    OFFSETS,
    RESIDUALS,
    PlaidShard,
    open_codec,
    write_postings,
)
from .plaid_options import codec_options
from .plaid_sample import ENCODED_AT_ONCE, Sample, digest_of
from .plaid_training import CODEC, SAMPLE, codec_digest, trained
from .residual_codec import ResidualCodec
from .residual_loops import add_fidelity
from .shards import summed
from .token_encoding import TokenEncoding, UnitTokens, as_tokens

#: Per shard: its tokens, and of these the sums of the cosine with what is decoded and of the residual's length; and which
#: codec made it.
FIDELITY, MADE_BY = "fidelity.npy", "codec.txt"


class _Coded(NamedTuple):
    """What the files keep of some documents: `codes` (T,), `residuals` (T, bytes), `sizes` (n,), `fidelity` (3,)."""

    codes: np.ndarray
    residuals: np.ndarray
    sizes: np.ndarray
    fidelity: np.ndarray


@dataclass
class PlaidWriter:
    """Learns a codec (plaid_training.py), encodes documents and writes the files of plaid_files.py.

    `options` are the index's: `bits`, `centroids`, `kmeans_iterations`, `seed`, `pool_factor` and `pool`. A change of an
    index keeps its codec; postings are made anew.
    """

    encode: Callable[[list[Document]], MultiVector]
    dim: int
    options: Mapping[str, Any]
    truncated: Callable[[], int] | None = None
    libraries: ClassVar[Sequence[str]] = ("numpy", "numba", "torch", "transformers", "sentence-transformers")
    _codec_folder: Path | None = field(default=None, init=False)
    _codec: ResidualCodec | None = field(default=None, init=False)
    _sample: Sample | None = field(default=None, init=False)
    _corpus: str = field(default="", init=False)

    @property
    def encoding(self) -> TokenEncoding:
        """How documents become tokens."""
        return TokenEncoding(self.encode, self.dim, self.options, self.truncated)

    def train(self, folder: Path, documents: Iterable[Document], plan: Plan) -> str:
        """Learn the codec in `folder`; shards that stand and are of another are removed. Returns the corpus' fingerprint."""
        fingerprint = trained(folder, documents, plan.corpus, plan.shard_documents, self.encoding)
        self.change(folder / CODEC)
        self._sample, self._corpus = Sample(folder / SAMPLE, self.dim), plan.corpus
        own = codec_digest(folder / CODEC)
        shards = folder.parent / "shards"
        for shard in sorted(shards.iterdir()) if shards.exists() else []:
            made_by = shard / MADE_BY
            if not made_by.exists() or made_by.read_text().strip() != own:
                remove(shard)
        return fingerprint

    def change(self, before: Path) -> None:
        """Take over the codec in the folder `before`."""
        self._codec_folder, self._codec = before, None

    @property
    def codec(self) -> ResidualCodec:
        """The codec that was learnt or taken over."""
        if self._codec is None:
            self._codec = open_codec(self._folder, self.options["bits"])
        return self._codec

    @property
    def _folder(self) -> Path:
        if self._codec_folder is None:
            raise SetupError("this writer of a PLAID index has no codec: train it, or name the index that it changes")
        return self._codec_folder

    def write(self, folder: Path, documents: list[Document], advance: Advance) -> Mapping[str, int]:
        before = self.encoding.cut_texts()
        counts: dict[str, int] = {"zero_tokens": 0}

        def parts() -> Iterator[_Coded]:
            for start in range(0, len(documents), ENCODED_AT_ONCE):
                batch = documents[start : start + ENCODED_AT_ONCE]
                tokens = self._tokens(batch, counts)
                yield self._coded(tokens)
                advance(len(batch))

        written = self._write(folder, parts())
        if self.truncated:
            counts["truncated_texts"] = counts.get("truncated_texts", 0) + self.encoding.cut_texts() - before
        else:
            counts.pop("truncated_texts", None)
        return written | counts

    def finish(self, folder: Path, shards: list[Path]) -> Mapping[str, int]:
        for name in CODEC_FILES:
            shutil.copyfile(self._folder / name, folder / name)
        documents = write_ranks(folder)
        opened = [PlaidShard.open(shard) for shard in shards]
        written = write_postings(folder, opened, len(self.codec.centroids), documents)
        written += sum((folder / name).stat().st_size for name in CODEC_FILES)
        written += sum((shard / name).stat().st_size for shard in shards for name in (CODES, RESIDUALS, OFFSETS))
        tokens, cosine, length = sum((np.load(shard / FIDELITY) for shard in shards), np.zeros(3))
        return {
            "centroids": len(self.codec.centroids),
            "vector_bytes_per_document": -(-written // max(1, documents)),
            "bytes_per_token_hundredths": int(-(-100 * written // max(1, tokens))),
            "decoded_cosine_millionths": round(1e6 * cosine / max(1, tokens)),
            "residual_length_millionths": round(1e6 * length / max(1, tokens)),
        }

    def extend(self, folder: Path, before: Path, shards: list[Path], new: list[Path]) -> Mapping[str, int]:
        return self.finish(folder, shards)

    def rewrite(self, folder: Path, pieces: list[tuple[Path, np.ndarray]]) -> Mapping[str, int]:
        def parts() -> Iterator[_Coded]:
            for shard, rows in pieces:
                opened = PlaidShard.open(shard)
                places, offsets = token_places(opened.offsets, rows)
                fidelity = np.load(shard / FIDELITY)
                fidelity *= len(places) / max(1, fidelity[0])  # of single tokens it is not known
                yield _Coded(opened.codes[places], opened.residuals[places], np.diff(offsets), fidelity)

        self._write(folder, parts())
        return summed(self.counts_of(shard, rows) for shard, rows in pieces)

    def counts_of(self, shard: Path, rows: np.ndarray) -> Mapping[str, int]:
        sizes = np.diff(np.load(shard / OFFSETS))[rows]
        return {"tokens": int(sizes.sum()), "without_tokens": int((sizes == 0).sum())}

    def _write(self, folder: Path, parts: Iterator[_Coded]) -> dict[str, int]:
        sizes, fidelity = [np.zeros(1, np.int64)], np.zeros(3)
        with ExitStack() as files:
            codes = files.enter_context(GrowingArray(folder / CODES, self.codec.code_dtype))
            row = (self.codec.packed_bytes,)
            residuals = files.enter_context(GrowingArray(folder / RESIDUALS, np.uint8, row))
            for part in parts:
                codes.append(part.codes)
                residuals.append(part.residuals)
                sizes.append(part.sizes)
                fidelity += part.fidelity
        lengths = np.concatenate(sizes)
        write_array(folder / OFFSETS, [np.cumsum(lengths)], len(lengths), (), np.int64)
        write_array(folder / FIDELITY, [fidelity], 3, (), np.float64)
        (folder / MADE_BY).write_text(codec_digest(self._folder) + "\n")
        return {"tokens": int(lengths.sum()), "without_tokens": int((lengths[1:] == 0).sum())}

    def _tokens(self, documents: list[Document], counts: dict[str, int]) -> UnitTokens:
        """The tokens of `documents`, those of the sample from the disk; what was counted of them is added to `counts`."""
        if self._sample is None:
            found = self.encoding.tokens(documents)
            counts["zero_tokens"] += found.zero
            return found
        digests = [digest_of(document, self._corpus) for document in documents]
        kept = [self._sample.of(digest) for digest in digests]
        missing = [document for document, tokens in zip(documents, kept, strict=True) if tokens is None]
        if missing:
            found = self.encoding.tokens(missing)
            counts["zero_tokens"] += found.zero
            new = iter(np.split(found.halves, np.cumsum(found.sizes)[:-1]))
            kept = [next(new) if tokens is None else tokens for tokens in kept]
        for digest in digests:
            for name, count in self._sample.counts(digest).items():
                counts[name] = counts.get(name, 0) + count
        tokens = [part for part in kept if part is not None]
        return UnitTokens(np.concatenate(tokens), np.array([len(part) for part in tokens], np.int64))

    def _coded(self, found: UnitTokens) -> _Coded:
        tokens = as_tokens(found.halves)
        codes, residuals = self.codec.encode(tokens)
        fidelity = np.array([len(tokens), 0, 0], np.float64)
        add_fidelity(tokens, codes, residuals, self.codec.centroids, self.codec.byte_weights, fidelity)
        return _Coded(codes, residuals, found.sizes, fidelity)


def plaid_plan(
    name: str,
    corpus: str,
    spec: EncoderSpec,
    shard_documents: int,
    *,
    similarity: str | None = None,
    storage: str | None = None,
    mean: bool | None = None,
    pool_factor: float = 1.0,
    pool: str | None = None,
    bits: int = 2,
    buckets: str = "least-squares",
    centroids: int | None = None,
    kmeans_iterations: int = 4,
    seed: int = 42,
) -> Plan:
    """The plan of a build, its options checked. Raises `UsageError` for token vectors that need not be of unit length, and for
    a `storage`, which other kinds of token vectors have."""
    if storage is not None:
        raise UsageError(
            f"{name} index: storage={storage!r} has no effect: tokens are kept as codes; choose bits instead"
        )
    options = token_options(name, spec, similarity, "float16", mean, pool_factor, pool)
    del options["storage"]
    if options["similarity"] != "cosine" and not (options["similarity"] == "dot" and spec.normalised):
        raise UsageError(
            f"{name} index: similarity is {options['similarity']}, expected cosine: it keeps directions only; use the kind "
            f"multivector-exact"
        )
    options |= codec_options(name, bits, buckets, centroids, kmeans_iterations, seed)
    return Plan(name, corpus, shard_documents, options, spec)
