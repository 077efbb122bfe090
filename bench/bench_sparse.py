"""The inverted index by turns with its peers, on one pinned thread: learned sparse vectors, and BM25 without Java.

    python -m cribble.bench.bench_sparse [--documents 100000] [--peers PYTHON] [--only sparse|bm25] [--without lucene …]

Learned-sparse-like vectors: 120 terms a document and 30 a query of 30,522, drawn by a Zipf-Mandelbrot law that is flat
enough for 1.1 common terms of any query and document; a third of a query's terms are among the heaviest of one document.
Weights are log-normal, squashed below 3.5, those of queries exponential. For BM25: the texts of bench_lucene, in terms.

Against them: a loop over flat lists of float32 with float32 sums (numba) and numpy's partition, scipy's product, Lucene's
impact index through pyserini; and in the environment PYTHON that `--peers` names, seismic and bm25s (sparse_peers.py).
Prints queries a second by process time and by the clock, the best of the rounds, and the median of the rounds' ratios to
ours; recall against the exact best over unrounded weights; seconds of building; bytes. Whatever else the machine does at
the time disturbs the clock more than the process time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TERMS = 30_522
DEPTHS = (10, 1000)


def law(exponent: float) -> Any:
    import numpy as np

    chances = (np.arange(TERMS) + 2.7) ** -exponent
    return chances / chances.sum()


def common_terms(chances: Any) -> float:
    """Expected common terms of a document and a query."""
    import numpy as np

    def there(count: float) -> Any:
        """The chance of each term to be among `count` distinct ones."""
        low, high = count, 100 * count
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if (1 - np.exp(-chances * middle)).sum() < count else (low, middle)
        return 1 - np.exp(-chances * low)

    return float((there(120) * there(30)).sum())


def make_vectors(documents: int, queries: int) -> Any:
    import numba
    import numpy as np
    from cribble.vectors import Sparse

    low, high = 0.3, 1.2
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if common_terms(law(middle)) < 1.1 else (low, middle)
    ends = np.cumsum(law(low))
    ends /= ends[-1]

    @numba.njit
    def draw(ends: Any, sizes: Any) -> Any:
        np.random.seed(1)
        ids, seen, at = np.empty(sizes.sum(), np.int32), np.full(len(ends), -1, np.int64), 0
        for row in range(len(sizes)):
            start = at
            while at - start < sizes[row]:
                term = np.searchsorted(ends, np.random.random())
                if seen[term] != row:
                    seen[term], ids[at] = row, term
                    at += 1
            ids[start:at].sort()
        return ids

    rng = np.random.default_rng(1)
    sizes = np.clip(rng.normal(120, 30, documents), 20, 300).astype(np.int64)
    ids = draw(ends, sizes)
    weights = (3.5 * np.tanh(rng.lognormal(-0.7, 0.6, len(ids)) / 3.5)).astype(
        np.float32
    )  # no two alike, as if clipped
    made = Sparse(np.concatenate([[0], np.cumsum(sizes)]), ids, weights, TERMS)
    rows = []
    for _ in range(queries):
        size = int(np.clip(rng.normal(30, 8), 5, 80))
        own, heavy = made.row(int(rng.integers(documents)))
        top = rng.choice(own[np.argsort(-heavy)[:20]], min(size // 3, 20), replace=False)
        more = np.unique(np.searchsorted(ends, rng.random(3 * size)))
        more = rng.permutation(more[~np.isin(more, top)])[: size - len(top)]
        values = (rng.exponential(0.5, size) + 0.02)[: len(top) + len(more)]
        values[: len(top)] += 0.5
        terms = np.concatenate([top, more])
        rows.append((np.sort(terms), values[np.argsort(terms)]))
    return made, Sparse.of(rows, TERMS)


def make_counts(documents: int, queries: int) -> Any:
    import numpy as np
    from cribble.bench.bench_lucene import make_text
    from cribble.vectors import Sparse

    texts, asked = make_text(documents, queries)
    vocabulary: dict[str, int] = {}
    rows = []
    for text in texts:
        terms, counts = np.unique([vocabulary.setdefault(w, len(vocabulary)) for w in text.split()], return_counts=True)
        rows.append((terms, counts))
    size = len(vocabulary)
    of_queries = [np.unique([vocabulary[word] for word in text.split()]) for text in asked]
    return Sparse.of(rows, size), Sparse.of([(terms, np.ones(len(terms))) for terms in of_queries], size)


def save(folder: Path, **vectors: Any) -> None:
    import numpy as np

    for name, made in vectors.items():
        for part in ("indptr", "ids", "weights"):
            np.save(folder / f"{name}.{part}.npy", getattr(made, part))
        np.save(folder / "terms.npy", [made.terms])


# ---- the sides: each has `build() -> bytes` and `search(k, setting) -> found`, `rows(found)` -------------------------


class Ours:
    """Settings are the share that `approx` leaves out."""

    def __init__(self, folder: Path, documents: Any, queries: Any, payload: str, storage: str = "uint8") -> None:
        self.folder, self.documents, self.queries = folder / f"ours {storage}", documents, queries
        self.payload, self.storage = payload, storage

    def build(self) -> int:
        from cribble.index.inversion import invert
        from cribble.index.postings import Postings

        self.folder.mkdir()
        size, terms = len(self.documents), self.documents.terms
        invert(self.folder, [self.documents], size, terms, payload=self.payload, storage=self.storage)
        self.postings = Postings.open(self.folder)
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def search(self, k: int, setting: float) -> Any:
        from cribble.index.block_max import Bm25, search

        weighting = Bm25(0.9, 0.4) if self.payload == "count" else None
        return list(search(self.postings, self.queries, k, weighting=weighting, approx=setting or 0.0))

    def rows(self, found: Any) -> list[list[int]]:
        return [rows.tolist() for _, rows in found]


class Loop:
    """Every posting of every term, one after another, in compiled code; then the best by numpy's partition, or nothing."""

    def __init__(self, documents: Any, queries: Any) -> None:
        self.documents, self.queries = documents, queries

    def build(self) -> int:
        import numba
        import numpy as np
        import scipy.sparse

        made = self.documents
        matrix = scipy.sparse.csr_matrix((made.weights, made.ids, made.indptr), (len(made), made.terms)).tocsc()
        self.starts, self.rows_, self.weights = matrix.indptr, matrix.indices, matrix.data
        self.sums = np.zeros(len(made), np.float32)

        @numba.njit(nogil=True)
        def add(starts: Any, rows: Any, weights: Any, terms: Any, factors: Any, sums: Any) -> None:
            sums[:] = 0
            for t in range(len(terms)):
                factor = factors[t]
                for i in range(starts[terms[t]], starts[terms[t] + 1]):
                    sums[rows[i]] += factor * weights[i]

        self.add: Any = add
        return int(self.starts.nbytes + self.rows_.nbytes + self.weights.nbytes)

    def search(self, k: int, setting: str | None) -> Any:
        import numpy as np

        found = []
        for i in range(len(self.queries)):
            self.add(self.starts, self.rows_, self.weights, *self.queries.row(i), self.sums)
            if setting == "sums":
                continue
            best = np.flatnonzero(self.sums >= np.partition(self.sums, -k)[-k])
            found.append(best[np.argsort(-self.sums[best])][:k])
        return found

    def rows(self, found: Any) -> list[list[int]]:
        return [rows.tolist() for rows in found]


