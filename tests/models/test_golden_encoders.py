"""Cosines that sentence-transformers' own slow tests publish, for checkpoints of the Hub; skipped where it can't be reached.

Source: huggingface/sentence-transformers@cad2119 tests/sentence_transformer/test_pretrained.py: one query, four documents,
bfloat16, each checkpoint as its own files have it (`card="none"`). Tolerance: theirs is relative 0.01.
"""

from __future__ import annotations

import numpy as np
import pytest
from cribble.models.encoder import Encoder
from cribble.records import Document
from cribble.tests.models.hub import on_hand

QUERY = "Which planet is known as the Red Planet?"
DOCUMENTS = [
    "Venus is often called Earth's twin because of its similar size and proximity.",
    "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
    "Jupiter, the largest planet in our solar system, has a prominent red spot.",
    "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
]
COSINES = {
    "BAAI/bge-small-en-v1.5": (0.60191, 0.82845, 0.7786, 0.70781),
    "BAAI/bge-base-en-v1.5": (0.56749, 0.85499, 0.73467, 0.69584),
    "BAAI/bge-large-en-v1.5": (0.53033, 0.81206, 0.68978, 0.71022),
    "BAAI/bge-m3": (0.41025, 0.71249, 0.64761, 0.65188),
    "intfloat/e5-small-v2": (0.8147, 0.91502, 0.86984, 0.87874),
    "intfloat/e5-base-v2": (0.79746, 0.90085, 0.84888, 0.86544),
    "intfloat/multilingual-e5-large-instruct": (0.7986, 0.89885, 0.85662, 0.8542),
    "Qwen/Qwen3-Embedding-0.6B": (0.4838, 0.69335, 0.58793, 0.6647),
    "google/embeddinggemma-300m": (0.30141, 0.63614, 0.4938, 0.48726),
    "mixedbread-ai/mxbai-embed-large-v1": (0.5803, 0.81596, 0.72407, 0.73394),
    "nomic-ai/nomic-embed-text-v1.5": (0.65182, 0.88804, 0.79979, 0.81292),
    "thenlper/gte-small": (0.83932, 0.93129, 0.90819, 0.90333),
}


@pytest.mark.hub
@pytest.mark.slow
@pytest.mark.parametrize("name", COSINES)
def test_cosines_are_those_that_sentence_transformers_publishes(name):
    encoder = on_hand(
        Encoder(name, device="cpu", dtype="bfloat16", card="none", trust_remote_code=name.startswith("nomic"))
    )
    query = encoder.encode_queries([QUERY]).values[0]
    vectors = encoder.encode_documents([Document(str(i), text) for i, text in enumerate(DOCUMENTS)]).values
    cosines = vectors @ query / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(query))
    assert cosines == pytest.approx(COSINES[name], rel=0.01)
