"""Published scores and vectors of late-interaction checkpoints; they need the Hub or its cache, and are skipped where neither
has the model."""

from __future__ import annotations

import numpy as np
import pytest
from cribble.errors import CribbleError
from cribble.index.maxsim import maxsim
from cribble.models.multivector_encoder import MultiVectorEncoder
from cribble.records import DescribedDocument, Document
from cribble.tests.models.hub import on_hand, skip_where_unreachable
from cribble.tests.models.test_golden_encoders import DOCUMENTS, QUERY

pytestmark = [pytest.mark.hub, pytest.mark.slow]

#: MaxSim, float32: sentence-transformers' tests/multi_vector_encoder/test_pretrained.py at cad2119; the values are PyLate's,
#: but for LFM2's, its own.
SCORES = {
    "colbert-ir/colbertv2.0": (12.79703, 27.19449, 23.8495, 24.56564),
    "lightonai/colbertv2.0": (12.79703, 27.19449, 23.8495, 24.56564),
    "answerdotai/answerai-colbert-small-v1": (30.56916, 31.48954, 31.30291, 31.30716),
    "lightonai/GTE-ModernColBERT-v1": (11.25772, 11.51133, 11.34575, 11.4518),
    "lightonai/Reason-ModernColBERT": (9.05118, 10.18419, 9.12381, 9.39101),
    "lightonai/LateOn": (10.79417, 11.11042, 10.97427, 11.08107),
    "lightonai/mLateOn": (11.3486, 11.5170, 11.4391, 11.4867),
    "mixedbread-ai/mxbai-edge-colbert-v0-17m": (11.56932, 11.75844, 11.70989, 11.72288),
    "LiquidAI/LFM2-ColBERT-350M": (30.42596, 30.66987, 30.55955, 30.61758),
    "perplexity-ai/pplx-embed-v1-late-0.6b": (31.56128, 31.80504, 31.67393, 31.74072),
}

#: The same of page images (float32, merged adapters and transformers' ports): two queries, of which page 1 and page 2 are the answers.
PAGE_QUERIES = [
    "What is the variable represented on the y-axis of the graph?",
    "Total outlay is maximum in which year?",
]
PAGES = ("sentence-transformers/example-documents", "49f05727417edee37938141fd1dd6ad70cbcc559")
PAGE_SCORES = {
    "vidore/colpali-v1.2-merged": ((11.11996, 10.83272, 8.34862, 5.54090), (5.46607, 9.24259, 4.81569, 6.16846)),
    "vidore/colpali-v1.2-hf": ((11.11996, 10.83272, 8.34862, 5.54090), (5.46607, 9.24259, 4.81569, 6.16846)),
    "vidore/colpali-v1.3-merged": ((22.31296, 19.91783, 19.65032, 19.08110), (5.84823, 13.27723, 6.13870, 6.68729)),
    "vidore/colpali-v1.3-hf": ((22.31296, 19.91783, 19.65032, 19.08110), (5.84823, 13.27723, 6.13870, 6.68729)),
    "vidore/colqwen2-v1.0-merged": ((13.70829, 11.18885, 11.55377, 10.34371), (7.22471, 16.19691, 6.92718, 6.34652)),
    "vidore/colqwen2-v1.0-hf": ((14.95679, 11.99078, 12.74620, 11.75120), (8.21900, 16.32439, 7.78084, 7.26281)),
    "vidore/colqwen2.5-v0.2": ((13.86088, 12.41194, 12.14236, 11.15379), (7.20549, 14.63949, 6.95723, 7.01793)),
    "vidore/colsmolvlm-v0.1": ((19.26244, 14.77771, 13.38723, 13.07574), (11.34115, 16.35669, 10.05041, 10.39349)),
    "vidore/colSmol-256M": ((18.19177, 16.21826, 11.77296, 9.81028), (9.28594, 15.07055, 10.39773, 8.11685)),
    "vidore/colSmol-500M": ((16.83529, 13.67782, 11.73600, 11.48435), (7.74692, 14.95682, 8.18546, 9.20794)),
    "ModernVBERT/colmodernvbert-merged": (
        (16.77780, 10.37122, 11.84198, 9.05343),
        (7.37222, 12.06184, 8.14767, 7.95627),
    ),
    "TomoroAI/tomoro-colqwen3-embed-4b": ((12.74590, 8.98804, 6.31755, 5.91395), (4.58117, 10.76462, 4.75141, 5.33277)),
}

