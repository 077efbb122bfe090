"""Quality on real collections: BM25, dense, fusion and MaxSim on SciFact; MaxSim over DL19's given candidates.

    CRIBBLE_DATA=… python -m cribble.bench.bench_quality [--out runs/quality] [--with-peer]

Prints the Markdown that docs/benchmarks.md shows. `--with-peer` also encodes SciFact with sentence-transformers itself
(default arguments) and searches its vectors exactly with torch: the figure that our dense retriever is held to.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from cribble.configs.experiment import run_experiment
from cribble.configs.schema import Config, load_config, parse_config
from cribble.corpora import Dataset, load_dataset
from cribble.eval import evaluate
from cribble.eval.rendering import render
from cribble.records import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    parser.add_argument("--with-peer", action="store_true")
    options = parser.parse_args()
    data = Path(os.environ["CRIBBLE_DATA"])
    indexes = f"runtime.indexes={options.out / 'indexes'}"
    scifact = load_config("scifact", [f"dataset=beir:{data / 'scifact'}", indexes])
    for config in (scifact, _dl19(data)):
        start = time.perf_counter()
        done = run_experiment(config, options.out / config.name)
        print(render(done.report, "md"))
        print(f"({time.perf_counter() - start:.0f} s)\n")
    if options.with_peer:
        dataset = load_dataset(scifact.dataset)
        means = evaluate(sentence_transformers_run(dataset), dataset.qrels or {}, "nDCG@10 R@100").means
        print("sentence-transformers' own encode and exact search on SciFact:", means)


def _dl19(data: Path) -> Config:
    folder = data / "trec-dl-2019-judged"
    given = {"use": "given", "run": str(folder / "runs" / "bm25_top100.trec")}
    return parse_config(
        {
            "name": "dl19",
            "dataset": f"beir:{folder}",
            "pipeline": {
                "given BM25": [given],
                "given BM25 >> maxsim 20": [given, {"use": "maxsim", "depth": 20}],
                "given BM25 >> maxsim 100": [given, {"use": "maxsim", "depth": 100}],
            },
            "measures": "nDCG@10 RR(rel=2)@10 AP(rel=2)@100",
        }
    )


def sentence_transformers_run(dataset: Dataset, k: int = 100) -> Run:
    """The peer alone: `encode` with default arguments, cosine by torch, top k."""
    import torch
    from cribble.models.checkpoint import embedded_checkpoint
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(embedded_checkpoint().folder), device="cpu")
    documents = list(dataset.documents())
    start = time.perf_counter()
    vectors = model.encode([document.full_text for document in documents], convert_to_tensor=True)
    print(f"sentence-transformers: {len(documents) / (time.perf_counter() - start):.1f} documents/s")
    queries = model.encode([query.text for query in dataset.queries], convert_to_tensor=True)
    found = torch.topk(model.similarity(queries, vectors), k)
    rows = zip(dataset.queries, found.indices.tolist(), found.values.tolist(), strict=True)
    return Run.from_rankings([(q.id, [documents[i].id for i in ids], scores) for q, ids, scores in rows])


if __name__ == "__main__":
    main()
