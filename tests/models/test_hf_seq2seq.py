"""Encoder–decoders by the backend hf: T5's labels, texts and likelihoods against the model itself, one prompt at a time."""

import random

import numpy as np
import pytest
import torch
from cribble.models.backends.hf import HF
from cribble.models.calls import Failure, GenerateCall, LabelCall, LikelihoodCall, Prompt
from cribble.tests.models.conftest import WORDS
from cribble.tests.models.tiny_language_models import network

TOLERANCE = 1e-4


@pytest.fixture
def backend(language_model) -> HF:
    return HF(str(language_model("t5")), token_budget=200)


def texts(n: int, seed: int = 3) -> list[str]:
    chance = random.Random(seed)
    return [
        f"Query: cat Document: {' '.join(chance.choices(WORDS, k=chance.randrange(1, 20)))} Relevant:" for _ in range(n)
    ]


def decoder_logits(ids: list[int], decoder: list[int]) -> np.ndarray:
    """(n, V) of one prompt after each of the decoder's tokens, the start token first."""
    with torch.inference_mode():
        output = network("t5")(
            input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([[0, *decoder]]), use_cache=False
        )
    return output.logits[0].double().numpy()


def replies_of(backend, calls):
    replies = dict(backend.answer(calls))
    assert sorted(replies) == list(range(len(calls)))
    return [replies[i] for i in range(len(calls))]


