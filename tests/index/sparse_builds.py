"""A cheap deterministic encoder of sparse vectors and builds with it; run as a script, the process that crash tests kill.

python sparse_builds.py build PATH DOCUMENTS SHARD    prints `shard` at each shard and waits for a line before it goes on
python sparse_builds.py steps PATH FIRST STRIDE       dies at every durable step FIRST, FIRST + STRIDE, …, and resumes
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
from cribble.index.inverted import InvertedIndex
from cribble.records import Document
from cribble.tests.index.builds import arm, contents, make_documents, say, state
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


def _die_at_steps(root: Path, first: int, stride: int) -> None:
    """As `builds._die_at_every_step`, for inverted indexes."""
    documents = make_documents(10)
    build_inverted(root / "reference", documents, shard_documents=4)
    reference = contents(root / "reference")
    for step in range(first, 1000, stride):
        path = root / f"killed{step}"
        child = os.fork()
        if child == 0:
            arm(step, ("fsync", "rename", "replace", "mkdir"))
            build_inverted(path, documents, shard_documents=4)
            os._exit(0)
        survived = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        found = state(path)
        if found != "whole":
            build_inverted(path, documents, shard_documents=4)
        say(json.dumps({"step": step, "state": found, "equal": contents(path) == reference, "survived": survived}))
        if survived:
            return


def main() -> None:
    command, path = sys.argv[1], Path(sys.argv[2])
    if command == "steps":
        _die_at_steps(path, int(sys.argv[3]), int(sys.argv[4]))
        return

    def patient(batch: list[Document]) -> Sparse:
        say("shard")
        sys.stdin.readline()
        return encode(batch)

    build_inverted(path, make_documents(int(sys.argv[3])), patient, shard_documents=int(sys.argv[4]))


if __name__ == "__main__":
    main()
