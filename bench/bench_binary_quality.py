"""What packed codes keep of nDCG@10: bebr, sign, LSH and ITQ at equal bytes, without and with rescoring by float vectors.

    CRIBBLE_DATA=… python -m cribble.bench.bench_binary_quality --cache FOLDER --out FOLDER [--bits 768 384] [--seed 42]

MiniLM's vectors of each collection are made once and kept in --cache. One binariser a size is trained on the joined
documents' vectors, of all collections in --cache, by `train_bebr`'s defaults, and kept in --out (a training that was
interrupted goes on); ITQ learns from each collection by itself, as its index kind does. Queries and judgements are seen by
the evaluation only. Scores are those of the index kinds: cosines of the codes' values; queries are coded as documents are
(symmetric), or stay as they are (asymmetric, `float query`). Rescoring takes the best 100 by codes. Prints Markdown: the
share of float's nDCG@10 that is kept, with a 95 % interval by 10,000 bootstrap samples of the queries.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from cribble.corpora import load_dataset
from cribble.eval import evaluate
from cribble.index.binary_codes import decode, unpack
from cribble.index.binary_rotations import learnt_rotation, random_rotation, signs
from cribble.models.encoder import Encoder
from cribble.models.recurrent_binarisation import RecurrentBinariser
from cribble.records import Qrels, Run
from cribble.training.bebr import BebrOptions, Material, train_bebr

JUDGED = ("scifact", "cranfield", "vaswani-npl", "trec-dl-2019-judged")
DEPTH = 100
SAMPLES = 10_000


@dataclass(frozen=True)
class Collection:
    """Documents, queries with judgements, and their vectors."""

    name: str
    documents: np.ndarray
    queries: np.ndarray
    document_ids: list[str]
    query_ids: list[str]
    qrels: Qrels

    def ndcg(self, scores: np.ndarray) -> np.ndarray:
        """nDCG@10 of each query when documents are ranked by `scores` (q, n)."""
        best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        rows = (
            (query, [self.document_ids[i] for i in ids], -np.arange(10.0))
            for query, ids in zip(self.query_ids, best, strict=True)
        )
        done = evaluate(Run.from_rankings(rows, name="run"), self.qrels, "nDCG@10")
        return done.values[:, 0]

    def rescored(self, scores: np.ndarray) -> np.ndarray:
        """The float scores of the best by `scores`; below all others for the rest."""
        exact = self.queries @ self.documents.T
        depth = min(DEPTH, scores.shape[1])
        cut = np.argpartition(-scores, depth - 1, axis=1)[:, :depth]
        kept = np.full_like(exact, -2.0)
        np.put_along_axis(kept, cut, np.take_along_axis(exact, cut, axis=1), axis=1)
        return kept


def collection(name: str, data: Path, cache: Path) -> Collection:
    dataset = load_dataset(f"beir:{data / name}")
    files = cache / f"{name}.documents.npy", cache / f"{name}.queries.npy"
    if not files[0].exists():
        encoder = Encoder()
        np.save(files[1], encoder.encode_queries([query.text for query in dataset.queries]).values)
        np.save(files[0], encoder.encode_documents(list(dataset.documents())).values)
    ids = [document.id for document in dataset.documents()]
    asked = [query.id for query in dataset.queries]
    return Collection(name, np.load(files[0]), np.load(files[1]), ids, asked, dataset.qrels or Qrels.from_dict({}))


Coder = Callable[[np.ndarray], np.ndarray]


def coders(bits: int, here: Collection, bebr: RecurrentBinariser, seed: int) -> Iterator[tuple[str, Coder, Coder]]:
    """Name, what queries and what documents become, before cosines are taken."""
    dim = here.documents.shape[1]

    def plain(vectors: np.ndarray) -> np.ndarray:
        return vectors

    def coded(binariser: object, planes: int, width: int) -> Coder:
        return lambda vectors: decode(unpack(binariser.codes(vectors), width, planes), planes)  # type: ignore[attr-defined]

    yield "float", plain, plain
    of_bebr = coded(bebr, bebr.shape.planes, bebr.shape.width)
    yield "bebr", of_bebr, of_bebr
    if bebr.refinement is not None:
        table = bebr.refinement
        yield "bebr, float query", lambda vectors: vectors @ table.target.T + table.constant, of_bebr
        bare = coded(replace(bebr, refinement=None), bebr.shape.planes, bebr.shape.width)
        yield "bebr, not refined", bare, bare
    if bits == dim:
        yield "sign", coded(signs(dim), 1, dim), coded(signs(dim), 1, dim)
    if bits <= dim:
        itq = coded(learnt_rotation(here.documents, bits, seed), 1, bits)
        yield "itq", itq, itq
    lsh = coded(random_rotation(dim, bits, seed), 1, bits)
    yield "lsh", lsh, lsh


def cosines(queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    parts = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (queries, documents)]
    product: np.ndarray = parts[0] @ parts[1].T
    return product


def kept(mine: np.ndarray, exact: np.ndarray, seed: int) -> str:
    """The share of float's mean, with its interval."""
    draws = np.random.default_rng(seed).integers(0, len(exact), (SAMPLES, len(exact)))
    low, high = np.percentile(mine[draws].mean(axis=1) / exact[draws].mean(axis=1), [2.5, 97.5])
    return f"{mine.mean():.4f} = {mine.mean() / exact.mean():.1%} ({low:.1%}–{high:.1%})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bits", type=int, nargs="+", default=[768, 384])
    parser.add_argument("--epochs", type=int, default=BebrOptions().epochs)
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    data = Path(os.environ["CRIBBLE_DATA"])
    here = [collection(name, data, options.cache) for name in JUDGED]
    files = sorted(options.cache.glob("*.documents.npy"))
    joined = np.concatenate([np.load(file) for file in files])
    print(f"{len(joined):,} vectors of {', '.join(file.name.partition('.')[0] for file in files)}\n", flush=True)
    for bits in options.bits:
        settings = BebrOptions(bits=bits, epochs=options.epochs, seed=options.seed)
        folder = options.out / f"bebr-{bits}"
        if not (folder / "binariser.json").exists():
            train_bebr(Material(joined, "cosine", {"bench": "binary_quality"}), folder, settings)
        bebr = RecurrentBinariser.load(folder)
        print(
            f"{bits // 8} bytes a document: bebr {bebr.shape.width} × {bebr.shape.planes} bits, epoch "
            f"{bebr.training['best_epoch']}, {bebr.training['seconds']} s, fidelity {bebr.training['fidelity']:.4f}\n"
        )
        print("| collection | codes | nDCG@10, share of float | rescored 100 |\n|---|---|---|---|")
        for each in here:
            exact = each.ndcg(each.queries @ each.documents.T)
            for name, of_queries, of_documents in coders(bits, each, bebr, options.seed):
                scores = cosines(of_queries(each.queries), of_documents(each.documents))
                plain, again = each.ndcg(scores), each.ndcg(each.rescored(scores))
                print(
                    f"| {each.name} | {name} | {kept(plain, exact, options.seed)} | {kept(again, exact, options.seed)} |",
                    flush=True,
                )
        print()


if __name__ == "__main__":
    main()
