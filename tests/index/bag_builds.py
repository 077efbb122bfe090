"""A cheap deterministic encoder of bags of words and builds with it; run as a script it is what crash tests kill.

python bag_builds.py steps PATH KIND FIRST STRIDE   dies at every STRIDE-th durable step from FIRST on, and resumes;
                                                    KIND: colberter, or exact (only equal words match)
"""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from pathlib import Path

import numpy as np
from cribble.index.colberter import ColberterIndex
from cribble.models.colberter_words import word_id
from cribble.records import Document
from cribble.tests.index.builds import die_at_steps
from cribble.vectors import BagVectors, EncoderSpec, MultiVector

CLS_DIM, DIM = 12, 8
SPEC = EncoderSpec(
    "bags",
    revision="r1",
    pooling="colberter",
    dim=DIM,
    similarity="dot",
    extra={"cls_dim": CLS_DIM, "exact_match": False, "mix": 0.4},
)
EXACT_SPEC = EncoderSpec(
    "bags", revision="r1", pooling="colberter", dim=DIM, similarity="dot", extra={**SPEC.extra, "exact_match": True}
)

#: As an encoder would cut texts.
_LONGEST = 256


@cache
def _numbers(word: str) -> np.ndarray:
    values = np.frombuffer(hashlib.sha256(word.encode()).digest(), np.int8).astype(np.float32)
    return values / np.linalg.norm(values[:DIM])


def encode_bags(texts: list[str]) -> BagVectors:
    """A fixed random unit vector per distinct word, and of the text the unit vector of their sum."""
    cls = np.zeros((len(texts), CLS_DIM), np.float32)
    bags, words = [], [np.zeros(0, np.uint32)]
    for row, text in zip(cls, texts, strict=True):
        own = list(dict.fromkeys(text.split()[:_LONGEST]))
        row += sum((_numbers(word)[-CLS_DIM:] for word in own), np.zeros(CLS_DIM, np.float32))
        row /= max(float(np.linalg.norm(row)), 1e-9)
        bags.append(np.array([_numbers(word)[:DIM] for word in own], np.float32).reshape(-1, DIM))
        words.append(np.array([word_id(word) for word in own], np.uint32))
    return BagVectors(cls, MultiVector.of(bags, DIM), np.concatenate(words))


def encode(documents: list[Document]) -> BagVectors:
    return encode_bags([document.full_text for document in documents])


def build_bags(path, documents, encode=encode, *, spec=SPEC, corpus="made", shard_documents=16, **options):
    return ColberterIndex.build(
        path, documents, encode, spec=spec, corpus=corpus, shard_documents=shard_documents, **options
    )


def build_exact_bags(path, documents, **options):
    return build_bags(path, documents, spec=EXACT_SPEC, **options)


if __name__ == "__main__":
    build = build_exact_bags if sys.argv[3] == "exact" else build_bags
    die_at_steps(Path(sys.argv[2]), build, int(sys.argv[4]), int(sys.argv[5]))