class Scipy(Loop):
    """The product of sparse matrices, a query at a time, and argpartition."""

    def build(self) -> int:
        import scipy.sparse

        d, q = self.documents, self.queries
        matrix = scipy.sparse.csr_matrix((d.weights, d.ids, d.indptr), (len(d), d.terms))
        self.transposed = matrix.T.tocsr()
        self.asked = scipy.sparse.csr_matrix((q.weights, q.ids, q.indptr), (len(q), q.terms))
        return int(matrix.data.nbytes + matrix.indices.nbytes + matrix.indptr.nbytes)

    def search(self, k: int, setting: str | None) -> Any:
        import numpy as np

        found = []
        for i in range(len(self.queries)):
            scores = self.asked[i] @ self.transposed
            best = np.argpartition(-scores.data, k)[:k] if scores.nnz > k else np.arange(scores.nnz)
            found.append(scores.indices[best[np.argsort(-scores.data[best])]])
        return found


class Lucene:
    """Anserini's impact index through pyserini, in cribble's Java; weights are times 100, whole."""

    def __init__(self, folder: Path, documents: Any, queries: Any) -> None:
        self.folder, self.documents, self.queries = folder, documents, queries
        corpus = folder / "lucene corpus"
        corpus.mkdir()
        with (corpus / "documents.jsonl").open("w") as stream:
            for i in range(len(documents)):
                ids, weights = documents.row(i)
                whole = (weights * 100).round().astype(int).tolist()
                vector = {f"t{t}": w for t, w in zip(ids.tolist(), whole, strict=True) if w}
                stream.write(json.dumps({"id": str(i), "contents": "", "vector": vector}) + "\n")

    def build(self) -> int:
        from cribble.index import jvm

        jvm.call("ping")
        os.environ.setdefault("OPENAI_API_KEY", "none")
        from jnius import autoclass

        arguments = ["-collection", "JsonVectorCollection", "-input", str(self.folder / "lucene corpus")]
        arguments += ["-index", str(self.folder / "lucene"), "-generator", "DefaultLuceneDocumentGenerator"]
        autoclass("io.anserini.index.IndexCollection").main(
            [*arguments, "-threads", "1", "-impact", "-pretokenized", "-optimize"]
        )
        return sum(path.stat().st_size for path in (self.folder / "lucene").iterdir())

    def open(self) -> None:
        from pyserini.search.lucene import LuceneImpactSearcher

        class Encoder:
            def encode(self, query: Any) -> Any:
                return query

        self.searcher = LuceneImpactSearcher(str(self.folder / "lucene"), Encoder())
        self.asked = [
            {f"t{t}": round(100 * float(w)) for t, w in zip(*self.queries.row(i), strict=True)}
            for i in range(len(self.queries))
        ]

    def search(self, k: int, setting: None) -> Any:
        return [self.searcher.search(query, k) for query in self.asked]

    def rows(self, found: Any) -> list[list[int]]:
        return [[int(hit.docid) for hit in hits] for hits in found]


