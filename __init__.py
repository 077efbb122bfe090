"""cribble: retrieve, rerank and score text collections.

    import cribble

    data = cribble.load_dataset("sample:stdlib")
    bm25 = cribble.BM25.build(data, "indexes/stdlib-bm25")
    dense = cribble.DenseRetriever.build(data, "indexes/stdlib-dense")
    pipeline = cribble.rrf(bm25, dense) >> cribble.MaxSim(depth=50)
    print(cribble.evaluate(pipeline(data), data.qrels, "nDCG@10 R@100").means)

Names are loaded when first used: importing the package imports nothing else.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configs.experiment import run_experiment as run_experiment
    from .configs.schema import load_config as load_config
    from .corpora import Dataset as Dataset
    from .corpora import load_dataset as load_dataset
    from .errors import CribbleError as CribbleError
    from .eval import compare as compare
    from .eval import evaluate as evaluate
    from .fusion import fuse as fuse
    from .index.opening import open_index as open_index
    from .models.encoder import Encoder as Encoder
    from .pipeline import explain as explain
    from .pipeline import run_pipeline as run_pipeline
    from .records import Document as Document
    from .records import Qrels as Qrels
    from .records import Query as Query
    from .records import Run as Run
    from .rerankers.cross_encoder import CrossEncoder as CrossEncoder
    from .rerankers.facade import RankedResults as RankedResults
    from .rerankers.facade import Reranker as Reranker
    from .rerankers.first import First as First
    from .rerankers.maxsim import MaxSim as MaxSim
    from .retrievers.bm25 import BM25 as BM25
    from .retrievers.cosine_adapter import CosineAdapter as CosineAdapter
    from .retrievers.dense import DenseRetriever as DenseRetriever
    from .retrievers.dense_prf import DensePRF as DensePRF
    from .retrievers.given import Given as Given
    from .retrievers.hybrid import Hybrid as Hybrid
    from .retrievers.opening import open_retriever as open_retriever
    from .retrievers.reranker_feedback import RerankerFeedback as RerankerFeedback
    from .stage import rrf as rrf

__version__ = "0.1.0"

#: Public name → the module that has it (PEP 562).
_HOMES = {
    "BM25": "retrievers.bm25",
    "CosineAdapter": "retrievers.cosine_adapter",
    "CribbleError": "errors",
    "CrossEncoder": "rerankers.cross_encoder",
    "Dataset": "corpora",
    "DensePRF": "retrievers.dense_prf",
    "DenseRetriever": "retrievers.dense",
    "Document": "records",
    "Encoder": "models.encoder",
    "Given": "retrievers.given",
    "Hybrid": "retrievers.hybrid",
    "MaxSim": "rerankers.maxsim",
    "Qrels": "records",
    "First": "rerankers.first",
    "Query": "records",
    "RankedResults": "rerankers.facade",
    "Reranker": "rerankers.facade",
    "RerankerFeedback": "retrievers.reranker_feedback",
    "Run": "records",
    "compare": "eval",
    "evaluate": "eval",
    "explain": "pipeline",
    "fuse": "fusion",
    "load_config": "configs.schema",
    "load_dataset": "corpora",
    "open_index": "index.opening",
    "open_retriever": "retrievers.opening",
    "rrf": "stage",
    "run_experiment": "configs.experiment",
    "run_pipeline": "pipeline",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'cribble' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
