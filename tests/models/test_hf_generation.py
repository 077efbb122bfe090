"""Generation by the backend hf: against transformers' own greedy generation, and constrained texts against a slow loop."""

import itertools
import random

import numpy as np
import pytest
import torch
from cribble.errors import InputError, UsageError
from cribble.models import generation
from cribble.models.backends.hf import HF
from cribble.models.calls import Failure, GenerateCall, Prompt
from cribble.models.tokenizing import HFTokens
from cribble.models.writing import PermutationWriter, Writing
from cribble.tests.models.conftest import WORDS
from cribble.tests.models.tiny_language_models import network, own_logits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

#: Models that generate by our own loop, and those that need transformers' loop.
KINDS = ("llama", "mistral", "qwen3", "gpt2", "wordy", "mamba", "bloom")


def prompts(n: int, seed: int = 1) -> list[Prompt]:
    chance = random.Random(seed)
    return [Prompt(text="Passages: " + " ".join(chance.choices(WORDS, k=chance.randrange(2, 25)))) for _ in range(n)]


def replies_of(backend: HF, calls):
    replies = dict(backend.answer(calls))
    assert sorted(replies) == list(range(len(calls)))
    return [replies[i] for i in range(len(calls))]


def library(kind: str, ids, **options) -> list[int]:
    """What transformers generates greedily after `ids`, alone."""
    model = network(kind)
    start = torch.tensor([[int(i) for i in ids]])
    with torch.inference_mode():
        out = model.generate(start, attention_mask=torch.ones_like(start), do_sample=False, pad_token_id=0, **options)
    return out[0, start.shape[1] :].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_texts_are_the_librarys(language_model, kind):
    """A batch of prompts of different lengths, in groups of at most 150 tokens."""
    backend = HF(str(language_model(kind)))
    backend.answers.room = 150
    calls = [GenerateCall(prompt, max_tokens=12) for prompt in prompts(8)]
    texts = set()
    for call, reply in zip(calls, replies_of(backend, calls), strict=True):
        ids = backend.tokens.ids(call.prompt)
        expected = library(kind, ids, max_new_tokens=12)
        ended = 2 in expected
        expected = expected[: expected.index(2)] if ended else expected
        assert reply.usage.new == len(expected)
        before = backend.tokens.decode(ids.tolist())
        whole = backend.tokens.decode([*ids.tolist(), *expected])
        assert reply.text == whole[len(before) :]
        assert reply.finish == ("stop" if ended else "length")
        texts.add(reply.text)
    assert len(texts) > 3


@pytest.mark.parametrize("kind", ["llama", "gemma3", "bloom"])
def test_an_exact_length_bans_the_end(language_model, kind):
    backend = HF(str(language_model(kind)))
    text = "[1] > [2] > [3]"
    n = backend.tokens.length(text)
    calls = [GenerateCall(prompt, max_tokens=2, exactly_as_long_as=text) for prompt in prompts(4)]
    for call, reply in zip(calls, replies_of(backend, calls), strict=True):
        expected = library(kind, backend.tokens.ids(call.prompt), max_new_tokens=n, min_new_tokens=n)
        assert reply.usage.new == n == len(expected)
        assert reply.finish == "stop"
        ids = backend.tokens.ids(call.prompt).tolist()
        assert reply.text == backend.tokens.decode(ids + expected)[len(backend.tokens.decode(ids)) :]


def test_a_text_ends_before_a_stop_string(language_model):
    backend = HF(str(language_model("qwen3")))
    free = replies_of(backend, [GenerateCall(prompt, max_tokens=16) for prompt in prompts(5)])
    for prompt, reply in zip(prompts(5), free, strict=True):
        for stop in (reply.text[3:5], reply.text[7:8], "never in it"):
            (stopped,) = replies_of(backend, [GenerateCall(prompt, max_tokens=16, stop=("zzz", stop))])
            assert stopped.text == reply.text.partition(stop)[0]
            assert stopped.finish == ("stop" if stop in reply.text else reply.finish)
            assert stopped.usage.new <= reply.usage.new


@pytest.mark.parametrize("kind", ["qwen3", "mamba"])
def test_draws_depend_on_the_seed_and_on_nothing_else(language_model, kind):
    """The same seed alone, in a batch, and twice; another seed or a higher temperature gives another text."""
    backend = HF(str(language_model(kind)))
    calls = [GenerateCall(p, max_tokens=8, temperature=0.8, seed=s) for s in (0, 1) for p in prompts(4)]
    together = [reply.text for reply in replies_of(backend, calls)]
    assert together == [replies_of(backend, [call])[0].text for call in calls]
    assert together == [reply.text for reply in replies_of(backend, calls)]
    assert together[:4] != together[4:]
    hot = [GenerateCall(p, max_tokens=8, temperature=3.0) for p in prompts(4)]
    assert [reply.text for reply in replies_of(backend, hot)] != together[:4]


