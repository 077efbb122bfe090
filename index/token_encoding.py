"""Documents' token vectors as a codec takes them: of unit length, after rounding to float16.

Rounding makes a document's codes the same whether it lay on the disk as one of a sample (plaid_sample.py) or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..errors import InputError
from ..records import Document
from ..vectors import MultiVector
from .multivector_files import read
from .multivector_pooling import pooled
from .token_means import make_unit


class UnitTokens(NamedTuple):
    """Tokens of documents: `halves` (T, d) float16, `sizes` (n,) a document, and how many had no direction and are left out."""

    halves: np.ndarray
    sizes: np.ndarray
    zero: int = 0


@dataclass(frozen=True)
class TokenEncoding:
    """How documents become tokens of `dim` dimensions, pooled as the `options` pool_factor and pool say."""

    encode: Callable[[list[Document]], MultiVector]
    dim: int
    options: Mapping[str, Any]
    truncated: Callable[[], int] | None = None

    def cut_texts(self) -> int:
        """Texts that the encoder has cut so far."""
        return self.truncated() if self.truncated else 0

    def tokens(self, documents: list[Document]) -> UnitTokens:
        """Encode `documents`; tokens of length zero are left out.

        Raises `InputError` for vectors of another number or width, and for NaN and infinity.
        """
        vectors = encoded(self.encode, documents, self.dim, self.options)
        tokens = np.array(vectors.tokens, np.float32, order="C")
        fine = np.isfinite(np.einsum("td,td->t", tokens, tokens))
        if not fine.all():
            row = int(np.flatnonzero(~fine)[0])
            document = documents[int(np.searchsorted(vectors.offsets, row, side="right")) - 1]
            raise InputError(
                f"a token vector of document {document.id!r} holds NaN or infinity, or its length overflows float32: check "
                f"the model's dtype"
            )
        there = np.empty(len(tokens), bool)
        make_unit(tokens, there)
        sizes = np.diff(vectors.offsets)
        if there.all():
            return UnitTokens(tokens.astype(np.float16), sizes)
        owners = np.repeat(np.arange(len(sizes)), sizes)[there]
        kept = np.bincount(owners, minlength=len(sizes))
        return UnitTokens(tokens[there].astype(np.float16), kept, int((~there).sum()))


def encoded(
    encode: Callable[[list[Document]], MultiVector], documents: list[Document], dim: int, options: Mapping[str, Any]
) -> MultiVector:
    """The token vectors of `documents`, pooled as the `options` pool_factor and pool say.

    Raises `InputError` where the encoder gives another number of matrices, or another width than `dim`.
    """
    vectors = encode(documents)
    if len(vectors) != len(documents) or vectors.tokens.shape[1] != dim:
        raise InputError(
            f"the encoder gave {len(vectors)} matrices of {vectors.tokens.shape[1]} dimensions for {len(documents)} "
            f"documents, expected {len(documents)} of {dim}: check its spec"
        )
    return pooled(vectors, options["pool_factor"], options["pool"]) if options["pool_factor"] > 1 else vectors


def as_tokens(halves: np.ndarray) -> np.ndarray:
    """`halves` (T, d) float16 as float32 of unit length."""
    tokens = read(halves, "float16")
    tokens = tokens if tokens.flags.owndata and tokens.flags.writeable else tokens.copy()
    make_unit(tokens, np.empty(len(tokens), bool))
    return tokens
