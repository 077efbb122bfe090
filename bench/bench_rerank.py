"""Reranking with language models: ours against plain transformers.

    python -m cribble.bench.bench_rerank [pairs yesno windows full] [--candidates 100] [--pairs 20] [--rounds 1]
                                         [--threads 1] [--tokens 100]

A decoder of 38 M parameters with random weights: answers mean nothing, costs and equality do. Ours and the peer run in
turns, in one process on pinned cores, over the same prompts of one query and candidates of about 100 tokens. Prints
seconds by the clock and of processor time (which neighbours on the machine disturb less), the peer's time to ours, tokens
computed, the largest difference of scores, and tokens per second with the linear layers' share of the rate that float32
matrix products reach in the same call. Cross-encoders have a benchmark of their own, `bench_cross_encoder`.

pairs    every ordered pair of 20 candidates (PRP): all prompts through a plain batch of 8, ours reads beginnings once
yesno    100 candidates, one prompt each (Qwen3-Reranker's): a plain batch of 16
windows  FIRST: the letters' logits of 9 windows of 20, against generating 79 tokens for each, ours and `generate`
full     100 candidates in one prompt, the whole permutation or its first 10, against 9 windows one after the other
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
from cribble.bench.bench_encode import sample
from cribble.bench.rerank_models import (
    DECODER_WEIGHTS,
    QUERY,
    Plain,
    product_rate,
    save_decoder,
)

PARTS = ("pairs", "yesno", "windows", "full")
TOLERANCE = 1e-4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-options.threads :])
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ.setdefault("HF_HUB_OFFLINE", "1")

    import torch
    from cribble.models.packed_linear import packing_pays
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), options, torch)
        print(f"{options.candidates} candidates of {options.tokens} tokens from {bench.source}; {options.threads} "
              f"thread(s), {torch.backends.cpu.get_cpu_capability()}, packed linear layers: {packing_pays()}; "
              f"float32 products {bench.ceiling:.0f} GFLOP/s a core")  # fmt: skip
        return max([getattr(bench, part)() for part in options.parts or PARTS])


class Bench:
    """The models, made once, and a method for each part, which gives 1 where scores differ too much."""

    def __init__(self, folder: Path, options: argparse.Namespace, torch: Any) -> None:
        from cribble.models.backends.hf import HF
        from cribble.records import Document, Query

        self.options = options
        texts, self.source = sample(2000, None)
        self.decoder = save_decoder(folder / "decoder", texts)
        self.backend = HF(str(self.decoder), device="cpu")
        self.backend.open()
        self.plain = Plain(self.decoder, self.backend.tokens)
        long = " ".join(texts)
        step = len(long) // (options.candidates + 1)
        pieces = [long[i * step :].split(" ", 1)[1][: 20 * options.tokens] for i in range(options.candidates)]
        cut = [self.backend.tokens.cut(piece, options.tokens) for piece in pieces]
        self.documents = [Document(str(i), text) for i, text in enumerate(cut)]
        self.query = Query("q", QUERY)
        self.ceiling = product_rate(torch)

    # ---- parts -------------------------------------------------------------------------------------------------------

    def pairs(self) -> int:
        documents = self.documents[: self.options.pairs]
        pairs = [(a, b) for a in documents for b in documents if a is not b]
        calls = self._calls("prp", {"mode": "scoring"}, "prefer", pairs)
        print(f"\npairs: {len(calls)} prompts of PRP over {len(documents)} candidates")
        return self._labels(calls, 8)

    def yesno(self) -> int:
        calls = self._calls("yes-no", {"template": "qwen3-reranker"}, "score", [(d,) for d in self.documents])
        print(f"\nyesno: {len(calls)} prompts, one a candidate")
        return self._labels(calls, 16)

    def windows(self) -> int:
        starts = range(max(0, self.options.candidates - 20), -1, -10)
        windows = [tuple(self.documents[start : start + 20]) for start in starts]
        letters = self._calls("first", {"template": "first-rankllm"}, "order", windows)
        texts = self._calls("generate", {"template": "rankzephyr"}, "order", windows)
        choices = [self._constrained(call) for call in texts]
        new = self.backend.tokens.length(texts[0].exactly_as_long_as)
        print(
            f"\nwindows: {len(windows)} windows of 20, one after the other; {new} tokens each where they are generated"
        )
        return self._race(
            {
                "letters, cribble": lambda: self._one_by_one(letters),
                "letters, plain": lambda: self.plain.labels(letters, 1),
                "generated, cribble": lambda: self._one_by_one(texts),
                "generated, transformers": lambda: [self.plain.generate(call.prompt, new) for call in texts],
                "constrained, cribble": lambda: self._one_by_one(choices),
            },
            {
                "FIRST against its prefill (plain forward passes)": ("letters, plain", "letters, cribble"),
                "FIRST against generating, transformers": ("generated, transformers", "letters, cribble"),
                "FIRST against generating, cribble": ("generated, cribble", "letters, cribble"),
                "generating: cribble against transformers": ("generated, transformers", "generated, cribble"),
                "constrained against free, cribble": ("generated, cribble", "constrained, cribble"),
            },
            same=("letters, cribble", "letters, plain"),
            tokens=sum(self.backend.tokens.count(call.prompt) for call in letters),
        )

    def full(self) -> int:
        everything = tuple(self.documents)
        (whole,) = self._calls("generate", {"template": "fullrank-chat"}, "order", [everything])
        starts = range(max(0, self.options.candidates - 20), -1, -10)
        windows = [everything[start : start + 20] for start in starts]
        sliding = self._calls("generate", {"template": "rankzephyr"}, "order", windows)
        first = self._constrained(whole, top=10)
        new = self.backend.tokens.length(whole.exactly_as_long_as)
        print(f"\nfull: one prompt of {self.backend.tokens.count(whole.prompt)} tokens, {new} generated, against "
              f"{len(windows)} windows")  # fmt: skip
        return self._race(
            {
                "windows, cribble": lambda: self._one_by_one(sliding),
                "full, cribble": lambda: self._one_by_one([whole]),
                "full, first 10, cribble": lambda: self._one_by_one([first]),
                "full, transformers": lambda: self.plain.generate(whole.prompt, new),
            },
            {
                "windows against full": ("windows, cribble", "full, cribble"),
                "windows against the first 10 of full": ("windows, cribble", "full, first 10, cribble"),
                "full: cribble against transformers": ("full, transformers", "full, cribble"),
            },
        )

    # ---- measuring ---------------------------------------------------------------------------------------------------

    def _labels(self, calls: list[Any], batch: int) -> int:
        """Ours against the plain batch."""
        from cribble.models.calls import Reply

        tokens = sum(self.backend.tokens.count(call.prompt) for call in calls)
        self._values(calls[:2])  # warm
        self.plain.labels(calls[:2], batch)
        usage = [reply.usage for _, reply in self.backend.answer(calls) if isinstance(reply, Reply)]
        computed = sum(used.prompt - used.cached for used in usage)
        failed = self._race(
            {
                "cribble": lambda: self._values(calls),
                f"plain batch of {batch}": lambda: self.plain.labels(calls, batch),
            },
            {"cribble against the plain batch": (f"plain batch of {batch}", "cribble")},
            same=("cribble", f"plain batch of {batch}"),
            tokens=computed,
        )
        padded = self.plain.computed // self.options.rounds
        print(f"  tokens: {tokens:,} in the prompts, {padded:,} computed by the plain batch with its padding, "
              f"{computed:,} by cribble: {tokens / computed:.2f} x fewer than the prompts have")  # fmt: skip
        return failed

    def _race(
        self,
        ways: dict[str, Callable[[], Any]],
        ratios: dict[str, tuple[str, str]],
        *,
        same: tuple[str, str] | None = None,
        tokens: int = 0,
    ) -> int:
        """Run all ways in turns; 1 if the two of `same` differ by more than the tolerance."""
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        busy: dict[str, list[float]] = {name: [] for name in ways}
        results: dict[str, Any] = {}
        for turn in range(self.options.rounds):
            for name in list(ways)[:: -1 if turn % 2 else 1]:
                start, spent = time.perf_counter(), time.process_time()
                results[name] = ways[name]()
                seconds[name].append(time.perf_counter() - start)
                busy[name].append(time.process_time() - spent)
        for name in ways:
            line = f"  {name:26} {min(seconds[name]):8.2f} s by the clock {min(busy[name]):8.2f} s of processor time"
            if tokens and same and name == same[0]:
                share = 2 * DECODER_WEIGHTS * tokens / min(busy[name]) / 1e9 / self.ceiling / self.options.threads
                line += (
                    f", {tokens / min(busy[name]):,.0f} tokens/s, linear layers at {share:.0%} of the products' rate"
                )
            print(line)
        for text, (slow, fast) in ratios.items():
            clock = statistics.median(b / a for a, b in zip(seconds[fast], seconds[slow], strict=True))
            processor = statistics.median(b / a for a, b in zip(busy[fast], busy[slow], strict=True))
            print(f"  {text}: {processor:.2f} x by processor time, {clock:.2f} x by the clock")
        if same is None:
            return 0
        difference = float(np.abs(np.asarray(results[same[0]]) - np.asarray(results[same[1]])).max())
        print(f"  max |difference|: {difference:.1e}")
        if difference > TOLERANCE:
            print(f"  scores differ by more than {TOLERANCE}", file=sys.stderr)
        return int(difference > TOLERANCE)

    # ---- calls -------------------------------------------------------------------------------------------------------

    def _calls(self, judge: str, options: dict[str, Any], verb: str, shown: list[Any]) -> list[Any]:
        """The calls of a registered judge about tuples of documents."""
        from cribble.models.calls import Request
        from cribble.registry import make
        from cribble.rerankers.judges import ROOM

        asked = make(ROOM, judge, options)
        return [asked.call(Request(verb, self.query, tuple(documents)), self.backend.tokens)[0] for documents in shown]

    def _constrained(self, call: Any, top: int | None = None) -> Any:
        from dataclasses import replace

        return replace(call, exactly_as_long_as="", constrained=True, top=top)

    def _values(self, calls: list[Any]) -> np.ndarray:
        values: list[Any] = [None] * len(calls)
        for place, reply in self.backend.answer(calls):
            values[place] = reply.values  # type: ignore[union-attr]
        return np.asarray(values)

    def _one_by_one(self, calls: list[Any]) -> Any:
        """As a sort asks when each window depends on the one before."""
        replies = [next(iter(self.backend.answer([call])))[1] for call in calls]
        values = [reply.values for reply in replies]  # type: ignore[union-attr]
        return np.asarray(values) if values[0] else replies


if __name__ == "__main__":
    sys.exit(main())
