"""A cheap deterministic encoder of token vectors and builds with it; run as a script it is what crash tests kill.

python token_builds.py steps PATH KIND FIRST STRIDE   dies at every STRIDE-th durable step from FIRST on, and resumes
"""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from pathlib import Path

import numpy as np
from cribble.index.opening import find_kind
from cribble.records import Document
from cribble.tests.index.builds import die_at_steps
from cribble.vectors import EncoderSpec, MultiVector

DIM = 16
SPEC = EncoderSpec("words", revision="r1", pooling="multi-vector", dim=DIM, similarity="cosine")

#: As an encoder would cut texts.
_LONGEST = 256

#: So small that an index of a few documents is made in a moment.
SMALL = {"partition_bits": 2, "projected": 8, "repetitions": 6}


def encode_tokens(texts: list[str]) -> MultiVector:
    """A fixed random vector per word."""
    matrices = [[_word_vector(word) for word in text.split()[:_LONGEST]] for text in texts]
    return MultiVector.of([np.array(m, np.float32).reshape(-1, DIM) for m in matrices], DIM)


@cache
def _word_vector(word: str) -> np.ndarray:
    return np.frombuffer(hashlib.sha256(word.encode()).digest(), np.int8)[:DIM].astype(np.float32) / 128


def encode(documents: list[Document]) -> MultiVector:
    return encode_tokens([document.full_text for document in documents])


def build_tokens(kind, path, documents, encode=encode, *, spec=SPEC, corpus="made", shard_documents=16, **options):
    return find_kind(kind).build(
        path, documents, encode, spec=spec, corpus=corpus, shard_documents=shard_documents, **options
    )


def build_exact(path, documents, **options):
    return build_tokens("multivector-exact", path, documents, **options)


def build_muvera(path, documents, **options):
    return build_tokens("muvera", path, documents, **(SMALL | options))


def build_plaid(path, documents, **options):
    return build_tokens("plaid", path, documents, **({"bits": 4} | options))


if __name__ == "__main__":
    builds = {"muvera": build_muvera, "plaid": build_plaid}
    die_at_steps(Path(sys.argv[2]), builds.get(sys.argv[3], build_exact), int(sys.argv[4]), int(sys.argv[5]))