def test_label_logits_are_those_of_the_decoders_next_step(backend):
    """monoT5's shape (no tail) and setwise's (the decoder says `Passage` already), mixed in one batch."""
    tokens = backend.tokens
    calls = [LabelCall(Prompt(text=text), ("true", "false")) for text in texts(5)]
    calls += [LabelCall(Prompt(text=text, tail="Passage"), (" A", " B", " C")) for text in texts(5)]
    for call, reply in zip(calls, replies_of(backend, calls), strict=True):
        (ids,) = tokens.encoder_ids(call.prompt)
        tail = tokens.encode(call.prompt.tail)
        expected = decoder_logits(ids, tail)[-1, list(tokens.label_ids(call.prompt, call.labels))]
        assert np.abs(np.asarray(reply.values) - expected).max() <= TOLERANCE
        assert reply.usage == (tokens.count(call.prompt), 0, 1)
    # Oracle two: what `generate` scores for its first token.
    (ids,) = tokens.encoder_ids(calls[0].prompt)
    scored = network("t5").generate(
        torch.tensor([ids]), max_new_tokens=1, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    first = scored.logits[0][0, list(tokens.label_ids(calls[0].prompt, calls[0].labels))]
    assert np.abs(np.asarray(replies_of(backend, calls)[0].values) - first.numpy()).max() <= TOLERANCE


def test_batch_of_one_is_batch_of_eight(backend):
    calls = [LabelCall(Prompt(text=text), ("true", "false")) for text in texts(8)]
    together = np.asarray([reply.values for reply in replies_of(backend, calls)])
    alone = np.asarray([replies_of(backend, [call])[0].values for call in calls])
    assert np.abs(together - alone).max() <= TOLERANCE


@pytest.mark.parametrize("tail", ["", "Passage"])
def test_texts_are_the_librarys(backend, tail):
    tokens = backend.tokens
    calls = [GenerateCall(Prompt(text=text, tail=tail), max_tokens=9) for text in texts(6)]
    for call, reply in zip(calls, replies_of(backend, calls), strict=True):
        (ids,) = tokens.encoder_ids(call.prompt)
        start = torch.tensor([[0, *tokens.encode(tail)]])
        out = network("t5").generate(torch.tensor([ids]), decoder_input_ids=start, max_new_tokens=9, do_sample=False)[0]
        new = [token for token in out[start.shape[1] :].tolist() if token not in (0, 1)]
        assert reply.text.split() == tokens.decode(tokens.encode(tail) + new).removeprefix(tail).split()


def test_an_exact_length_and_a_permutation(backend):
    tokens, prompt = backend.tokens, Prompt(text=texts(1)[0])
    names = tuple(f"[{i}]" for i in range(1, 12))
    exact, permuted = replies_of(
        backend,
        [
            GenerateCall(prompt, exactly_as_long_as=" > ".join(names)),
            GenerateCall(prompt, choices=names, constrained=True),
        ],
    )
    assert exact.usage.new == tokens.length(" > ".join(names))
    assert sorted(permuted.text.split(" > ")) == sorted(names)


def test_likelihoods_are_sums_over_the_decoders_tokens(backend):
    tokens = backend.tokens
    calls = [
        LikelihoodCall(Prompt(text=text, tail=tail), (" A", " B", " the cat"))
        for text in texts(4)
        for tail in ("", "Passage")
    ]
    for call, reply in zip(calls, replies_of(backend, calls), strict=True):
        (ids,) = tokens.encoder_ids(call.prompt)
        tail = tokens.encode(call.prompt.tail)
        for value, target in zip(reply.values, call.targets, strict=True):
            whole = tokens.encode(call.prompt.tail + target)
            logits = torch.from_numpy(decoder_logits(ids, whole)).log_softmax(-1)
            expected = sum(float(logits[at, whole[at]]) for at in range(len(tail), len(whole)))
            assert value == pytest.approx(expected, abs=TOLERANCE)


def test_parts_are_encoded_apart(backend):
    """Fusion-in-Decoder (LiT5). Oracle: the encoder over each part alone, states joined by hand."""
    from transformers.modeling_outputs import BaseModelOutput

    tokens, model = backend.tokens, network("t5")
    prompts = [Prompt(parts=tuple(texts(n, seed=n))) for n in (1, 3, 5)]
    calls = [GenerateCall(prompt, max_tokens=8) for prompt in prompts] + [
        LabelCall(prompt, ("true",)) for prompt in prompts
    ]
    replies = replies_of(backend, calls)
    for i, prompt in enumerate(prompts):
        with torch.inference_mode():
            states = [model.encoder(torch.tensor([ids])).last_hidden_state[0] for ids in tokens.encoder_ids(prompt)]
            joined = BaseModelOutput(last_hidden_state=torch.cat(states)[None])
            out = model.generate(encoder_outputs=joined, max_new_tokens=8, do_sample=False)[0, 1:].tolist()
            joined = BaseModelOutput(last_hidden_state=torch.cat(states)[None])
            logits = model(encoder_outputs=joined, decoder_input_ids=torch.tensor([[0]])).logits[0, -1]
        assert replies[i].text.split() == tokens.decode(out).split()
        expected = float(logits[tokens.label_ids(prompt, ("true",))[0]])
        assert replies[3 + i].values[0] == pytest.approx(expected, abs=TOLERANCE)
        assert replies[i].usage.prompt == tokens.count(prompt)
    together = " ".join(prompts[1].parts)
    apart, whole = replies_of(backend, [LabelCall(prompts[1], ("true",)), LabelCall(Prompt(text=together), ("true",))])
    assert abs(apart.values[0] - whole.values[0]) > 1e-3


def test_too_long_for_the_encoder(language_model):
    backend = HF(str(language_model("t5")), max_length=60)
    calls = [LabelCall(Prompt(text="the cat " * n), ("true", "false")) for n in (5, 100)]
    fits, too_long = replies_of(backend, calls)
    assert len(fits.values) == 2
    assert isinstance(too_long, Failure)
    assert "the limit of t5 is 60" in too_long.reason


def test_out_of_memory_halves_the_batch(backend, monkeypatch):
    calls = [LabelCall(Prompt(text=text), ("true", "false")) for text in texts(6)]
    expected = [reply.values for reply in replies_of(backend, calls)]
    encoder = backend.answers.model.model.get_encoder()
    forward, seen = encoder.forward, []

    def scarce(*args, **kwargs):
        seen.append(len(kwargs["input_ids"]))
        if seen[-1] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(encoder, "forward", scarce)
    got = [reply.values for reply in replies_of(backend, calls)]
    assert max(seen) > 1
    assert np.abs(np.asarray(got) - np.asarray(expected)).max() <= TOLERANCE