def test_draws_follow_the_softmax():
    """4,000 draws of one token: each share within 0.03 of softmax(logits / temperature); the seed of a call is its own."""
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0, -8.0])
    writing = Writing(GenerateCall(Prompt(text="x"), max_tokens=1, temperature=1.5, seed=3), _Nothing())
    drawn = np.bincount([writing._pick(logits) for _ in range(4000)], minlength=5) / 4000
    assert np.abs(drawn - (logits / 1.5).softmax(-1).numpy()).max() < 0.03


class _Nothing:
    def restart(self) -> None:
        pass


# ---- constrained -----------------------------------------------------------------------------------------------------


def names(n: int, form: str) -> tuple[str, ...]:
    return tuple(form.format(i + 1) if "{}" in form else chr(65 + i) for i in range(n))


def slow_constrained(kind: str, tokens: HFTokens, call: GenerateCall) -> str:
    """Token after token from logits of the whole sequence; only tokens that begin with what is valid are compared."""
    ids = tokens.ids(call.prompt).tolist()
    writer = PermutationWriter(call, tokens, [2], tokens.rendered(call.prompt) + call.prompt.tail)
    while not writer.done:
        options = writer.options()
        logits = own_logits(kind, [*ids, *writer.tokens])[-1]
        writer.push(max(options, key=lambda token: logits[token]))
    return writer.text()


@pytest.mark.parametrize("kind", KINDS)
def test_constrained_texts_are_permutations_and_the_likeliest_ones(language_model, kind):
    backend = HF(str(language_model(kind)))
    calls = [
        GenerateCall(prompt, choices=names(n, form), separator=" > ", constrained=True, top=top)
        for prompt in prompts(2)
        for n, form, top in (
            (3, "[{}]", None),
            (12, "[{}]", None),
            (12, "[{}]", 3),
            (1, "[{}]", None),
            (4, "Passage", None),
        )
    ]
    for call, reply in zip(calls, replies_of(backend, calls), strict=True):
        parts = reply.text.split(call.separator)
        assert sorted(parts) == sorted(call.choices) if call.top is None else len(parts) == call.top
        assert set(parts) <= set(call.choices)
        assert len(set(parts)) == len(parts)
        assert reply.finish == "stop"
        assert reply.text == slow_constrained(kind, backend.tokens, call)


def test_only_choices_cost_a_pass(language_model):
    """What has no alternative is read together with what comes next: one pass for each choice between tokens."""
    backend = HF(str(language_model("qwen2")))
    packed = backend.answers.model.packed
    sizes, forward = [], packed.forward
    packed.forward = lambda plan, ids, *rest: (sizes.append(len(ids)), forward(plan, ids, *rest))[1]
    call = GenerateCall(Prompt(text="Rank them: "), choices=names(5, "[{}]"), constrained=True)
    (reply,) = replies_of(backend, [call])
    assert len(sizes) == 1 + 3  # the prompt with `[`; then the 2nd, 3rd and 4th name are open, the 5th is what is left
    assert sum(sizes[1:]) < reply.usage.new


def test_a_text_that_began_in_the_prompt(language_model):
    """`[` stands there already: the text goes on after it."""
    backend = HF(str(language_model("qwen2")))
    call = GenerateCall(Prompt(text="Rank them: ", tail="["), choices=names(3, "[{}]"), constrained=True)
    (reply,) = replies_of(backend, [call])
    assert sorted(("[" + reply.text).split(" > ")) == ["[1]", "[2]", "[3]"]
    assert reply.text == slow_constrained("qwen2", backend.tokens, call)


