"""A late-interaction score taken to pieces: texts and vectors of one query and one document → the match of each token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..explanation import Explanation, TokenMatch, TokenText
from ..index.maxsim_blocks import LEAST, check_pair
from ..records import Document
from .encoder import Encoder
from .image_documents import image_of
from .token_texts import document_token_texts, query_token_texts

if TYPE_CHECKING:
    from .multivector_options import TokenEncoder


def explain_tokens(
    encoder: Encoder | TokenEncoder,
    query: str,
    document: Document,
    *,
    stage: str,
    similarity: str,
    mean: bool = False,
    stage_score: float | None = None,
    notes: Sequence[str] = (),
) -> Explanation:
    """Encode both by `encoder`, and say what each query token matched. `stage_score` and `notes` go in as they are.

    `similarity` and `mean` are those of `index.maxsim.maxsim`, whose score of these vectors is the sum, in float64.
    """
    if image_of(document):
        raise InputError(f"document {document.id!r} is a picture: only matches in texts can be explained")
    if isinstance(encoder, Encoder):
        query_vectors, document_vectors = encoder.query_tokens([query])[0], encoder.document_tokens([document])[0]
    else:
        query_vectors, document_vectors = encoder.encode_queries([query])[0], encoder.encode_documents([document])[0]
    asked, found = query_token_texts(encoder, query), document_token_texts(encoder, document)
    told = list(notes)
    if asked.cut:
        told.append("the query has more tokens than the model reads: it was cut")
    if found.cut:
        last = max((token.span[1] for token in found.tokens if token.span), default=0)
        told.append(f"the model read the document's first {last:,} of {len(document.full_text):,} characters")
    matches = token_matches(
        asked.tokens, query_vectors, found.tokens, document_vectors, similarity=similarity, mean=mean
    )
    least = LEAST[similarity] if similarity == "l2" else 0.0
    if mean:
        least /= max(1, len(matches))
    return Explanation(query, document, stage, matches, stage_score, tuple(told), least)


def token_matches(
    query: Sequence[TokenText],
    query_vectors: np.ndarray,
    document: Sequence[TokenText],
    document_vectors: np.ndarray,
    *,
    similarity: str,
    mean: bool = False,
) -> tuple[TokenMatch, ...]:
    """The best match of each query token, computed in float64: vectors are (t, d) and (T, d) float32, their texts beside.

    Of equal matches the first in the document counts. A document without tokens matches nothing: each query token gets
    the least of two unit vectors, as `index.maxsim.maxsim` has it. Raises `InputError` where texts and vectors are not as many.
    """
    for what, texts, vectors in (("query", query, query_vectors), ("document", document, document_vectors)):
        if len(texts) != len(vectors):
            raise InputError(
                f"the {what} has {len(vectors)} token vectors and {len(texts)} tokens: the model makes vectors of more "
                "than one token, whose matches can't be told by token"
            )
    check_pair(query_vectors, document_vectors, similarity)
    divisor = max(1, len(query)) if mean else 1
    if not len(document):
        return tuple(TokenMatch(text, LEAST[similarity] / divisor, None) for text in query)
    pairs = _similarities(query_vectors.astype(np.float64), document_vectors.astype(np.float64), similarity)
    best = pairs.argmax(axis=1)
    return tuple(
        TokenMatch(text, float(row[place]) / divisor, document[place])
        for text, row, place in zip(query, pairs, best.tolist(), strict=True)
    )


def _similarities(query: np.ndarray, document: np.ndarray, similarity: str) -> np.ndarray:
    """(t, T) float64."""
    if similarity == "cosine":
        query, document = _unit(query), _unit(document)
    pairs: np.ndarray = query @ document.T
    if similarity == "l2":
        pairs = 2 * pairs - (query**2).sum(1)[:, None] - (document**2).sum(1)
    return pairs


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
