"""BM25 from texts to ranked ids, by turns on one pinned thread: our Java-free engine, Lucene, pyserini, bm25s.

    python -m cribble.bench.bench_bm25 [--real] [--documents 100000] [--peer PYTHON] [--rounds 3]

The texts of bench_lucene; or with `--real` all English collections under CRIBBLE_DATA joined, with 2,000 of their queries.
`PYTHON` is an environment with bm25s, numba and PyStemmer: it runs there as a process that is told what to do line by line
(English stemmer and stop words, numba backend, memory-mapped no). pyserini only indexes here; bench_lucene has its search.

Prints rates by process time (which counts what Java compiles beside) and by the clock, the best of the rounds, the median of
the rounds' ratios, and bytes: of ours and Lucene's those of the search, without texts and ids.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEPTHS = (10, 1000)


def timed(call: Callable[[], Any]) -> dict[str, Any]:
    """What `call` answers, with its seconds."""
    clock, process = time.perf_counter(), time.process_time()
    answer = call()
    return {"answer": answer, "process": time.process_time() - process, "clock": time.perf_counter() - clock}


# ---- the peer's process -------------------------------------------------------------------------------------------------


def serve_bm25s(folder: Path) -> None:
    """Runs where cribble is not: `build`, and `search` by k, for each line of standard input."""
    bm25s, stemmers = (importlib.import_module(name) for name in ("bm25s", "Stemmer"))

    texts, queries = (json.loads((folder / f"{name}.json").read_text()) for name in ("texts", "queries"))
    stemmer = stemmers.Stemmer("english")
    index = bm25s.BM25(method="lucene", k1=0.9, b=0.4, backend="numba")

    def tokens(of: list[str]) -> Any:
        return bm25s.tokenize(of, stopwords="en", stemmer=stemmer, show_progress=False)

    def build() -> int:
        index.index(tokens(texts), show_progress=False)
        index.save(str(folder / "bm25s"))
        return sum(file.stat().st_size for file in (folder / "bm25s").iterdir())

    def search(k: int) -> None:
        index.retrieve(tokens(queries), k=min(k, len(texts)), show_progress=False, n_threads=0)

    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps(timed(build if order["do"] == "build" else lambda: search(order["k"]))), flush=True)  # noqa: B023


class Elsewhere:
    def __init__(self, python: str, folder: Path) -> None:
        command = [python, __file__, "--serve", str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **order: Any) -> dict[str, Any]:
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the peer has no pipes")
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


# ---- the comparison -----------------------------------------------------------------------------------------------------


def real_texts() -> tuple[list[str], list[str]]:
    from cribble.corpora import load_dataset

    data = Path(os.environ["CRIBBLE_DATA"])
    texts, queries = [], []
    for file in sorted(
        [*data.glob("*/corpus.jsonl*"), *data.glob("xquad/en/corpus.jsonl"), *data.glob("*/dev/corpus.jsonl")]
    ):
        if "zh" in file.parent.name or not list(file.parent.glob("qrels/test.tsv")):
            continue
        dataset = load_dataset(f"beir:{file.parent}")
        texts += [document.full_text for document in dataset.documents()]
        queries += [query.text for query in dataset.queries]
    return texts, queries[:: max(1, len(queries) // 2000)]


def search_bytes(folder: Path) -> dict[str, int]:
    """Bytes that searches read, and those of what an index keeps besides for its build and feedback."""
    sizes = {"search": 0, "kept": 0}
    for file in folder.rglob("*"):
        if file.is_file() and not file.name.startswith(("ids.", "texts.", "plan.", "manifest.", "shard.")):
            kept = file.parent.parent.name == "shards"  # our shards' counts; Lucene's shards are one folder deeper
            sizes["kept" if kept else "search"] += file.stat().st_size
    return sizes


def compare(texts: list[str], queries: list[str], python: str | None, rounds: int, folder: Path) -> None:
    from cribble.bench.bench_lucene import index_with_pyserini, pyserini_searcher
    from cribble.index import jvm
    from cribble.index.bm25_inverted import Bm25InvertedIndex
    from cribble.index.lucene import LuceneIndex
    from cribble.records import Document

    megabytes = sum(map(len, texts)) / 1e6
    print(f"{len(texts):,} documents of {megabytes:.1f} million characters, {len(queries):,} queries")
    for name, values in (("texts", texts), ("queries", queries)):
        (folder / f"{name}.json").write_text(json.dumps(values))
    corpus = [Document(f"d{i}", text) for i, text in enumerate(texts)]
    peer = Elsewhere(python, folder) if python else None
    jvm.call("ping")
    few = corpus[:3000]
    kinds: tuple[Any, ...] = (Bm25InvertedIndex, LuceneIndex)
    for warm, kind in itertools.product((1, 2), kinds):  # compilers, numba's and Java's
        kind.build(folder / f"warm{warm}{kind.__name__}", few, corpus="few").search(queries[:300], 100)
    pyserini_searcher(folder / "warm2LuceneIndex" / "shards" / "00000" / "lucene")  # imports it

    numbers = itertools.count()
    sides: dict[str, Callable[[], Any]] = {
        "inverted": lambda: Bm25InvertedIndex.build(folder / f"i{next(numbers)}", corpus, corpus="bench"),
        "lucene": lambda: LuceneIndex.build(folder / f"l{next(numbers)}", corpus, corpus="bench"),
        "pyserini": lambda: index_with_pyserini(folder / f"p{next(numbers)}", texts),
    }
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in (*sides, *(["bm25s"] if peer else []))}
    for _ in range(rounds):
        for name, build in sides.items():
            taken[name].append(timed(build))
        if peer:
            taken["bm25s"].append(peer.ask(do="build"))
    print("\nindexing, documents a second")
    show(taken, len(texts))
    ours, lucene = (taken[name][-1]["answer"] for name in ("inverted", "lucene"))
    sizes, theirs = search_bytes(ours.path), search_bytes(lucene.path)
    print(
        f"  bytes: inverted {sizes['search']:,} (and {sizes['kept']:,} of counts in its shards), lucene {theirs['search']:,}"
    )
    if peer:
        print(f"  bytes: bm25s {taken['bm25s'][-1]['answer']:,}")
    for k in DEPTHS:
        searches = {"inverted": lambda: ours.search(queries, k), "lucene": lambda: lucene.search(queries, k)}  # noqa: B023
        mine, other = (search() for search in searches.values())
        same = sum(a.ids.tolist() == b.ids.tolist() for a, b in zip(mine, other, strict=True))
        taken = {name: [] for name in (*searches, *(["bm25s"] if peer else []))}
        if peer:
            peer.ask(do="search", k=k)
        for _ in range(rounds):
            for name, search in searches.items():
                taken[name].append(timed(search))
            if peer:
                taken["bm25s"].append(peer.ask(do="search", k=k))
        print(f"\nk={k}, queries a second; rankings equal to Lucene's: {same:,} of {len(queries):,}")
        show(taken, len(queries))
    if peer:
        peer.process.communicate("")


def show(taken: dict[str, list[dict[str, Any]]], count: int) -> None:
    for name, rows in taken.items():
        process, clock = (count / min(row[kind] for row in rows) for kind in ("process", "clock"))
        ratio = statistics.median(a["process"] / b["process"] for a, b in zip(rows, taken["inverted"], strict=True))
        print(f"  {name:10} {process:10,.0f} (clock {clock:10,.0f})   inverted is faster by {ratio:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--real", action="store_true", help="the collections under CRIBBLE_DATA")
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--peer", metavar="PYTHON", help="an environment with bm25s, numba and PyStemmer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if arguments.serve:
        serve_bm25s(arguments.serve)
        return
    from cribble.bench.bench_lucene import make_text

    texts, queries = real_texts() if arguments.real else make_text(arguments.documents, 2000)
    with tempfile.TemporaryDirectory() as folder:
        compare(texts, queries, arguments.peer, arguments.rounds, Path(folder))


if __name__ == "__main__":
    main()
