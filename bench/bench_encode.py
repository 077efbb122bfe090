"""Encoding documents with MiniLM: ours against sentence-transformers' `encode` with default arguments.

    python -m cribble.bench.bench_encode [--documents 300] [--rounds 5] [--threads 1] [--data NAME] [--device cpu]

Both read the same documents in the same process, in turns, on pinned cores. Prints documents and tokens per second, the
ratio of each round (the peer's time to ours) and its least and median, by the clock and by processor time (which
neighbours on the machine disturb less), and checks that vectors are equal to 1e-5. The
documents are of mixed length: passages and abstracts from CRIBBLE_DATA (trec-dl-2019-judged and scifact, in turns), or
the standard library's docstrings.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import pkgutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TOLERANCE = 1e-5


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", help="one collection under CRIBBLE_DATA instead of the mixture")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-options.threads :])
    os.environ["TOKENIZERS_PARALLELISM"] = "false"

    import torch
    from cribble.models.checkpoint import embedded_checkpoint
    from cribble.models.encoder import Encoder
    from cribble.models.packed_linear import packing_pays
    from cribble.records import Document
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(options.threads)
    texts, source = sample(options.documents, options.data)
    documents = [Document(str(i), text) for i, text in enumerate(texts)]
    peer = SentenceTransformer(str(embedded_checkpoint().folder), device=options.device)
    encoder = Encoder(device=options.device)
    tokens = sum(min(256, len(ids)) for ids in peer.tokenizer(texts, padding=False, truncation=True)["input_ids"])
    print(f"{len(texts)} documents of {source}, {tokens / len(texts):.1f} tokens each; {options.threads} thread(s); "
          f"{torch.backends.cpu.get_cpu_capability()}, packed linear layers: {packing_pays()}")  # fmt: skip
    encoder.encode_documents(documents[:8])  # load and warm up
    peer.encode(texts[:8])

    ways: dict[str, Callable[[], Any]] = {
        "cribble": lambda: encoder.encode_documents(documents).values,
        "sentence-transformers": lambda: peer.encode(texts),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    vectors = {}
    for turn in range(options.rounds):
        for name in sorted(ways, reverse=bool(turn % 2)):
            start, busy = time.perf_counter(), time.process_time()
            vectors[name] = ways[name]()
            seconds[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - busy)
    for name, values in seconds.items():
        best = min(values)
        rates = f"{len(texts) / best:8.1f} docs/s {tokens / best:10,.0f} tokens/s"
        print(f"{name:22} {rates}  (best of {options.rounds}; median {statistics.median(values):.2f} s)")
    difference = float(abs(vectors["cribble"] - vectors["sentence-transformers"]).max())
    for clock, spent in (("clock", seconds), ("processor time", processor)):
        ours, theirs = spent["cribble"], spent["sentence-transformers"]
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        best = min(theirs) / min(ours)
        print(
            f"ratio by {clock}: min {min(ratios):.2f}, median {statistics.median(ratios):.2f}, best rounds {best:.2f}"
        )
    print(f"max |difference| of vectors: {difference:.1e}")
    if difference > TOLERANCE:
        print(f"vectors differ by more than {TOLERANCE}", file=sys.stderr)
        return 1
    return 0


def sample(count: int, name: str | None) -> tuple[list[str], str]:
    """`count` texts spread over real collections, and where they are from."""
    root = os.environ.get("CRIBBLE_DATA", "")
    names = [name] if name else ["trec-dl-2019-judged", "scifact"]
    if not root or not all((Path(root) / n).is_dir() for n in names):
        return _spread(list(_docstrings()), count), "docstrings of the standard library"
    texts = [_spread(list(_corpus(Path(root) / n)), -(-count // len(names))) for n in names]
    return [text for row in zip(*texts, strict=True) for text in row][:count], " and ".join(names)


def _spread(texts: list[str], count: int) -> list[str]:
    return [texts[i * len(texts) // count] for i in range(min(count, len(texts)))]


def _corpus(folder: Path) -> Iterator[str]:
    path = folder / "corpus.jsonl"
    with path.open(encoding="utf-8") if path.exists() else gzip.open(f"{path}.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield f"{row.get('title', '')} {row['text']}".strip()


def _docstrings() -> Iterator[str]:
    """Docstrings of the modules and functions that are loaded, and of some more."""
    for module in ("argparse", "asyncio", "collections", "email", "http", "json", "logging", "pathlib", "unittest"):
        pkgutil.resolve_name(module)
    for module_name in sorted(sys.modules):
        if module_name.partition(".")[0] not in sys.stdlib_module_names:
            continue
        for value in [sys.modules[module_name], *vars(sys.modules[module_name]).values()]:
            text = getattr(value, "__doc__", None)
            if isinstance(text, str) and len(text) > 40:
                yield text


if __name__ == "__main__":
    sys.exit(main())