#: The first five numbers of the tokens of "Hello World" as a document, and of the first five as a query, rounded to 1e-4 or 1e-5:
#: qdrant/fastembed at c48247f, tests/test_late_interaction_embeddings.py.
DOCUMENT_VECTORS = {
    "colbert-ir/colbertv2.0": [
        [0.0759, 0.0841, -0.0299, 0.0374, 0.0254],
        [0.0005, -0.0163, -0.0127, 0.2165, 0.1517],
        [-0.0257, -0.0575, 0.0135, 0.2202, 0.1896],
        [0.0846, 0.0122, 0.0032, -0.0109, -0.1041],
        [0.0477, 0.1078, -0.0314, 0.016, 0.0156],
    ],
    "answerdotai/answerai-colbert-small-v1": [
        [-0.07281, 0.04632, -0.04711, 0.00762, -0.07374],
        [-0.04464, 0.04426, -0.074, 0.01801, -0.05233],
        [0.09936, -0.05123, -0.04925, -0.05276, -0.08944],
        [0.01644, 0.0203, -0.03789, 0.03165, -0.06501],
        [-0.07281, 0.04633, -0.04711, 0.00762, -0.07374],
    ],
    "jinaai/jina-colbert-v2": [
        [0.0744, 0.0590, -0.2404, -0.1776, 0.0198],
        [0.1318, 0.0882, -0.1136, -0.2065, 0.1461],
        [-0.0178, -0.1359, -0.0136, -0.1075, -0.0509],
        [0.0004, -0.1198, -0.0696, -0.0482, -0.0650],
        [0.0766, 0.0448, -0.2344, -0.1829, 0.0061],
    ],
}
QUERY_VECTORS = {
    "colbert-ir/colbertv2.0": [
        [0.0824, 0.0872, -0.0324, 0.0418, 0.024],
        [-0.0007, -0.0154, -0.0113, 0.2277, 0.1528],
        [-0.0251, -0.0565, 0.0136, 0.2236, 0.1838],
        [0.0848, 0.0056, 0.0041, -0.0036, -0.1032],
        [0.0574, 0.1072, -0.0332, 0.0233, 0.0209],
    ],
    "answerdotai/answerai-colbert-small-v1": [
        [-0.07284, 0.04657, -0.04746, 0.00786, -0.07342],
        [-0.0473, 0.04615, -0.07551, 0.01591, -0.0517],
        [0.09658, -0.0506, -0.04593, -0.05225, -0.09086],
        [0.01815, 0.0165, -0.03366, 0.03214, -0.07019],
        [-0.07284, 0.04657, -0.04746, 0.00787, -0.07342],
    ],
    "jinaai/jina-colbert-v2": [
        [0.0475, 0.0250, -0.2225, -0.1087, -0.0297],
        [0.0211, -0.0844, -0.0070, -0.1715, 0.0154],
        [-0.0062, -0.0958, -0.0142, -0.1283, -0.0218],
        [0.0490, -0.0500, -0.1613, 0.0193, 0.0280],
        [0.0477, 0.0250, -0.2279, -0.1128, -0.0289],
    ],
}

_REMOTE = ("perplexity-ai/pplx-embed-v1-late-0.6b", "jinaai/jina-colbert-v2", "TomoroAI/tomoro-colqwen3-embed-4b")


def loaded(name):
    return on_hand(MultiVectorEncoder(name, device="cpu", trust_remote_code=name in _REMOTE))


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_the_published_ones(name):
    encoder = loaded(name)
    query = encoder.encode_queries([QUERY])[0]
    documents = encoder.encode_documents([Document(str(i), text) for i, text in enumerate(DOCUMENTS)])
    scores = maxsim(query, documents.tokens, documents.offsets)
    assert scores == pytest.approx(np.array(SCORES[name]), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("name", DOCUMENT_VECTORS)
def test_vectors_are_the_published_ones(name):
    """fastembed's own tolerance, 1e-3; "Hello World" has five tokens as a document, marker included."""
    encoder = loaded(name)
    document = encoder.encode_documents([Document("1", "Hello World")])[0]
    query = encoder.encode_queries(["Hello World"])[0]
    assert (len(document), len(query)) == (5, 32)
    assert np.abs(document[:, :5] - DOCUMENT_VECTORS[name]).max() <= 1e-3
    assert np.abs(query[:5, :5] - QUERY_VECTORS[name]).max() <= 1e-3


@pytest.fixture(scope="module")
def pages():
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    skip_where_unreachable()
    repository, revision = PAGES
    try:
        files = [
            hf_hub_download(repository, f"doc{i}.jpg", repo_type="dataset", revision=revision) for i in range(1, 5)
        ]
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        pytest.skip(f"the pages of {repository} are not here: {error}")
    return [DescribedDocument.of(Document(str(i), ""), {"image_file": file}) for i, file in enumerate(files)]


@pytest.mark.parametrize("name", PAGE_SCORES)
def test_scores_of_pages_are_the_published_ones(name, pages):
    """Those that are adapters are refused (test_page_images.py)."""
    encoder = loaded(name)
    try:
        queries = encoder.encode_queries(PAGE_QUERIES)
    except CribbleError as error:
        if "is an adapter over" not in str(error):
            raise
        pytest.skip(str(error))
    found = encoder.encode_documents(pages)
    scores = [maxsim(queries[i], found.tokens, found.offsets) for i in range(len(PAGE_QUERIES))]
    assert np.array(scores) == pytest.approx(np.array(PAGE_SCORES[name]), rel=1e-3, abs=1e-3)
    assert np.argmax(scores, axis=1).tolist() == [0, 1]


def test_scores_of_the_margin_mse_colbert():
    """Printed in minimal_colbert_usage_example.ipynb of sebastian-hofstaetter/neural-ranking-kd; of a folder that was saved as
    safetensors under the checkpoint's name in the Hub's cache, as the published weights are pickled."""
    encoder = loaded("sebastian-hofstaetter/colbert-distilbert-margin_mse-T2-msmarco")
    passages = [
        "We are very happy to show you the 🤗 Transformers library for pre-trained language models. We are helping the "
        "community work together towards the goal of advancing NLP 🔥.",
        "Hmm I don't like this new movie about transformers that i got from my local library. Those transformers are robots?",
    ]
    documents = encoder.encode_documents([Document(str(i), text) for i, text in enumerate(passages)])
    query = encoder.encode_queries(["what is the transformers library"])[0]
    scores = maxsim(query, documents.tokens, documents.offsets)
    assert scores == pytest.approx([106.46382141, 99.99703217], rel=1e-3, abs=1e-3)
