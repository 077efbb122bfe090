"""Small Lucene indexes; run as a script it is the process that the crash tests kill.

python lucene_builds.py PATH DOCUMENTS SHARD    prints `ready`, builds, prints `done` and its seconds
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from cribble.errors import CribbleError
from cribble.index import jvm
from cribble.index.lucene import LuceneIndex
from cribble.records import Document

WORDS = [
    "river",
    "sea",
    "stone",
    "tree",
    "fire",
    "light",
    "wind",
    "rain",
    "snow",
    "sand",
    "moss",
    "fern",
    "lake",
    "hill",
    "cloud",
    "木",
    "río",
]
QUERIES = ["stones in the river", "rain snow wind", "moss", "fern lake hill cloud light light", "木 río"]


def make_documents(count: int) -> list[Document]:
    """Six to twenty words each; many documents tie, and ids are not in the order of the corpus."""
    rng = np.random.default_rng(5)
    ids = rng.permutation(count)
    return [
        Document(f"d{ids[i]}", " ".join(rng.choice(WORDS, rng.integers(5, 20))), "title" if i % 3 else "")
        for i in range(count)
    ]


def build(path, documents, *, corpus="made", shard_documents=1000, **options) -> LuceneIndex:
    return LuceneIndex.build(path, documents, corpus=corpus, shard_documents=shard_documents, **options)


def rankings(index: LuceneIndex, queries=QUERIES, k=50, **options) -> list[list[tuple[str, float]]]:
    return [list(zip(r.ids.tolist(), r.scores.tolist(), strict=True)) for r in index.search(queries, k, **options)]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    path, count, shard = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    documents = make_documents(count)
    jvm.call("ping")
    say("ready")
    start = time.perf_counter()
    try:
        build(path, documents, shard_documents=shard)
    except CribbleError as error:
        say(f"{type(error).__name__}: {error}")
        sys.exit(error.exit_code)
    say(f"done {time.perf_counter() - start}")


if __name__ == "__main__":
    main()
