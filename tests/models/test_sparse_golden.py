"""Published scores of sparse checkpoints; they need the Hub or its cache, and are skipped where neither has the model."""

from __future__ import annotations

import numpy as np
import pytest
from cribble.models.sparse_encoder import SparseEncoder
from cribble.records import Document
from cribble.tests.models.hub import on_hand
from cribble.tests.models.sparse_models import dense
from cribble.tests.models.test_golden_encoders import DOCUMENTS, QUERY

pytestmark = [pytest.mark.hub, pytest.mark.slow]

_OPENSEARCH = "opensearch-project/opensearch-neural-sparse-encoding-"
#: Dot products, computed in bfloat16 by sentence-transformers (tests/sparse_encoder/test_pretrained.py at cad2119).
GOLDEN = {
    "naver/splade-v3": (12.21746, 26.23663, 22.12236, 23.50005),
    "naver/splade-v3-distilbert": (14.03558, 26.66816, 20.15914, 21.42739),
    "naver/splade-v3-lexical": (2.70985, 5.89883, 5.25828, 5.68214),
    "naver/splade-v3-doc": (2.58567, 5.2024, 3.97555, 4.79319),
    "naver/splade-cocondenser-ensembledistil": (8.41891, 22.5582, 17.54648, 17.4428),
    "naver/splade-cocondenser-selfdistil": (7.44103, 19.79603, 16.96597, 18.57211),
    "naver/splade_v2_distil": (10.31202, 27.77854, 21.31266, 24.30212),
    "naver/splade_v2_max": (9.85695, 21.89957, 15.50354, 19.20435),
    "naver/efficient-splade-V-large-doc": (4.89868, 13.9572, 11.87854, 12.6793),
    f"{_OPENSEARCH}v1": (7.77229, 20.76931, 17.1524, 17.97482),
    f"{_OPENSEARCH}v2-distill": (11.62976, 39.75696, 31.38527, 29.09985),
    f"{_OPENSEARCH}doc-v1": (5.60053, 15.55479, 11.6238, 14.37797),
    f"{_OPENSEARCH}doc-v2-distill": (8.8719, 21.10436, 16.59436, 18.5146),
    f"{_OPENSEARCH}doc-v3-distill": (5.4128, 11.59968, 9.66586, 10.57532),
    "prithivida/Splade_PP_en_v1": (7.5134, 21.08889, 15.38447, 16.8887),
    "rasyosef/splade-mini": (5.95379, 17.59016, 14.06384, 16.56858),
}


def loaded(name, **options):
    return on_hand(SparseEncoder(name, device="cpu", **options))


@pytest.mark.parametrize("name", GOLDEN)
def test_scores_are_the_published_ones(name):
    """Tolerance 2 %: the published ones are bfloat16's, ours float32's."""
    encoder = loaded(name)
    documents = encoder.encode_documents([Document(str(i), text) for i, text in enumerate(DOCUMENTS)])
    scores = dense(documents) @ dense(encoder.encode_queries([QUERY]))[0]
    assert scores == pytest.approx(np.array(GOLDEN[name]), rel=0.02)


def test_splade_v3_gives_pyserinis_weights():
    """pyserini's tests/base/encoder/test_encoder_model_splade.py: weights of a query, w / 5 · 256 rounded."""
    encoder = loaded("naver/splade-v3", quantise="pyserini")
    ids, weights = encoder.encode_queries(["information retrieval"]).row(0)
    names = encoder.network.queries.model.tokenizer.convert_ids_to_tokens(ids.tolist())
    found = dict(zip(names, weights.tolist(), strict=True))
    golden = {"retrieval": 151, "information": 139, "retrieve": 107, "retrieved": 92, "archive": 53}
    assert {name: found[name] for name in golden} == pytest.approx(golden, abs=1)
