"""Indexes of token vectors: how fast they are built and searched, their bytes and their recall, with PyLate's PLAID beside.

    python -m cribble.bench.bench_late_index [--documents 5000 50000] [--peer PYTHON] [--cache FOLDER] [--only PART …]

`--peer` is the Python of an environment with pylate 1.2 (bench/late_peers.py), at the first number of documents alone; its
build takes minutes and is kept in --cache. Everything runs in one call in one pinned thread, query by query, in random turn;
figures are of process time. The truth of recall@10 is our exact index in float32.

Synthetic token vectors of 128 dimensions that cluster as words in contexts do: 4,000 words of random directions; a topic per
50 documents, which prefers 150 words and shifts them; a document has 20 to 100 tokens, of which 70 % are words of its
topic, 30 % any (both by Zipf's law), each the unit vector of word + 0.5 topic + 0.4 document + 0.5 noise, the last three
and the word of unit length. A query is 32 tokens of one document, each the unit vector of token + 0.6 noise.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..index.opening import find_kind
from ..index.plaid_parameters import Stages
from ..records import Document
from ..vectors import EncoderSpec, MultiVector
from .bench_late_quality import single, vector_bytes

DIM, QUERY_TOKENS, QUERIES, TIMED = 128, 32, 200, 40
WORDS, TOPIC_WORDS, TOPIC_DOCUMENTS = 4000, 150, 50
SPEC = EncoderSpec("synthetic", revision="1", pooling="multi-vector", dim=DIM, similarity="cosine")


# ---- token vectors --------------------------------------------------------------------------------------------------


def unit(values: np.ndarray) -> np.ndarray:
    lengths: np.ndarray = np.linalg.norm(values, axis=-1, keepdims=True)
    return values / lengths


def directions(rng: np.random.Generator, count: int) -> np.ndarray:
    """Random unit vectors (count, 128) float32."""
    return unit(rng.standard_normal((count, DIM), np.float32))


def zipf(rng: np.random.Generator, most: int, count: int) -> np.ndarray:
    """Ranks below `most` by Zipf's law."""
    weights = np.cumsum(1 / np.arange(1, most + 1))
    return np.searchsorted(weights, rng.random(count) * weights[-1])


def token_vectors(documents: int, seed: int = 0) -> MultiVector:
    """Token vectors of documents; see the module."""
    rng = np.random.default_rng(seed)
    words = directions(rng, WORDS)
    matrices = []
    for first in range(0, documents, TOPIC_DOCUMENTS):
        topic, preferred = directions(rng, 1), rng.permutation(WORDS)[:TOPIC_WORDS]
        for _ in range(min(TOPIC_DOCUMENTS, documents - first)):
            count = int(rng.integers(20, 101))
            chosen = np.where(
                rng.random(count) < 0.7, preferred[zipf(rng, TOPIC_WORDS, count)], zipf(rng, WORDS, count)
            )
            context = 0.5 * topic + 0.4 * directions(rng, 1) + 0.5 * directions(rng, count)
            matrices.append(unit(words[chosen] + context))
    return MultiVector.of(matrices, DIM)


def query_vectors(documents: MultiVector, count: int, seed: int = 1) -> MultiVector:
    """Queries (count of 32 tokens), each of a document's tokens with noise."""
    rng = np.random.default_rng(seed)
    matrices = []
    for row in rng.integers(0, len(documents), count):
        own = documents[row]
        chosen = rng.choice(len(own), QUERY_TOKENS, replace=len(own) < QUERY_TOKENS)
        matrices.append(unit(own[chosen] + 0.6 * directions(rng, QUERY_TOKENS)))
    return MultiVector.of(matrices, DIM)


