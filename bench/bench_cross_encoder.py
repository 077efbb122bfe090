"""Cross-encoding with a MiniLM-L6 shape: ours against sentence-transformers' `CrossEncoder.rank`.

    python -m cribble.bench.bench_cross_encoder [--documents 100] [--rounds 7] [--threads 1] [--tokens 100]

One query and documents of about `--tokens` tokens, in the same process, in turns, on pinned cores. The network is the
embedded MiniLM with a random score head (speed and rounding do not depend on the weights). Prints documents and tokens
per second, the ratio of each round (the peer's time to ours) and its least, median and that of the best rounds, by the
clock and by processor time (which neighbours disturb less); the rate of the plain matrix products of this shape, taken in
turns with both; and the largest difference of scores. `compare` gives the same as numbers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .bench_encode import sample

TOLERANCE = 1e-4
QUERY = "what is the effect of vitamin d on bone density in older people"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=100)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-options.threads :])
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import torch

    torch.set_num_threads(options.threads)
    found = compare(options.documents, options.rounds, options.tokens)
    print(f"{found['pairs']} pairs of {found['tokens'] / found['pairs']:.1f} tokens ({found['source']}); "
          f"{options.threads} thread(s); {torch.backends.cpu.get_cpu_capability()}")  # fmt: skip
    for name, values in found["seconds"].items():
        if name != "products":
            rates = f"{found['pairs'] / min(values):8.1f} docs/s {found['tokens'] / min(values):10,.0f} tokens/s"
            print(f"{name:22} {rates}  (best of {options.rounds}; median {statistics.median(values):.2f} s)")
    for clock in ("seconds", "processor"):
        ratios = found[f"ratio by {clock}"]
        print(
            f"ratio by {clock}: min {ratios['min']:.2f}, median {ratios['median']:.2f}, best rounds {ratios['best']:.2f}"
        )
    products = min(found["processor"]["products"])
    print(f"matrix products: {found['flops'] / products / 1e9:.1f} GFLOP/s at best; at that rate those of the whole network "
          f"take {products:.2f} s, {products / min(found['processor']['sentence-transformers']):.0%} of the peer's best "
          f"processor time and {products / min(found['processor']['cribble']):.0%} of ours")  # fmt: skip
    print(f"max |difference| of scores: {found['difference']:.1e}")
    if found["difference"] > TOLERANCE:
        print(f"scores differ by more than {TOLERANCE}", file=sys.stderr)
        return 1
    return 0


def compare(documents: int = 100, rounds: int = 7, tokens: int = 100) -> dict[str, Any]:
    """Seconds of each round and way, ratios, the floating-point operations of all matrix products, and max |Δ|."""
    from cribble.models.pair_scorer import PairScorer
    from sentence_transformers import CrossEncoder

    with tempfile.TemporaryDirectory() as folder:
        save_cross_encoder(Path(folder))
        peer = CrossEncoder(folder, device="cpu")
        ours = PairScorer(folder, device="cpu", scores="prob")  # the peer's default with one label
        texts, lengths, source = _texts(peer.tokenizer, documents, tokens)
        pairs = [(QUERY, text) for text in texts]
        ours.score(pairs[:8])
        peer.rank(QUERY, texts[:8])
    products, flops = _products(peer.transformers_model.config, sum(lengths))
    ways = {
        "cribble": lambda: ours.score(pairs),
        "sentence-transformers": lambda: peer.rank(QUERY, texts),
        "products": products,
    }
    seconds, processor, results = interleaved(ways, rounds)
    theirs = np.empty(len(pairs))
    for row in results["sentence-transformers"]:
        theirs[row["corpus_id"]] = row["score"]
    return {
        "pairs": len(pairs),
        "tokens": sum(lengths),
        "source": source,
        "flops": flops,
        "seconds": seconds,
        "processor": processor,
        "ratio by seconds": _ratios(seconds),
        "ratio by processor": _ratios(processor),
        "difference": float(np.abs(results["cribble"] - theirs).max()),
    }


def interleaved(
    ways: dict[str, Callable[[], Any]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, Any]]:
    """Each way once a round, in turning order: seconds by the clock, of the processor, and last results."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    results = {}
    for turn in range(rounds):
        for name in sorted(ways, reverse=bool(turn % 2)):
            start, busy = time.perf_counter(), time.process_time()
            results[name] = ways[name]()
            seconds[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - busy)
    return seconds, processor, results


def save_cross_encoder(folder: Path) -> None:
    """The embedded MiniLM with a random head of one label."""
    import torch
    from cribble.models.checkpoint import embedded_checkpoint
    from cribble.models.loading import quiet
    from transformers import AutoTokenizer, BertForSequenceClassification

    with quiet():
        torch.manual_seed(0)
        source = str(embedded_checkpoint().folder)
        BertForSequenceClassification.from_pretrained(source, num_labels=1).save_pretrained(folder)
        AutoTokenizer.from_pretrained(source).save_pretrained(folder)


def _texts(tokenizer: Any, count: int, tokens: int) -> tuple[list[str], list[int], str]:
    """Of 4 × `count` real texts those nearest to `tokens` tokens, in no order of length; the lengths of the pairs."""
    texts, source = sample(4 * count, None)
    lengths = [len(ids) for ids in tokenizer(texts, truncation=True)["input_ids"]]
    nearest = sorted(range(len(texts)), key=lambda i: abs(lengths[i] - tokens))[:count]
    texts = [texts[i] for i in sorted(nearest)]
    pairs = tokenizer([QUERY] * len(texts), texts, truncation=True)["input_ids"]
    return texts, [len(ids) for ids in pairs], source


def _products(config: Any, tokens: int, rows: int = 1024) -> tuple[Callable[[], None], float]:
    """The network's matrix products over `tokens` tokens, `rows` at a time, and nothing else; floating-point operations."""
    import torch

    hidden, inner = config.hidden_size, config.intermediate_size
    shapes = [(hidden, hidden)] * 4 + [(hidden, inner), (inner, hidden)]
    layers = [[torch.randn(k, n) for k, n in shapes] for _ in range(config.num_hidden_layers)]
    inputs = {k: torch.randn(rows, k) for k in {hidden, inner}}

    def run() -> None:
        with torch.inference_mode():
            for start in range(0, tokens, rows):
                for layer in layers:
                    for weight in layer:
                        torch.mm(inputs[weight.shape[0]][: tokens - start], weight)

    return run, 2.0 * tokens * len(layers) * sum(k * n for k, n in shapes)


def _ratios(spent: dict[str, list[float]]) -> dict[str, float]:
    ours, theirs = spent["cribble"], spent["sentence-transformers"]
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return {"min": min(ratios), "median": statistics.median(ratios), "best": min(theirs) / min(ours)}


if __name__ == "__main__":
    sys.exit(main())