class Elsewhere:
    """A peer in another environment; times are those that it takes itself."""

    def __init__(self, python: str, name: str, folder: Path) -> None:
        script = Path(__file__).with_name("sparse_peers.py")
        self.process = subprocess.Popen(
            [python, str(script), name, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **order: Any) -> dict[str, Any]:
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the peer has no pipes")
        stdin.write(json.dumps(order) + "\n")
        stdin.flush()
        answer: dict[str, Any] = json.loads(stdout.readline())
        return answer

    def close(self) -> None:
        self.process.communicate("")


def timed(side: Any, do: str, k: int = 0, setting: Any = None, rows: bool = False) -> dict[str, Any]:
    """Clock and process seconds of one call, and what came of it: `bytes`, or the found `rows` if asked for."""
    if isinstance(side, Elsewhere):
        return side.ask(do=do, k=k, setting=setting, rows=rows)
    clock, process = time.perf_counter(), time.process_time()
    answer = side.build() if do == "build" else side.search(k, setting)
    times = {"clock": time.perf_counter() - clock, "process": time.process_time() - process}
    if do == "build":
        return times | {"bytes": answer}
    return times | {"rows": side.rows(answer) if rows else []}


# ---- the comparison -------------------------------------------------------------------------------------------------


def compare(sides: dict[str, tuple[Any, Any]], queries: int, rounds: int, reference: str, ours: str) -> None:
    """`sides`: name → side and setting. Recall is against `reference`, ratios are to `ours`."""
    built: dict[int, dict[str, Any]] = {}
    for name, (side, _) in sides.items():
        if id(side) not in built:
            built[id(side)] = made = timed(side, "build")
            if hasattr(side, "open"):
                side.open()
            print(
                f"{name}: built in {made['process']:.1f} s ({made['clock']:.1f} by the clock), {made['bytes']:,} bytes"
            )
    for k in DEPTHS:
        expected = timed(sides[reference][0], "search", k, sides[reference][1], rows=True)["rows"]
        recall = {}
        for name, (side, setting) in sides.items():
            found = timed(side, "search", k, setting, rows=True)["rows"]
            shares = [len(set(a) & set(b)) / max(1, len(a)) for a, b in zip(expected, found, strict=bool(found))]
            recall[name] = statistics.mean(shares) if found else float("nan")
        taken: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, (side, setting) in sides.items():
                taken[name].append(timed(side, "search", k, setting))
        print(f"\nk={k:<6}{'':26}q/s (process)  q/s (clock)  ours is faster by  recall@k")
        for name in sides:
            process, clock = (min(t[kind] for t in taken[name]) for kind in ("process", "clock"))
            ratio = statistics.median(
                a["process"] / b["process"] for a, b in zip(taken[name], taken[ours], strict=True)
            )
            print(f"  {name:30} {queries / process:13,.0f} {queries / clock:12,.0f} {ratio:18.2f} {recall[name]:9.4f}")


def sparse(arguments: argparse.Namespace, folder: Path) -> None:
    documents, queries = make_vectors(arguments.documents, arguments.queries)
    print(f"\n{len(documents):,} documents, {len(documents.ids) / len(documents):.1f} terms each, {len(queries)} queries, "
          f"{len(queries.ids) / len(queries):.1f} terms each")  # fmt: skip
    save(folder, documents=documents, queries=queries)
    ours = Ours(folder, documents, queries, "impact")
    loop = Loop(documents, queries)
    sides: dict[str, tuple[Any, Any]] = {
        "ours, exact, 8 bits": (ours, 0.0),
        "ours, approx .05": (ours, 0.05),
        "ours, approx .2": (ours, 0.2),
        "ours, exact, float32": (Ours(folder, documents, queries, "impact", "float32"), 0.0),
        "loop over all postings": (loop, None),
        "its sums alone": (loop, "sums"),
        "scipy": (Scipy(documents, queries), None),
    }
    if "lucene" not in arguments.without:
        sides["Lucene impact, pyserini"] = (Lucene(folder, documents, queries), None)
    if arguments.peers and "seismic" not in arguments.without:
        seismic = Elsewhere(arguments.peers, "seismic", folder)
        for cut, factor in ((5, 0.9), (10, 0.8), (20, 0.6)):
            sides[f"seismic, cut {cut}, factor {factor}"] = (seismic, (cut, factor))
    compare(sides, len(queries), arguments.rounds, "loop over all postings", "ours, exact, 8 bits")


def bm25(arguments: argparse.Namespace, folder: Path) -> None:
    documents, queries = make_counts(arguments.documents, arguments.queries)
    print(f"\nBM25: {len(documents):,} documents of {documents.weights.sum() / len(documents):.1f} words, {len(queries)} "
          f"queries of {len(queries.ids) / len(queries):.1f}")  # fmt: skip
    save(folder, documents=documents, queries=queries)
    sides: dict[str, tuple[Any, Any]] = {"ours, BM25": (Ours(folder, documents, queries, "count"), 0.0)}
    if arguments.peers:
        sides["bm25s, numba"] = (Elsewhere(arguments.peers, "bm25s", folder), None)
    compare(sides, len(queries), arguments.rounds, "ours, BM25", "ours, BM25")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", default="", help="a Python that has pyseismic-lsr and bm25s")
    parser.add_argument("--only", choices=("sparse", "bm25"), default=None)
    parser.add_argument("--without", nargs="*", default=[], choices=("lucene", "seismic"))
    parser.add_argument("--core", type=int, default=0)
    arguments = parser.parse_args()
    os.environ |= dict.fromkeys(
        ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
    )
    os.sched_setaffinity(0, {arguments.core})
    tasks: dict[str, Callable[[argparse.Namespace, Path], None]] = {"sparse": sparse, "bm25": bm25}
    for name, task in tasks.items():
        if arguments.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                task(arguments, Path(folder))


if __name__ == "__main__":
    main()