class _Random:
    """Stands for a model: drives a writer by random choices among its options."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def write(self, writer) -> str:
        for _ in range(1000):
            if writer.done:
                return writer.text()
            writer.push(self.chance.choice(writer.options()))
        raise AssertionError("endless")


@pytest.fixture(scope="module")
def three_tokenizers(language_model):
    return [HFTokens(language_model(kind)) for kind in ("llama", "qwen2", "wordy")]


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.integers(0, 2),
    choices=st.lists(
        st.sampled_from(
            ["[1]", "[2]", "[10]", "[12]", "1", "12", "2", "A", "B", "10", "Ж", "Passage A", "cat", "the cat"]
        ),
        min_size=1,
        max_size=7,
        unique=True,
    ),
    separator=st.sampled_from([" > ", ">", ", ", "\n"]),
    top=st.none() | st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_whatever_is_chosen_the_text_is_valid(three_tokenizers, which, choices, separator, top, seed):
    """Also where the name of one choice begins another's; the tokens spell the text."""
    tokens = three_tokenizers[which]
    prompt = Prompt(text="Answer:")
    call = GenerateCall(prompt, choices=tuple(choices), separator=separator, constrained=True, top=top)
    if which != 1 and "Ж" in choices:  # a word that WordPiece has no pieces of
        with pytest.raises(InputError, match=r"'.*Ж' can't be written with the tokenizer of (llama|wordy)"):
            PermutationWriter(call, tokens, [2], "Answer:")
        return
    writer = PermutationWriter(call, tokens, [2], "Answer:")
    text = _Random(seed).write(writer)
    valid = {separator.join(p) for p in itertools.permutations(choices, min(top or len(choices), len(choices)))}
    assert text in valid
    assert len(writer.tokens) <= writer.most
    spelled = tokens.decode([*tokens.encode("Answer:"), *writer.tokens])[len(tokens.decode(tokens.encode("Answer:"))) :]
    assert "".join(spelled.split()) == "".join(text.split())


# ---- failures --------------------------------------------------------------------------------------------------------


def test_a_text_of_no_length_is_refused(language_model):
    backend = HF(str(language_model("qwen2")))
    with pytest.raises(UsageError, match="neither max_tokens nor exactly_as_long_as"):
        list(backend.answer([GenerateCall(Prompt(text="x"))]))


def test_prompt_and_text_must_fit_together(language_model):
    backend = HF(str(language_model("qwen2")), max_length=40)
    prompt = Prompt(text="the cat " * 8)
    n = backend.tokens.count(prompt)
    fits, too_long = replies_of(
        backend, [GenerateCall(prompt, max_tokens=41 - n), GenerateCall(prompt, max_tokens=42 - n)]
    )
    assert fits.usage.new > 0
    assert too_long == Failure(f"the prompt has {n} tokens and {42 - n} for the answer, the limit of qwen2 is 40")


@pytest.mark.parametrize("kind", ["qwen2", "bloom"])
def test_out_of_memory_halves_the_texts(language_model, monkeypatch, kind):
    backend = HF(str(language_model(kind)))
    calls = [GenerateCall(prompt, max_tokens=6) for prompt in prompts(6)]
    expected = replies_of(backend, calls)
    model = backend.answers.model.model
    inner, seen = model.get_decoder(), []
    forward = inner.forward

    def scarce(*args, **kwargs):
        ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
        if ids.shape[0] > 3 or ids.shape[1] > 60:
            seen.append(ids.shape)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    monkeypatch.setattr(inner, "forward", scarce)
    got = replies_of(backend, calls)
    assert seen
    assert [reply.text for reply in got] == [reply.text for reply in expected]


def test_texts_that_outgrow_their_room_are_the_same(language_model, monkeypatch):
    """Rows begin with room for two more tokens and the whole group has room for 60: they grow, wait and go on."""
    backend = HF(str(language_model("qwen2")))
    texts = [" ".join(WORDS[: 2 * n + 1]) for n in (4, 1, 3, 2, 5, 2)]
    calls = [GenerateCall(prompt, exactly_as_long_as=text) for prompt, text in zip(prompts(6), texts, strict=True)]
    expected = replies_of(backend, calls)
    began = []

    def begin(model, jobs):
        began.append([len(job.writing.writer.tokens) for job in jobs])
        return real(model, jobs)

    real = generation._begin
    monkeypatch.setattr(generation, "_begin", begin)
    monkeypatch.setattr(generation, "_EXPECTED", 2)
    monkeypatch.setattr(backend.answers, "room", 60)
    assert [reply.text for reply in replies_of(backend, calls)] == [reply.text for reply in expected]
    assert any(tokens > 0 for group in began for tokens in group), "some went on in a later group"
    assert len(began) > 2


def test_usage_counts_shared_prompts(language_model):
    backend = HF(str(language_model("qwen2")))
    head = "Passages: " + " ".join(WORDS)
    calls = [GenerateCall(Prompt(text=f"{head} {word}:"), max_tokens=3) for word in WORDS[:4]]
    replies = replies_of(backend, calls)
    n = backend.tokens.length(head)
    assert sum(reply.usage.cached >= n - 1 for reply in replies) == 3
    assert replies == replies_of(backend, calls)
