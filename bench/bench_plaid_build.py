"""Building a PLAID index from token vectors at hand: seconds by phase, bytes, peak memory, and what short cuts cost.

    python -m cribble.bench.bench_plaid_build speed [--documents 5000 50000]
    python -m cribble.bench.bench_plaid_build memory [--documents 200000]
    python -m cribble.bench.bench_plaid_build centroids [--tokens FOLDER]
    python -m cribble.bench.bench_plaid_build recall --tokens FOLDER --queries FILE.npz

Documents of about 60 tokens of 128 dimensions, as bench_late_index.py makes them. `memory` makes vectors as they are asked
for, in a process of its own, and reports its largest resident size. `centroids` compares centroids and the choice of the
nearest with plain k-means over all pairs, over synthetic tokens or those of a multivector-exact index in float32;
`recall` builds an index either way and compares what searches find with the exact index (queries: tokens and offsets).
Seconds are of process time, one thread.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..index import plaid_training, token_clusters
from ..index.build import build_index
from ..index.manifest import Manifest
from ..index.multivector import MultivectorIndex
from ..index.opening import find_kind
from ..index.plaid_options import centroid_count
from ..index.plaid_writer import PlaidWriter, plaid_plan
from ..index.token_clusters import NearestCentroids, lloyd
from ..index.token_kmeans import token_centroids
from ..records import Document
from ..vectors import MultiVector
from .bench_late_index import DIM, SPEC, Named, directions, token_vectors, unit

#: Tokens a document on average.
TOKENS = 60

#: Words of which the vectors that are made on the fly are.
WORDS = 20_000

#: Tokens that no centroid is learnt from, to compare centroids by.
APART = 20_000


# ---- speed ----------------------------------------------------------------------------------------------------------


class Phases:
    """Process time by phase; a phase within another is taken out of it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[str] = []
        self._since = time.process_time()

    def timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work`, whose time counts as the phase `name`."""

        def run(*arguments: Any, **options: Any) -> Any:
            self._turn()
            self._open.append(name)
            try:
                return work(*arguments, **options)
            finally:
                self._turn()
                self._open.pop()

        return run

    def _turn(self) -> None:
        now = time.process_time()
        if self._open:
            self.seconds[self._open[-1]] = self.seconds.get(self._open[-1], 0) + now - self._since
        self._since = now


def build(
    folder: Path, documents: int, encode: Callable[[list[Document]], MultiVector], **options: Any
) -> tuple[Manifest, Phases]:
    """Build an index in `folder`; its manifest and the phases."""
    phases = Phases()
    plan = plaid_plan("plaid", "synthetic", SPEC, 4096, **options)
    writer: Any = PlaidWriter(phases.timed("(the encoder)", encode), DIM, plan.options)
    writer.train = phases.timed("count, sample", writer.train)
    writer.write = phases.timed("shards", writer.write)
    writer.finish = phases.timed("postings", writer.finish)
    before = plaid_training.learnt
    plaid_training.learnt = phases.timed("centroids, cut-offs", before)
    try:
        work = phases.timed("texts, ids, fingerprints, SHA-256", build_index)
        return work(folder, Named(documents), writer, plan), phases
    finally:
        plaid_training.learnt = before


def speed(documents: int, **options: Any) -> None:
    """Seconds and documents a second, bytes, and the least work that the assignment is."""
    vectors = token_vectors(documents)

    def encode(batch: list[Document]) -> MultiVector:
        first, last = int(batch[0].id), int(batch[-1].id) + 1
        if last - first != len(batch):
            return MultiVector.of([vectors[int(document.id)] for document in batch], DIM)
        begin, end = vectors.offsets[first], vectors.offsets[last]
        return MultiVector(vectors.tokens[begin:end], vectors.offsets[first : last + 1] - begin)

    with tempfile.TemporaryDirectory() as folder:
        manifest, phases = build(Path(folder) / "index", documents, encode, **options)
    encoder = phases.seconds.pop("(the encoder)")
    seconds = sum(phases.seconds.values())
    counts = manifest.counts
    print(
        f"{documents:,} documents, {counts['tokens']:,} tokens, {counts['centroids']:,} centroids, {options or 'defaults'}"
    )
    print(f"  {seconds:.1f} s, {documents / seconds:,.0f} documents/s (the encoder's {encoder:.1f} s left out)")
    for name, own in phases.seconds.items():
        print(f"  {own:7.2f} s  {name}")
    flat = 2e-9 * counts["tokens"] * counts["centroids"] * DIM
    print(
        f"  {flat:,.0f} GFLOP were every token compared with every centroid once; the product does {flops():,.0f} GFLOP/s"
    )
    print(
        f"  {counts['bytes_per_token_hundredths'] / 100:.2f} bytes a token; mean cosine with the decoded token "
        f"{counts['decoded_cosine_millionths'] / 1e6:.4f}, mean length of a residual {counts['residual_length_millionths'] / 1e6:.4f}",
        flush=True,
    )


def flops() -> float:
    """GFLOP/s of NumPy's product here."""
    rng = np.random.default_rng(0)
    a, b = rng.random((4096, DIM), np.float32), rng.random((DIM, 1024), np.float32)
    best = np.inf
    for _ in range(5):
        begin = time.process_time()
        a @ b
        best = min(best, time.process_time() - begin)
    return float(2e-9 * len(a) * DIM * b.shape[1] / best)


# ---- memory ---------------------------------------------------------------------------------------------------------


def made_on_the_fly() -> Callable[[list[Document]], MultiVector]:
    """An encoder whose vectors depend on the document alone and of which nothing is kept."""
    words = directions(np.random.default_rng(0), WORDS)

    def encode(batch: list[Document]) -> MultiVector:
        matrices = []
        for document in batch:
            rng = np.random.default_rng(int(document.id))
            count = int(rng.integers(20, 2 * TOKENS - 19))
            chosen = np.minimum(rng.zipf(1.2, count), WORDS) - 1
            noise = 0.6 * unit(rng.standard_normal((1, DIM), np.float32)) + 0.5 * directions(rng, count)
            matrices.append(unit(words[chosen] + noise).astype(np.float32))
        return MultiVector.of(matrices, DIM)

    return encode


def memory(documents: int) -> None:
    """In this process: build, and say its largest resident size before and after."""
    encode = made_on_the_fly()
    before = resident()
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        manifest, phases = build(Path(folder) / "index", documents, encode)
        seconds = time.process_time() - begin
    counts = manifest.counts
    print(
        f"{documents:,} documents, {counts['tokens']:,} tokens, {counts['centroids']:,} centroids: largest resident size "
        f"{resident():,.0f} MB ({before:,.0f} MB before the build); {seconds:.0f} s, of these the encoder "
        f"{phases.seconds['(the encoder)']:.0f} s; {counts['bytes_per_token_hundredths'] / 100:.2f} bytes a token"
    )
    print("  " + ", ".join(f"{name} {own:.1f} s" for name, own in phases.seconds.items()), flush=True)


def resident() -> float:
    """The largest resident size of this process so far, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


# ---- centroids ------------------------------------------------------------------------------------------------------


def centroids(folder: Path | None) -> None:
    """Mean cosine of tokens that nothing was learnt from with their centroid: ours, and plain k-means."""
    tokens = stored(folder) if folder else token_vectors(5000).tokens.astype(np.float32)
    order = np.random.default_rng(9).permutation(len(tokens))
    apart, rest = tokens[order[:APART]], tokens[order[APART:]]
    count = centroid_count(len(rest))
    print(f"{len(rest):,} tokens of {tokens.shape[1]} dimensions, {count:,} centroids; {APART:,} others:")

    def blocks() -> Iterator[np.ndarray]:
        return (rest[i : i + 65536] for i in range(0, len(rest), 65536))

    for iterations in (1, 2, 4, 8):
        begin = time.process_time()
        found = token_centroids(blocks, len(rest), tokens.shape[1], count, iterations, 42, lambda steps=1: None)
        learnt, begin = time.process_time() - begin, time.process_time()
        own = NearestCentroids(found).of(apart)
        assigned = time.process_time() - begin
        flat = lloyd(apart, found, 0)[1]
        print(
            f"  {iterations} passes: {learnt:.1f} s; mean cosine {cosine(apart, found, flat):.4f} with the nearest, "
            f"{cosine(apart, found, own):.4f} with the one that is chosen, which is the nearest of {(own == flat).mean():.2%} "
            f"({1e6 * assigned / APART:.1f} µs a token)",
            flush=True,
        )
    begin = time.process_time()
    plain, _ = lloyd(rest, rest[np.random.default_rng(1).permutation(len(rest))[:count]].copy(), 4)
    learnt = time.process_time() - begin
    print(
        f"  plain k-means, 4 iterations from random tokens: {learnt:.1f} s; mean cosine "
        f"{cosine(apart, plain, lloyd(apart, plain, 0)[1]):.4f}"
    )


def recall(folder: Path, queries: Path) -> None:
    """Recall of the exact best 10 by an index as it is built, and by one of plain k-means with all compared with all."""
    exact: Any = MultivectorIndex.open(folder)
    offsets = np.concatenate(
        [[0], *(np.diff(np.load(f)) for f in sorted(folder.glob("shards/*/offsets.npy")))]
    ).cumsum()
    vectors = MultiVector(stored(folder), offsets)
    data = np.load(queries)
    asked = MultiVector(data["tokens"], data["offsets"])
    spec = replace(exact.manifest.encoder, folder="")
    rows = {document.id: row for row, document in enumerate(exact.texts)}

    def encode(batch: list[Document]) -> MultiVector:
        return MultiVector.of([vectors[rows[document.id]] for document in batch], spec.dim)

    def plain(blocks: Any, tokens: int, dim: int, count: int, iterations: int, seed: int, advance: Any) -> np.ndarray:
        held = np.concatenate(list(blocks()))
        start = held[np.random.default_rng(seed).permutation(len(held))[:count]].copy()
        return lloyd(held, start, iterations)[0]

    ways = {"in groups": (token_centroids, token_clusters.FLAT), "all with all": (plain, 1 << 30)}
    for name, (learn, flat) in ways.items():
        plaid_training.token_centroids, token_clusters.FLAT = learn, flat
        with tempfile.TemporaryDirectory() as made:
            begin = time.process_time()
            documents = list(exact.texts)
            index: Any = find_kind("plaid").build(Path(made) / "i", documents, encode, spec=spec, corpus="stored")
            seconds, counts = time.process_time() - begin, index.manifest.counts
            found = {f"ncells {n}": index.recall(asked, 10, exact, ncells=n) for n in (1, 2, 4)}
            found["exhaustive"] = index.recall(asked, 10, exact, mode="exhaustive")
        print(
            f"{name}: {seconds:.0f} s, mean cosine {counts['decoded_cosine_millionths'] / 1e6:.4f}, length of a residual "
            f"{counts['residual_length_millionths'] / 1e6:.4f}; recall@10 "
            + ", ".join(f"{way} {value:.4f}" for way, value in found.items()),
            flush=True,
        )


def stored(folder: Path) -> np.ndarray:
    """The token vectors of a multivector-exact index in float32."""
    return np.concatenate([np.load(file) for file in sorted(folder.glob("shards/*/tokens.npy"))])


def cosine(tokens: np.ndarray, found: np.ndarray, own: np.ndarray) -> float:
    return float(np.einsum("td,td->t", tokens, found[own]).mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("speed", "memory", "memory-here", "centroids", "recall"))
    parser.add_argument("--documents", type=int, nargs="+")
    parser.add_argument("--tokens", type=Path)
    parser.add_argument("--queries", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "speed":
        speed(200)  # compiles
        for documents in arguments.documents or [5000, 50_000]:
            speed(documents)
    elif arguments.what == "memory":
        command = [sys.executable, "-m", "cribble.bench.bench_plaid_build", "memory-here", "--documents"]
        for documents in arguments.documents or [200_000]:
            subprocess.run([*command, str(documents)], check=True)
    elif arguments.what == "memory-here":
        memory(arguments.documents[0])
    elif arguments.what == "recall":
        recall(arguments.tokens, arguments.queries)
    else:
        centroids(arguments.tokens)


if __name__ == "__main__":
    main()
