"""What encoders emit and indexes eat, and the identity of the encoder that made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from .errors import InputError, UsageError, suggest


@dataclass(frozen=True)
class Dense:
    """One vector per text: `values` (n, d), float32 or float16."""

    values: np.ndarray

    def __post_init__(self) -> None:
        if self.values.ndim != 2:
            raise InputError(f"dense vectors have shape {self.values.shape}, expected (n, d)")
        if not np.isfinite(self.values).all():
            row = int(np.flatnonzero(~np.isfinite(self.values).all(axis=1))[0])
            raise InputError(f"dense vector {row} holds NaN or infinity: check the model's dtype (float16 overflows)")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dim(self) -> int:
        return int(self.values.shape[1])


@dataclass(frozen=True)
class MultiVector:
    """One matrix per text: `tokens` (t, d) float32 of all texts one after another, `offsets` (n + 1,) int64 into it."""

    tokens: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        return self.tokens[self.offsets[i] : self.offsets[i + 1]]

    @classmethod
    def of(cls, matrices: Sequence[np.ndarray], dim: int) -> MultiVector:
        """Join per-text matrices (t_i, d); an empty sequence gives no rows of width `dim`."""
        offsets = np.zeros(len(matrices) + 1, np.int64)
        np.cumsum([len(matrix) for matrix in matrices], out=offsets[1:])
        tokens = np.concatenate(matrices) if matrices else np.zeros((0, dim), np.float32)
        return cls(tokens, offsets)


@dataclass(frozen=True)
class Sparse:
    """One bag of weighted terms per text, by rows: `indptr` (n + 1,) int64, `ids` (nnz,) int32, `weights` (nnz,) float32.

    `terms` is the size of the vocabulary. Within a row ids ascend and are distinct, weights are positive; a row may be
    empty. Raises `InputError` where that does not hold, naming the row.
    """

    indptr: np.ndarray
    ids: np.ndarray
    weights: np.ndarray
    terms: int

    def __post_init__(self) -> None:
        if self.indptr[0] != 0 or self.indptr[-1] != len(self.ids) or len(self.ids) != len(self.weights):
            raise InputError(
                f"sparse vectors: {len(self.ids)} ids, {len(self.weights)} weights, indptr to {self.indptr[-1]}"
            )
        starts = np.zeros(len(self.ids), bool)
        starts[self.indptr[:-1][np.diff(self.indptr) > 0]] = True
        unsorted = np.zeros(len(self.ids), bool)
        unsorted[1:] = (np.diff(self.ids) <= 0) & ~starts[1:]
        for bad, what in (
            (~(self.weights > 0) | ~np.isfinite(self.weights), "a weight that is not positive and finite"),
            ((self.ids < 0) | (self.ids >= self.terms), f"a term outside 0..{self.terms - 1}"),
            (unsorted, "terms that do not ascend"),
        ):
            if bad.any():
                at = int(np.flatnonzero(bad)[0])
                row = int(np.searchsorted(self.indptr, at, side="right")) - 1
                raise InputError(f"sparse vector {row} has {what}: term {self.ids[at]}, weight {self.weights[at]}")

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def row(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and weights of text `i`."""
        span = slice(self.indptr[i], self.indptr[i + 1])
        return self.ids[span], self.weights[span]

    @classmethod
    def of(cls, rows: Sequence[tuple[np.ndarray, np.ndarray]], terms: int) -> Sparse:
        """Join per-text ids and weights, each sorted by id."""
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(ids) for ids, _ in rows], out=indptr[1:])
        ids = np.concatenate([np.zeros(0, np.int32), *(ids for ids, _ in rows)]).astype(np.int32)
        weights = np.concatenate([np.zeros(0, np.float32), *(w for _, w in rows)]).astype(np.float32)
        return cls(indptr, ids, weights, terms)


@dataclass(frozen=True)
class Binary:
    """One packed code per text: `codes` (n, bytes) uint8, whose first `bits` bits (most significant first) count."""

    codes: np.ndarray
    bits: int

    def __post_init__(self) -> None:
        if self.codes.dtype != np.uint8 or self.codes.ndim != 2 or self.codes.shape[1] != -(-self.bits // 8):
            raise InputError(
                f"binary codes are {self.codes.dtype} of shape {self.codes.shape}, expected uint8 (n, {-(-self.bits // 8)})"
            )

    def __len__(self) -> int:
        return len(self.codes)


@dataclass(frozen=True)
class BagVectors:
    """A vector and a bag of word vectors per text (ColBERTer): `cls` (n, c) float32, `bags`, the word vectors of each text,
    and `words` (T,) uint32, the id of the word that each of `bags.tokens` (T, d) is of."""

    cls: np.ndarray
    bags: MultiVector
    words: np.ndarray

    def __len__(self) -> int:
        return len(self.cls)

    def __getitem__(self, rows: slice) -> BagVectors:
        """The texts in a slice of step 1."""
        first, last, _ = rows.indices(len(self))
        begin, end = self.bags.offsets[first], self.bags.offsets[max(first, last)]
        offsets = self.bags.offsets[first : max(first, last) + 1] - begin
        return BagVectors(
            self.cls[first:last], MultiVector(self.bags.tokens[begin:end], offsets), self.words[begin:end]
        )


Vectors = Dense | MultiVector | BagVectors | Sparse | Binary


@dataclass(frozen=True)
class EncoderSpec:
    """The identity of an encoder, as far as its vectors depend on it. An index records it and refuses any other.

    `model` is the Hub name or the folder's name, `revision` the SHA-256 of the weights (so that a moved folder still
    matches and a retrained one does not), `similarity` what the vectors are made to be compared with: dot or cosine.
    `extra` holds by name what else was set otherwise than in the checkpoint's files (layer, bidirectional, …).
    `folder` is where a local model lay when the index was made: a hint to find it again, no part of the identity.
    """

    model: str
    revision: str = ""
    query_prompt: str = ""
    document_prompt: str = ""
    pooling: str = ""
    dim: int = 0
    dtype: str = "float32"
    max_length: int = 0
    normalised: bool = False
    similarity: str = "cosine"
    extra: dict[str, Any] = field(default_factory=dict)
    folder: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> EncoderSpec:
        known = {f.name for f in fields(cls)}
        for key in data:
            if key not in known:
                raise UsageError(f"encoder spec has the unknown field {key!r}: {suggest(key, known)}")
        return cls(**data)

    def differences(self, other: EncoderSpec) -> list[str]:
        """One line `field: this here, that there` per field that differs; the folder's name alone does not count."""
        lines: dict[str, str] = {}
        for f in fields(self):
            mine, theirs = getattr(self, f.name), getattr(other, f.name)
            if f.name == "folder":
                continue
            if f.name == "model" and self.revision and self.revision == other.revision:
                continue
            if f.name != "extra" and mine != theirs:
                lines[f.name] = f"{f.name}: {mine!r} here, {theirs!r} there"
        for name in sorted({*self.extra, *other.extra}):
            mine, theirs = self.extra.get(name), other.extra.get(name)
            if mine != theirs:
                lines.setdefault(name, f"{name}: {mine!r} here, {theirs!r} there")
        return list(lines.values())
