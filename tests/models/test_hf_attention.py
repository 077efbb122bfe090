"""Likelihoods against a loop over tokens, and attention scores (ICR) against transformers' eager attention."""

import random

import numpy as np
import pytest
import torch
from cribble.errors import InputError, UsageError
from cribble.models.attention_spans import spans_of
from cribble.models.backends.hf import HF
from cribble.models.calls import AttentionCall, Failure, LikelihoodCall, Prompt
from cribble.tests.models.conftest import WORDS
from cribble.tests.models.tiny_language_models import network, own_logits

TOLERANCE = 1e-4


def text(chance: random.Random, low: int, high: int) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randrange(low, high)))


# ---- likelihood ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "gemma2", "gpt2", "bloom", "mamba"])
@pytest.mark.parametrize("share", [True, False])
def test_likelihoods_are_sums_over_tokens(language_model, kind, share):
    """Oracle: the log-softmax at each token of prompt and target alone. Targets of one token and of several, that share
    their beginning, and that follow a tail."""
    chance = random.Random(2)
    backend = HF(str(language_model(kind)), share_prefix=share, token_budget=80)
    targets = (" A", " Passage A", " Passage B", " the cat in the river " + text(chance, 5, 9))
    calls = [
        LikelihoodCall(Prompt(text=text(chance, 4, 20) + ":", tail=tail), targets) for tail in ("", " Passage", "")
    ]
    replies = dict(backend.answer(calls))
    for i, call in enumerate(calls):
        before = backend.tokens.ids(call.prompt).tolist()
        for value, target in zip(replies[i].values, targets, strict=True):
            whole = backend.tokens.ids(Prompt(text=call.prompt.text, tail=call.prompt.tail + target)).tolist()
            assert whole[: len(before)] == before
            logits = torch.from_numpy(own_logits(kind, whole)).double().log_softmax(-1)
            expected = sum(float(logits[at - 1, whole[at]]) for at in range(len(before), len(whole)))
            assert value == pytest.approx(expected, abs=TOLERANCE * len(whole))
        assert replies[i].usage.prompt == len(before)
        assert replies[i].usage.new == 0


def test_prompts_of_likelihoods_are_read_once(language_model):
    """PRP's two targets cost the prompt once; the second prompt shares its beginning with the first."""
    backend = HF(str(language_model("qwen2")))
    packed = backend.answers.model.packed
    head = "the cat and the dog in the city of light " * 2
    calls = [LikelihoodCall(Prompt(text=head + end), (" A", " B")) for end in ("is read:", "and a bird:")]
    before = packed.computed
    replies = dict(backend.answer(calls))
    computed = packed.computed - before
    assert sum(reply.usage.prompt - reply.usage.cached for reply in replies.values()) == computed
    assert computed < 1.4 * backend.tokens.count(calls[0].prompt)


def test_a_target_without_a_token_is_refused(language_model):
    with pytest.raises(InputError, match="the target '' adds no token"):
        list(HF(str(language_model("qwen2"))).answer([LikelihoodCall(Prompt(text="x"), ("",))]))


def test_no_targets_give_no_values(language_model):
    ((_, reply),) = HF(str(language_model("qwen2"))).answer([LikelihoodCall(Prompt(text="x"), ())])
    assert reply.values == ()


# ---- attention -------------------------------------------------------------------------------------------------------


def icr_call(seed: int = 0, **changes) -> AttentionCall:
    chance = random.Random(seed)
    parts = {
        "head": " Here are some passages:\n",
        "passages": tuple(f"[{i + 1}] {text(chance, 1, 12)}" for i in range(5)),
        "before": "\nQuery:",
        "query": " " + text(chance, 2, 6),
        "after": "\nAnswer:",
        "null_query": " N/A",
        "join": "\n",
    }
    return AttentionCall(**parts | changes)


