"""The cross-encoder against sentence-transformers' `CrossEncoder.predict`, at max |Δ| <= 1e-5."""

from __future__ import annotations

import random

import numpy as np
import pytest
from cribble.errors import InputError, UsageError
from cribble.models.pair_scorer import PairScorer
from cribble.records import Query, Run
from cribble.rerankers.cross_encoder import CrossEncoder

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def pairs():
    chance = random.Random(1)
    words = ["cat", "dog", "bird", "fish", "river", "mountain", "city", "house", "tree", "stone", "unknownword"]
    texts = [" ".join(chance.choices(words, k=chance.choice([0, 1, 4, 15, 80]))) for _ in range(40)]
    return [(chance.choice(texts[:9]), text) for text in texts] + [("cat", "cat"), ("", ""), ("город", "🎉 dog")]


def predicted(folder, pairs, activation, **options):
    import torch
    from sentence_transformers import CrossEncoder as Peer

    model = Peer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    return model.predict(pairs, activation_fn=activation, **options)


@pytest.mark.parametrize("kind", ["classifier", "language_model"])
@pytest.mark.parametrize("budget", [60, 4096])
def test_scores_equal_predict(kind, budget, pairs, request):
    import torch

    folder = request.getfixturevalue(kind)
    logits = PairScorer(folder, device="cpu", token_budget=budget).score(pairs)
    assert logits.dtype == np.float64
    assert np.abs(logits - predicted(folder, pairs, torch.nn.Identity())).max() <= TOLERANCE
    assert np.ptp(logits) > 0.1  # the random model tells texts apart, so the comparison means something
    probabilities = PairScorer(folder, device="cpu", scores="prob").score(pairs)
    assert np.abs(probabilities - predicted(folder, pairs, torch.nn.Sigmoid())).max() <= TOLERANCE


def test_a_language_model_scores_yes_against_no(language_model, pairs):
    """Against plain transformers: logit(yes) - logit(no) after each unpadded pair."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(language_model)
    model = AutoModelForCausalLM.from_pretrained(language_model, dtype=torch.float32).eval()
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    expected = []
    with torch.inference_mode():
        for query, document in pairs:
            encoded = tokenizer([query], [document], truncation=True, max_length=48, return_tensors="pt")
            logits = model(**encoded).logits[0, -1]
            expected.append(float(logits[yes] - logits[no]))
    assert np.abs(PairScorer(language_model, device="cpu").score(pairs) - expected).max() <= TOLERANCE


def test_an_instruction_is_put_before_the_pair(language_model, pairs):
    import torch

    asked = PairScorer(language_model, device="cpu", instruction="the light of ").score(pairs)
    assert (
        np.abs(asked - predicted(language_model, pairs, torch.nn.Identity(), prompt="the light of ")).max() <= TOLERANCE
    )
    assert np.abs(asked - PairScorer(language_model, device="cpu").score(pairs)).max() > 1e-3


def test_max_length_has_its_effect(classifier, pairs):
    short, long = (PairScorer(classifier, device="cpu", max_length=n) for n in (8, 48))
    assert np.abs(short.score(pairs) - long.score(pairs)).max() > 1e-3
    assert short.truncated > long.truncated > 0


def test_probabilities_keep_the_order_of_logits(classifier, queries, candidates, texts):
    logit = CrossEncoder(str(classifier), device="cpu")(queries, candidates, texts=texts)
    prob = CrossEncoder(str(classifier), device="cpu", scores="prob")(queries, candidates, texts=texts)
    assert (logit.score_kind, prob.score_kind) == ("logit", "prob")
    assert [logit.ids(q) for q in logit] == [prob.ids(q) for q in prob]


def test_more_labels_than_one_are_refused(entailment_classifier):
    with pytest.raises(InputError, match="gives 3 labels"):
        PairScorer(entailment_classifier, device="cpu").score([("cat", "dog")])


def test_a_checkpoint_without_a_score_head_is_refused():
    """An encoder's folder: its classifier would be random numbers."""
    from cribble.models.checkpoint import embedded_checkpoint

    with pytest.raises(InputError, match=r"lacks weights .*classifier"):
        PairScorer(embedded_checkpoint().folder, device="cpu").score([("cat", "dog")])


def test_a_language_model_without_answer_tokens_is_refused(language_model, tmp_path):
    import json
    import shutil

    folder = shutil.copytree(language_model, tmp_path / "mute")
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text())
    data["model"]["vocab"] = {
        {"yes": "ja", "no": "nein"}.get(word, word): i for word, i in data["model"]["vocab"].items()
    }
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match="no tokens for its two answers"):
        PairScorer(folder, device="cpu").score([("cat", "dog")])


def test_scores_option_is_checked(classifier):
    with pytest.raises(UsageError, match=r"scores='probs'.*did you mean 'prob'"):
        CrossEncoder(str(classifier), scores="probs")


def test_key_knows_the_weights(classifier, language_model):
    assert CrossEncoder(str(classifier)).key() != CrossEncoder(str(language_model)).key()
    assert CrossEncoder(str(classifier)).key() == CrossEncoder(str(classifier)).key()


def test_bfloat16_scores_are_close(classifier, pairs):
    """bfloat16 keeps 8 bits: within 5 % of the scores' spread."""
    full = PairScorer(classifier, device="cpu").score(pairs)
    half = PairScorer(classifier, device="cpu", dtype="bfloat16").score(pairs)
    assert 0 < np.abs(full - half).max() <= 0.05 * np.ptp(full)


@pytest.mark.gpu
def test_cuda_gives_the_cpus_scores(classifier, pairs):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    got = PairScorer(classifier, device="cuda").score(pairs)
    assert np.abs(got - PairScorer(classifier, device="cpu").score(pairs)).max() <= 1e-4


def test_reranks_by_the_scores(classifier, texts):
    run = Run.from_dict({"q": {"d1": 3.0, "d2": 2.0, "d7": 1.0}})
    out = CrossEncoder(str(classifier), device="cpu")([Query("q", "cat")], run, texts=texts)
    scores = PairScorer(classifier, device="cpu").score(
        [("cat", "the cat and the dog"), ("cat", "stone fire and water"), ("cat", "bird")]
    )
    assert out.to_dict()["q"] == pytest.approx(dict(zip(["d1", "d2", "d7"], scores, strict=True)), abs=1e-5)