class Named:
    """Documents whose texts are their numbers, to be gone over again and again."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Document]:
        return (Document(str(i), str(i)) for i in range(self.count))


# ---- what is compared -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """An index of `kind`, built with `options`, and the ways to search it: label → parameters."""

    label: str
    kind: str
    options: dict[str, Any] = field(default_factory=dict)
    searches: dict[str, dict[str, Any]] = field(default_factory=lambda: {"": {}})


def cases() -> list[Case]:
    """The exact index in float32 first: it is the truth."""
    exact = [
        Case(f"exact, {s}", "multivector-exact", {"storage": s}) for s in ("float32", "float16", "bfloat16", "int8")
    ]
    searches: dict[str, dict[str, Any]] = {
        "": {},
        ", 1 cell": {"ncells": 1},
        ", 1,024 candidates": {"ndocs": 1024},
        ", warp": {"mode": "warp"},
    }
    more = {"bits": 2, "centroids": 16_384, "kmeans_iterations": 8}
    return [
        *exact,
        Case("plaid, 2 bits", "plaid", {"bits": 2}, searches),
        Case("plaid, 16,384 centroids, 8 iterations", "plaid", more),
        Case("plaid, 4 bits", "plaid", {"bits": 4}),
    ]


@dataclass
class Row:
    """What was seen of one way to search."""

    label: str
    search: Callable[[int], tuple[float, list[int]]]
    built: float | None
    bytes_a_token: float
    ceiling: float | None = None
    seconds: list[float] = field(default_factory=list)
    hits: int = 0

    @property
    def rate(self) -> float:
        return 1 / statistics.mean(self.seconds)


class Peer:
    """The other interpreter."""

    def __init__(self, python: str, data: Path, folder: Path) -> None:
        script = Path(__file__).parent / "late_peers.py"
        errors = (folder / "messages.txt").open("w")
        command = [python, str(script), str(data), str(folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        )

    def ask(self, **what: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(what) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the peer ended: see messages.txt in its folder")
        return json.loads(line)

    def search(self, query: int) -> tuple[float, list[int]]:
        found = self.ask(do="search", query=query)
        return found["seconds"], found["rows"]


# ---- the machine's ceilings -----------------------------------------------------------------------------------------


class Machine(NamedTuple):
    """What a core does at best in a second: bytes copied (read and written), operations of products of each type by torch."""

    bandwidth: float
    operations: dict[str, float]

    @classmethod
    def measured(cls) -> Machine:
        import torch

        source, ones = np.ones(1 << 26, np.float32), torch.ones(1024, 1024)
        halves, whole = ones.bfloat16(), ones.to(torch.int8)
        products: dict[str, Callable[[], object]] = {
            "float32": lambda: ones @ ones,
            "bfloat16": lambda: halves @ halves,
            "int8": lambda: torch._int_mm(whole, whole),
        }
        operations = {name: 2 * 1024**3 / _least(product) for name, product in products.items()}
        target = source.copy()
        return cls(2 * source.nbytes / _least(lambda: np.copyto(target, source)), operations)


def _least(work: Callable[[], object]) -> float:
    """The least process time of 15."""
    seconds = []
    for _ in range(15):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


def exact_ceiling(tokens: int, storage: str, machine: Machine) -> float:
    """Queries a second if nothing but reading all tokens, or multiplying them (float16 in float32), took time."""
    itemsize = {"float32": 4, "int8": 1}.get(storage, 2)
    operations = machine.operations["float32" if storage == "float16" else storage]
    return 1 / max(tokens * DIM * itemsize / machine.bandwidth, 2 * tokens * DIM * QUERY_TOKENS / operations)


def plaid_ceiling(index: Any, parameters: dict[str, Any], machine: Machine) -> float:
    """Queries a second if nothing but the products with all centroids and with the tokens of the candidates that are
    decoded, in float32, and reading these, took time."""
    centroids = index.manifest.counts["centroids"]
    tokens = Stages.of(parameters, 10).scored * index.manifest.counts["tokens"] / len(index)
    operations = 2 * QUERY_TOKENS * DIM * (centroids + tokens)
    read = centroids * DIM * 4 + tokens * (DIM * index.manifest.options["bits"] / 8 + 2)
    return 1 / (operations / machine.operations["float32"] + read / machine.bandwidth)


# ---- what is measured -----------------------------------------------------------------------------------------------


def build(case: Case, vectors: MultiVector, folder: Path) -> tuple[Any, float]:
    """A new index of a case, and documents a second of its build by process time."""

    def encode(batch: list[Document]) -> MultiVector:
        first, last = int(batch[0].id), int(batch[-1].id) + 1
        if last - first != len(batch):
            return MultiVector.of([vectors[int(document.id)] for document in batch], DIM)
        begin, end = vectors.offsets[first], vectors.offsets[last]
        return MultiVector(vectors.tokens[begin:end], vectors.offsets[first : last + 1] - begin)

    path = folder / case.label.replace(", ", "-").replace(" ", "-")
    shutil.rmtree(path, ignore_errors=True)
    start = time.process_time()
    index = find_kind(case.kind).build(
        path, Named(len(vectors)), encode, spec=SPEC, corpus="synthetic", total=len(vectors), **case.options
    )
    return index, len(vectors) / (time.process_time() - start)


def rows_of(case: Case, vectors: MultiVector, queries: MultiVector, folder: Path, machine: Machine) -> list[Row]:
    """An index and the ways to search it."""
    index, rate = build(case, vectors, folder)
    tokens = len(vectors.tokens)
    size = vector_bytes(index.path) / tokens
    rows = []
    for label, parameters in case.searches.items():

        def search(i: int, parameters: dict[str, Any] = parameters) -> tuple[float, list[int]]:
            query = single(queries, i)
            start = time.process_time()
            found = index.search(query, 10, **parameters)[0]
            return time.process_time() - start, [int(i) for i in found.ids]

        ceiling = None
        if case.kind == "multivector-exact":
            ceiling = exact_ceiling(tokens, case.options["storage"], machine)
        elif parameters.get("mode") != "warp":
            ceiling = plaid_ceiling(index, parameters, machine)
        rows.append(Row(case.label + label, search, rate, size, ceiling))
    return rows


def peer_row(python: str, vectors: MultiVector, queries: MultiVector, folder: Path) -> Row:
    data, own = folder / "peer.npz", folder / "peer"
    own.mkdir(parents=True, exist_ok=True)
    if not data.exists():
        matrices = queries.tokens.reshape(-1, QUERY_TOKENS, DIM)
        np.savez(data, tokens=vectors.tokens, offsets=vectors.offsets, queries=matrices)
    peer = Peer(python, data, own)
    facts = peer.ask(do="build")
    return Row("PyLate 1.2 PLAID, 2 bits", peer.search, facts["rate"], facts["bytes"] / len(vectors.tokens))


def compare(documents: int, peer: str | None, folder: Path, only: list[str], machine: Machine) -> None:
    """Build all, ask all in turn, print the table of one number of documents."""
    folder.mkdir(parents=True, exist_ok=True)
    vectors = token_vectors(documents)
    queries = query_vectors(vectors, QUERIES)
    rows = [peer_row(peer, vectors, queries, folder)] if peer else []
    for case in cases():
        if case.options.get("storage") == "float32" or not only or any(part in case.label for part in only):
            rows += rows_of(case, vectors, queries, folder, machine)
    exact = next(row for row in rows if row.label == "exact, float32")
    count = QUERIES if documents <= 10_000 else 2 * TIMED
    truth: list[set[int]] = []
    for i in range(count):
        best = set(exact.search(i)[1])
        truth.append(best)
        for row in rows:
            row.hits += len(best & set(row.search(i)[1]))
    order = np.random.default_rng(0)
    for i in range(TIMED):
        for at in order.permutation(len(rows)):  # so that none always finds the caches as one other leaves them
            rows[at].seconds.append(rows[at].search(i)[0])
    print(f"\n{documents:,} documents, {len(vectors.tokens):,} tokens, {count} queries, {TIMED} of them timed\n")
    print("| index | build, documents/s | bytes a token | recall@10 | queries/s | of exact float32 | ceiling |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        limit = f"{row.ceiling:,.0f}" if row.ceiling else ""
        print(
            f"| {row.label} | {row.built:,.0f} | {row.bytes_a_token:.1f} | {row.hits / 10 / count:.4f} | {row.rate:.1f} "
            f"| {row.rate / exact.rate:.2f} | {limit} |",
            flush=True,
        )


def main() -> None:
    """Parses the command line; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[5000, 50_000])
    parser.add_argument("--peer", help="the Python of an environment with pylate 1.2")
    parser.add_argument("--cache", type=Path, default=Path("runs/late-index"))
    parser.add_argument(
        "--only", nargs="*", default=[], help="parts of the names of indexes; the exact one always runs"
    )
    given = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    machine = Machine.measured()
    rates = ", ".join(f"{1e-9 * rate:,.0f} in {name}" for name, rate in machine.operations.items())
    print(f"a core copies {1e-9 * machine.bandwidth:.1f} GB/s and does {rates} GFLOP/s")
    for i, documents in enumerate(given.documents):
        compare(documents, None if i else given.peer, given.cache / str(documents), given.only, machine)


if __name__ == "__main__":
    main()
