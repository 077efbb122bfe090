"""BM25 over Lucene: ours against pyserini's `batch_search`, on the same index, in one process, by turns.

    python -m cribble.bench.bench_lucene [--documents 100000] [--rounds 5] [--threads 1 2]

Each number of threads gets a process that is pinned to as many cores (pyserini's `batch_search` takes all it sees). Prints
queries per second and the ratio to pyserini, least and median over the rounds, and documents per second of indexing; checks
that the rankings are identical. Ours returns ids and scores as arrays; of pyserini only the call is timed, not reading
`docid` and `score` of its hits, which costs it as much again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

VOCABULARY = 30_000
MEAN_LENGTH = 54
DEPTHS = (10, 1000)


def make_text(documents: int, queries: int) -> tuple[list[str], list[str]]:
    """Documents of Zipf-Mandelbrot words, log-normal in length; queries of about five words out of one document."""
    import numpy as np

    rng = np.random.default_rng(7)
    letters = np.array(list("abcdefghiklmnoprstuv"))
    words = ["".join(letters[rng.integers(0, 20, rng.integers(3, 9))]) for _ in range(VOCABULARY)]
    chance = 1 / (np.arange(VOCABULARY) + 2.7)
    chance /= chance.sum()
    lengths = np.maximum(3, rng.lognormal(np.log(MEAN_LENGTH) - 0.125, 0.5, documents).astype(int))
    tokens = np.searchsorted(np.cumsum(chance), rng.random(int(lengths.sum())))
    texts, start = [], 0
    for length in lengths.tolist():
        texts.append(" ".join(words[t] for t in tokens[start : start + length].tolist()))
        start += length
    asked = []
    for row in rng.integers(0, documents, queries).tolist():
        own = np.unique(texts[row].split())
        asked.append(" ".join(rng.choice(own, min(len(own), int(rng.integers(3, 8))), replace=False)))
    return texts, asked


def pyserini_searcher(folder: Path) -> Any:
    """pyserini in the machine that cribble has started; its import wants an OpenAI key, which nothing uses."""
    os.environ.setdefault("OPENAI_API_KEY", "none")
    with contextlib.redirect_stdout(sys.stderr):
        from pyserini.search.lucene import LuceneSearcher
    return LuceneSearcher(str(folder))


def index_with_pyserini(folder: Path, texts: list[str]) -> float:
    from pyserini.index.lucene import LuceneIndexer

    start = time.perf_counter()
    indexer = LuceneIndexer(str(folder), threads=1)
    for first in range(0, len(texts), 10_000):
        batch = texts[first : first + 10_000]
        indexer.add_batch_dict([{"id": f"d{first + i}", "contents": text} for i, text in enumerate(batch)])
    indexer.close()
    return len(texts) / (time.perf_counter() - start)


def differing(ours: list[Any], theirs: dict[str, Any]) -> int:
    """Queries whose rankings differ. Equal scores go by id ascending there, descending here: sorted alike before; at the
    cut, where the orders keep different documents of the last score, the documents above it are compared.
    """
    wrong = 0
    for i, (ids, scores) in enumerate(ours):
        expected = [hit.docid for hit in theirs[str(i)]]
        mine = [doc for _, doc in sorted(zip(-scores, ids, strict=True))]
        sure = int((scores > scores[-1]).sum()) if len(ids) else 0
        wrong += len(mine) != len(expected) or mine[:sure] != expected[:sure]
    return wrong


def compare(documents: int, rounds: int, threads: int) -> dict[str, Any]:
    from cribble.index.lucene import LuceneIndex
    from cribble.records import Document

    texts, queries = make_text(documents, 500)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        corpus = (Document(f"d{i}", text) for i, text in enumerate(texts))
        index = LuceneIndex.build(Path(folder, "ours"), corpus, corpus="zipf", shard_documents=documents)
        result: dict[str, Any] = {"threads": threads, "index_docs_per_s": documents / (time.perf_counter() - start)}
        searcher = pyserini_searcher(Path(folder, "ours", "shards", "00000", "lucene"))
        result["pyserini_index_docs_per_s"] = index_with_pyserini(Path(folder, "theirs"), texts)
        for k in DEPTHS:
            asked = queries if k < 100 else queries[:100]
            names = [str(i) for i in range(len(asked))]
            index.search(queries, k, threads=threads)  # both warmed up: Java compiles what runs often
            theirs = searcher.batch_search(asked, names, k, threads)
            wrong = differing(index.search(asked, k, threads=threads), theirs)
            speeds = []
            for _ in range(rounds):
                start = time.perf_counter()
                searcher.batch_search(asked, names, k, threads)
                middle = time.perf_counter()
                index.search(queries, k, threads=threads)
                end = time.perf_counter()
                speeds.append((len(asked) / (middle - start), len(queries) / (end - middle)))
            result[f"k={k}"] = {"differing_queries": wrong, "pyserini_and_ours_per_s": speeds}
    return result


def show(result: dict[str, Any]) -> None:
    ours, theirs = result["index_docs_per_s"], result["pyserini_index_docs_per_s"]
    print(f"threads {result['threads']}: indexing {ours:,.0f} docs/s, pyserini {theirs:,.0f}: {ours / theirs:.2f} x")
    for k in DEPTHS:
        row = result[f"k={k}"]
        theirs, ours = (statistics.median(speed) for speed in zip(*row["pyserini_and_ours_per_s"], strict=True))
        ratios = [mine / peer for peer, mine in row["pyserini_and_ours_per_s"]]
        print(
            f"  k={k:<5} ours {ours:,.0f} queries/s, pyserini {theirs:,.0f}: {min(ratios):.1f} x least, "
            f"{statistics.median(ratios):.1f} x median; differing rankings: {row['differing_queries']}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        cores = sorted(os.sched_getaffinity(0))[-arguments.child :]
        os.sched_setaffinity(0, cores)
        print(json.dumps(compare(arguments.documents, arguments.rounds, arguments.child)))
        return
    for threads in arguments.threads:
        command = [sys.executable, __file__, "--child", str(threads)]
        command += ["--documents", str(arguments.documents), "--rounds", str(arguments.rounds)]
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd="/").stdout
        show(json.loads(output.splitlines()[-1]))


if __name__ == "__main__":
    main()