def eager_scores(kind: str, backend: HF, call: AttentionCall) -> list[float]:
    """From the whole attention matrices of both prompts, as the paper says it."""
    from copy import deepcopy

    model = deepcopy(network(kind))
    model.set_attn_implementation("eager")
    asked, null = (spans_of(call, backend.tokens, query) for query in (call.query, call.null_query))
    sums = []
    for spans in (asked, null):
        with torch.inference_mode():
            output = model(torch.tensor(spans.ids[None].astype(np.int64)), output_attentions=True, use_cache=False)
        total = np.zeros(len(spans.ids))
        for layer, matrix in enumerate(output.attentions):
            heads = [head for at, head in call.heads if at == layer] if call.heads else range(matrix.shape[1])
            for head in heads:
                total += matrix[0, head, spans.query[0] : spans.query[1]].double().mean(dim=0).numpy()
        sums.append(total)
    scores = []
    for places in asked.passages:
        c = sums[0][places] - sums[1][places]
        keep = c > c.mean() - 2 * c.std(ddof=1) if len(c) > 1 else np.ones(len(c), bool)
        scores.append(float(c[keep].sum()))
    return scores


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen3", "gemma2", "gemma3"])
@pytest.mark.parametrize("heads", [(), ((0, 1), (2, 0), (2, 3))])
def test_attention_scores_are_those_of_the_eager_matrices(language_model, kind, heads):
    """Windows (Mistral, Gemma) and a cap (Gemma 2) included; budgets that cut the reading into passes."""
    calls = [icr_call(seed, heads=heads) for seed in range(2)]
    for budget in (4096, 40):
        backend = HF(str(language_model(kind)), token_budget=budget)
        for i, reply in backend.answer(calls):
            expected = eager_scores(kind, backend, calls[i])
            assert np.abs(np.asarray(reply.values) - expected).max() <= 1e-5 * max(1, np.abs(expected).max())
            assert np.ptp(expected) > 1e-4


@pytest.mark.parametrize("kind", ["qwen2", "mistral"])
def test_attention_through_a_chat_template(language_model, kind):
    """Mistral's template strips white space around the text."""
    backend = HF(str(language_model(kind)))
    call = icr_call(3, chat=True)
    ((_, reply),) = backend.answer([call])
    assert np.abs(np.asarray(reply.values) - eager_scores(kind, backend, call)).max() <= 1e-5


def test_the_query_may_begin_as_the_null_query_does(language_model):
    backend = HF(str(language_model("llama")))
    call = icr_call(4, query=" N/A cat river")
    ((_, reply),) = backend.answer([call])
    assert np.abs(np.asarray(reply.values) - eager_scores("llama", backend, call)).max() <= 1e-5


def test_spans_are_the_texts_own_tokens(language_model):
    backend = HF(str(language_model("qwen2")))
    call = icr_call(5)
    spans = spans_of(call, backend.tokens, call.query)
    for places, passage in zip(spans.passages, call.passages, strict=True):
        assert backend.tokens.decode(spans.ids[places].tolist()) == passage
    start, end = spans.query
    assert backend.tokens.decode(spans.ids[start:end].tolist()) == call.query


def test_the_passages_are_read_once(language_model):
    """Tokens computed: one prompt whole, and what follows the query's place in the other."""
    backend = HF(str(language_model("qwen2")))
    call = icr_call(6)
    packed = backend.answers.model.packed
    before = packed.computed
    ((_, reply),) = backend.answer([call])
    asked, null = (spans_of(call, backend.tokens, query) for query in (call.query, call.null_query))
    assert packed.computed - before == len(asked.ids) + len(null.ids) - null.query[0]
    assert reply.usage.prompt - reply.usage.cached == packed.computed - before


def test_passages_without_a_token_score_nothing(language_model):
    ((_, reply),) = HF(str(language_model("qwen2"))).answer([icr_call(7, passages=("", "the cat", ""))])
    assert reply.values[0] == reply.values[2] == 0.0
    assert reply.values[1] != 0.0


def test_heads_that_are_not_there_are_refused(language_model):
    with pytest.raises(UsageError, match="qwen2 has no head 4 in layer 0: layers go from 0 to 2, heads from 0 to 3"):
        list(HF(str(language_model("qwen2"))).answer([icr_call(heads=((0, 4),))]))


@pytest.mark.parametrize("options", [{"share_prefix": False}, {}])
def test_attention_needs_a_packed_model(language_model, options):
    kind = "bloom" if not options else "qwen2"
    with pytest.raises(UsageError, match=f"attention of {kind} can't be read here: "):
        list(HF(str(language_model(kind)), **options).answer([icr_call()]))


def test_a_call_that_is_too_long_fails_alone(language_model):
    backend = HF(str(language_model("qwen2")), max_length=120)
    replies = dict(backend.answer([icr_call(8), icr_call(8, passages=("the cat " * 200,))]))
    assert isinstance(replies[1], Failure)
    assert "the limit of qwen2 is 120" in replies[1].reason
    assert len(replies[0].values) == 5
