"""A cheap deterministic encoder of sparse vectors and builds with it; run as a script, the process that crash tests kill.

python sparse_builds.py build PATH DOCUMENTS SHARD    prints `shard` at each shard and waits for a line before it goes on
python sparse_builds.py steps PATH FIRST STRIDE       dies at every durable step FIRST, FIRST + STRIDE, …, and resumes
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
from cribble.index.inverted import InvertedIndex
from cribble.records import Document
from cribble.tests.index.builds import die_at_steps, make_documents, say
from cribble.vectors import EncoderSpec, Sparse

TERMS = 4096
SPEC = EncoderSpec(
    "words", revision="r1", dim=TERMS, similarity="dot", normalised=True, extra={"vocabulary": "hashed words"}
)


def encode_sparse(texts: list[str]) -> Sparse:
    """Words hashed to terms, each with the square root of its count, in vectors of unit length."""
    rows = []
    for text in texts:
        words = Counter(map(_term, text.split()))
        ids = np.array(sorted(words), np.int32)
        weights = np.sqrt([words[i] for i in ids.tolist()])
        rows.append((ids, (weights / max(1e-9, float(np.linalg.norm(weights)))).astype(np.float32)))
    return Sparse.of(rows, TERMS)


@cache
def _term(word: str) -> int:
    return int.from_bytes(hashlib.sha256(word.encode()).digest()[:2], "big") % TERMS


def encode(documents: list[Document]) -> Sparse:
    return encode_sparse([document.full_text for document in documents])


def build_inverted(path, documents, encode=encode, *, spec=SPEC, corpus="made", shard_documents=16, **options):
    return InvertedIndex.build(
        path, documents, encode, spec=spec, corpus=corpus, shard_documents=shard_documents, **options
    )


def main() -> None:
    command, path = sys.argv[1], Path(sys.argv[2])
    if command == "steps":
        die_at_steps(path, build_inverted, int(sys.argv[3]), int(sys.argv[4]))
        return

    def patient(batch: list[Document]) -> Sparse:
        say("shard")
        sys.stdin.readline()
        return encode(batch)

    build_inverted(path, make_documents(int(sys.argv[3])), patient, shard_documents=int(sys.argv[4]))


if __name__ == "__main__":
    main()
