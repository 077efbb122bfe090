"""Fixed-dimensional encodings of token vectors (MUVERA: Dhulipala et al., NeurIPS 2024, arXiv 2405.19504).

Per repetition `bits` random hyperplanes cut space into 2^bits parts. A query's part is the sum of its tokens there, a
document's the mean, or, where it has none, a token of its nearest part that has some (fewest bits that differ). All parts
of all repetitions, each projected to `projected` dimensions by random signs, make one vector: the inner product of a
query's and a document's estimates their MaxSim.

Matrices, order of drawing and fill are those of fastembed (`postprocess/muvera.py`): one numpy generator, first the normal
hyperplanes of all repetitions, then all signs, scaled by 1/√projected; of parts equally near the one with the lowest number,
of its tokens the first. `numbering` says what a part's number is: `binary`, the planes' bits, or `gray`, the number whose
Gray code they are (Google's graph-mining), which orders neighbours differently where distances tie.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..compiling import compiled
from ..errors import UsageError, suggest
from ..vectors import MultiVector
from .maxsim_blocks import blocks

NUMBERINGS = ("binary", "gray")

#: More parts than this would make vectors of gigabytes.
MOST_BITS = 12

#: Tokens that are projected at a time.
_TOKENS = 1 << 13


@dataclass(frozen=True)
class FixedDimensional:
    """Encodings of token vectors of `dim` dimensions as one vector of `repetitions` · 2^`bits` · `projected` numbers.

    `projected` None keeps all dimensions. Raises `UsageError` for what can't be.
    """

    dim: int
    bits: int = 5
    projected: int | None = 16
    repetitions: int = 20
    seed: int = 42
    numbering: str = "binary"

    def __post_init__(self) -> None:
        if not 0 <= self.bits <= MOST_BITS:
            raise UsageError(f"muvera: bits is {self.bits}, expected 0 to {MOST_BITS}")
        if self.repetitions < 1:
            raise UsageError(f"muvera: repetitions is {self.repetitions}, expected at least 1")
        if self.projected is not None and not 1 <= self.projected <= self.dim:
            raise UsageError(f"muvera: projected is {self.projected}, expected 1 to {self.dim}, the tokens' dimensions")
        if self.numbering not in NUMBERINGS:
            raise UsageError(f"muvera: numbering {self.numbering!r}: {suggest(self.numbering, NUMBERINGS)}")

    @property
    def width(self) -> int:
        """Numbers of an encoding."""
        return self.repetitions * 2**self.bits * self._kept

    @property
    def _kept(self) -> int:
        return self.projected or self.dim

    @cached_property
    def _matrices(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Hyperplanes (dim, repetitions · bits) and projections (dim, repetitions · projected), float64."""
        random = np.random.default_rng(self.seed)
        planes = [random.normal(size=(self.dim, self.bits)) for _ in range(self.repetitions)]
        if self._kept == self.dim:
            return np.concatenate(planes, axis=1), None
        signs = random.choice([-1, 1], size=(self.repetitions, self.dim, self._kept)) / np.sqrt(self._kept)
        return np.concatenate(planes, axis=1), np.concatenate(list(signs), axis=1)

    def queries(self, vectors: MultiVector) -> np.ndarray:
        """Encodings (n, width) float32 of queries."""
        return self._encoded(vectors, document=False)

    def documents(self, vectors: MultiVector) -> np.ndarray:
        """Encodings (n, width) float32 of documents; one without tokens gets zeros."""
        return self._encoded(vectors, document=True)

    def _encoded(self, vectors: MultiVector, *, document: bool) -> np.ndarray:
        encodings = np.zeros((len(vectors), self.width))
        planes, projections = self._matrices
        for first, last in blocks(vectors.offsets, _TOKENS):
            begin, end = vectors.offsets[first], vectors.offsets[last]
            tokens = vectors.tokens[begin:end].astype(np.float64)
            parts = self._parts(tokens @ planes > 0)
            projected = tokens if projections is None else tokens @ projections
            starts = vectors.offsets[first : last + 1] - begin
            _gather(
                projected,
                parts,
                starts,
                2**self.bits,
                self._kept,
                self.numbering == "gray",
                document,
                encodings[first:last],
            )
        return encodings.astype(np.float32)

    def _parts(self, positive: np.ndarray) -> np.ndarray:
        """The number of the part of each token in each repetition: (T, repetitions) int64."""
        sides = positive.reshape(len(positive), self.repetitions, self.bits)
        if self.numbering == "gray":  # the first plane is the highest bit; a bit flips by those above it
            sides = np.logical_xor.accumulate(sides, axis=2)[:, :, ::-1]
        return sides @ (1 << np.arange(self.bits)) if self.bits else np.zeros(sides.shape[:2], np.int64)


@compiled
def _distance(a: int, b: int, gray: bool) -> int:
    """How many planes lie between two parts."""
    if gray:
        a, b = a ^ (a >> 1), b ^ (b >> 1)
    differing, count = a ^ b, 0
    while differing:
        differing &= differing - 1
        count += 1
    return count


@compiled
def _gather(
    projected: Any, parts: Any, starts: Any, count: int, kept: int, gray: bool, document: bool, encodings: Any
) -> None:
    """Write the encodings (n, width) of texts with tokens `projected` in `parts` (T, repetitions); see the class."""
    sizes, first_token = np.empty(count, np.int64), np.empty(count, np.int64)
    for i in range(len(starts) - 1):
        if starts[i] == starts[i + 1]:
            continue
        for r in range(parts.shape[1]):
            base = r * count * kept
            from_column = r * kept if projected.shape[1] > kept else 0
            sizes[:] = 0
            for row in range(starts[i], starts[i + 1]):
                part = parts[row, r]
                if not sizes[part]:
                    first_token[part] = row
                sizes[part] += 1
                for j in range(kept):
                    encodings[i, base + part * kept + j] += projected[row, from_column + j]
            if not document:
                continue
            for part in range(count):
                source, divisor = part, sizes[part]
                if not divisor:
                    nearest = 1 << 30
                    for other in range(count):
                        if sizes[other] and _distance(part, other, gray) < nearest:
                            nearest, source = _distance(part, other, gray), other
                for j in range(kept):
                    if divisor:
                        encodings[i, base + part * kept + j] /= divisor
                    else:
                        encodings[i, base + part * kept + j] = projected[first_token[source], from_column + j]
