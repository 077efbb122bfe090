"""The backend hf: logits of labels against the model's own, one sequence at a time, whatever the batch and the way."""

import json
import logging
import random
import shutil

import numpy as np
import pytest
import torch
from cribble.errors import InputError, SetupError, UsageError
from cribble.models import packed_forward
from cribble.models.backends import make_backend
from cribble.models.backends.hf import HF
from cribble.models.calls import AttentionCall, Failure, LabelCall, LikelihoodCall, Prompt, Reply
from cribble.models.packed_forward import PackedModel, Reading
from cribble.tests.models.conftest import WORDS
from cribble.tests.models.tiny_language_models import MODELS, network, own_logits

#: Models whose prompts are read packed, and some that can't be.
PACKED = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2")
PLAIN = ("mamba", "bloom")
TOLERANCE = 1e-4


def passages(n: int, seed: int = 5) -> list[str]:
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=chance.randrange(3, 30))) for _ in range(n)]


def pair_calls(texts: list[str], labels: tuple[str, ...]) -> list[LabelCall]:
    """PRP's shape: instruction and query, passage A, passage B, the question."""
    head = "Given the query cat and water, which passage is better?\n"
    pairs = [(a, b) for a in texts for b in texts if a != b]
    return [LabelCall(Prompt(text=f"{head}Passage A: {a}\nPassage B: {b}\nAnswer:"), labels) for a, b in pairs]


def labels_for(kind: str) -> tuple[str, ...]:
    return ("A", "B") if kind == "wordy" else (" A", " B")


def expected_values(kind: str, backend: HF, calls: list[LabelCall]) -> np.ndarray:
    """The model's own logits of the labels after each prompt alone."""
    rows = []
    for call in calls:
        ids = list(backend.tokens.label_ids(call.prompt, call.labels))
        rows.append(own_logits(kind, backend.tokens.ids(call.prompt))[-1, ids])
    return np.asarray(rows)


def values_of(backend: HF, calls) -> np.ndarray:
    replies = dict(backend.answer(calls))
    assert sorted(replies) == list(range(len(calls)))
    return np.asarray([replies[i].values for i in range(len(calls))])


@pytest.mark.parametrize("kind", [*PACKED, *PLAIN, "wordy"])
def test_label_logits_are_the_models_own(language_model, kind):
    """Pairs of passages, so that prompts share two levels; passes of at most 64 tokens, so that they are cut often."""
    backend = HF(str(language_model(kind)), token_budget=64)
    calls = pair_calls(passages(4), labels_for(kind))
    expected = expected_values(kind, backend, calls)
    assert np.abs(values_of(backend, calls) - expected).max() <= TOLERANCE
    assert np.ptp(expected) > 1  # they are no constants


@pytest.mark.parametrize("kind", PACKED)
def test_shared_prefixes_change_no_logits(language_model, kind):
    """Sharing on, off (the model's own attention with padding), and one call at a time."""
    folder = str(language_model(kind))
    calls = pair_calls(passages(4), labels_for(kind))
    shared, plain = HF(folder), HF(folder, share_prefix=False)
    assert shared.answers.model.packed is not None
    assert plain.answers.model.packed is None
    together = values_of(shared, calls)
    assert np.abs(together - values_of(plain, calls)).max() <= TOLERANCE
    alone = np.concatenate([values_of(shared, [call]) for call in calls])
    assert np.abs(together - alone).max() <= TOLERANCE


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen3", "gpt2", *PLAIN])
def test_batch_of_one_is_batch_of_eight_and_padding_has_no_side(language_model, kind):
    """Oracle: the model's own forward pass over one batch, padded on the right and masked."""
    backend = HF(str(language_model(kind)), share_prefix=False, token_budget=4096)
    calls = [LabelCall(Prompt(text=f"Passage: {text} Relevant:"), labels_for(kind)) for text in passages(8)]
    ids = [backend.tokens.ids(call.prompt).tolist() for call in calls]
    longest = max(map(len, ids))
    assert len({len(row) for row in ids}) > 3
    right = torch.tensor([row + [0] * (longest - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
    with torch.inference_mode():
        logits = network(kind)(right, attention_mask=mask, use_cache=False).logits
    places = [list(backend.tokens.label_ids(call.prompt, call.labels)) for call in calls]
    expected = np.asarray([logits[i, len(row) - 1, places[i]].numpy() for i, row in enumerate(ids)])
    together = values_of(backend, calls)
    assert np.abs(together - expected).max() <= TOLERANCE
    assert np.abs(np.concatenate([values_of(backend, [call]) for call in calls]) - together).max() <= TOLERANCE


def test_a_window_is_kept_across_pieces_and_passes(language_model):
    """Mistral's window of 20 tokens ends within shared pieces, kept keys and chunks of a long piece."""
    model = PackedModel(network("mistral"), 100)
    chance = np.random.default_rng(3)
    common, long = chance.integers(0, 600, 60), chance.integers(0, 600, 400)
    rows = [np.concatenate([common, chance.integers(0, 600, n)]) for n in (5, 30, 90)] + [
        np.concatenate([common[:30], long])
    ]
    readings = [Reading(ids.astype(np.int32), 3) for ids in rows]
    for part in model.read(readings):
        for place, hidden, _ in part:
            expected = network("mistral").get_decoder()(torch.tensor(rows[place][None])).last_hidden_state[0, -3:]
            assert float((hidden - expected).abs().max().detach()) <= TOLERANCE


# ---- costs -----------------------------------------------------------------------------------------------------------


def test_usage_counts_what_was_not_computed_again(language_model):
    """All ordered pairs of 6: what was computed is what the model read, and the pairs cost half of the plain way."""
    backend = HF(str(language_model("qwen2")))
    calls = pair_calls(passages(6), (" A", " B"))
    packed = backend.answers.model.packed
    before = packed.computed
    replies = [reply for _, reply in backend.answer(calls)]
    prompt, cached = (sum(getattr(reply.usage, name) for reply in replies) for name in ("prompt", "cached"))
    assert prompt == sum(backend.tokens.count(call.prompt) for call in calls)
    assert prompt - cached == packed.computed - before
    assert prompt / (prompt - cached) > 1.7
    assert {reply.usage.new for reply in replies} == {1}


def test_equal_prompts_are_read_once(language_model):
    for options in ({}, {"share_prefix": False}):
        backend = HF(str(language_model("qwen2")), **options)
        prompt = Prompt(text="the cat and the dog. Answer:")
        calls = [LabelCall(prompt, (" A", " B")), LabelCall(prompt, (" B", " A")), LabelCall(prompt, (" A", " B"))]
        replies = dict(backend.answer(calls))
        n = backend.tokens.count(prompt)
        assert sorted(reply.usage.cached for reply in replies.values()) == [0, n, n]
        assert replies[0].values == pytest.approx(replies[2].values, abs=1e-5)
        assert replies[0].values == pytest.approx(replies[1].values[::-1], abs=1e-5)


def test_sharing_off_costs_every_prompt(language_model):
    backend = HF(str(language_model("qwen2")), share_prefix=False)
    assert {reply.usage.cached for _, reply in backend.answer(pair_calls(passages(3), (" A", " B")))} == {0}


def test_replies_come_pass_by_pass(language_model):
    """What a killed run had paid for is there: the first reply comes before the last prompt was read."""
    backend = HF(str(language_model("qwen2")), token_budget=32)
    calls = pair_calls(passages(4), (" A", " B"))
    packed = backend.answers.model.packed
    before, replies = packed.computed, backend.answer(calls)
    next(replies)
    first = packed.computed - before
    list(replies)
    assert first < (packed.computed - before) / 3


def test_the_token_budget_bounds_a_pass(language_model, monkeypatch):
    sizes = []
    forward = PackedModel.forward
    monkeypatch.setattr(
        PackedModel,
        "forward",
        lambda self, plan, ids, *rest: (sizes.append(len(ids)), forward(self, plan, ids, *rest))[1],
    )
    for budget in (40, 400):
        backend = HF(str(language_model("qwen2")), token_budget=budget)
        backend.open()
        sizes.clear()
        list(backend.answer(pair_calls(passages(5), (" A", " B"))))
        assert budget / 2 < max(sizes) <= budget


def test_a_budget_below_a_prompt_still_reads_it(language_model):
    backend = HF(str(language_model("qwen2")), token_budget=1)
    calls = pair_calls(passages(3), (" A", " B"))
    assert np.abs(values_of(backend, calls) - expected_values("qwen2", backend, calls)).max() <= TOLERANCE


@pytest.mark.parametrize("share", [True, False])
def test_out_of_memory_halves_the_batch_and_goes_on(language_model, monkeypatch, caplog, share):
    """A forward pass over more than 100 tokens fails as torch's allocator does."""
    backend = HF(str(language_model("qwen2")), share_prefix=share, token_budget=1000)
    calls = pair_calls(passages(5), (" A", " B"))
    expected = values_of(backend, calls)
    network_of = backend.answers.model.model.get_decoder()
    forward = network_of.forward

    def scarce(*args, **kwargs):
        if kwargs["input_ids"].numel() > 150:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(*args, **kwargs)

    monkeypatch.setattr(network_of, "forward", scarce)
    with caplog.at_level(logging.WARNING, "cribble"):
        assert np.abs(values_of(backend, calls) - expected).max() <= TOLERANCE
    assert "out of memory with" in caplog.text
    monkeypatch.setattr(
        network_of, "forward", lambda *a, **k: (_ for _ in ()).throw(torch.OutOfMemoryError("out of memory"))
    )
    with pytest.raises(torch.OutOfMemoryError):
        list(backend.answer(calls[:1]))


# ---- which way ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PLAIN)
def test_what_can_not_share_is_found_out_and_said(language_model, caplog, kind):
    with caplog.at_level(logging.WARNING, "cribble"):
        backend = HF(str(language_model(kind)))
        backend.open()
    assert backend.answers.model.packed is None
    assert f"{kind}: prompts can't share their common beginnings: " in caplog.text


def test_a_network_whose_packed_logits_differ_is_read_plain(language_model, monkeypatch, caplog):
    """A wrong packed forward pass (positions off by one for the second piece on) is caught at opening."""
    lay_out = packed_forward.lay_out

    def shifted(*args):
        layout = lay_out(*args)
        layout.positions = layout.positions + (layout.positions >= 24)
        return layout

    monkeypatch.setattr(packed_forward, "lay_out", shifted)
    with caplog.at_level(logging.WARNING, "cribble"):
        backend = HF(str(language_model("qwen2")))
        calls = pair_calls(passages(3), (" A", " B"))
        assert np.abs(values_of(backend, calls) - expected_values("qwen2", backend, calls)).max() <= TOLERANCE
    assert "its logits would change by" in caplog.text


@pytest.mark.parametrize("kind", ["cohere", "granite"])
def test_heads_with_a_factor(tmp_path, kind):
    """Cohere multiplies its logits, Granite divides them."""
    import transformers

    shape = {
        "vocab_size": 600,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
    }
    torch.manual_seed(2)
    config = (
        transformers.CohereConfig(**shape, logit_scale=0.3)
        if kind == "cohere"
        else transformers.GraniteConfig(**shape, logits_scaling=7.0)
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    _check_label_head(model, exact=True)


def test_a_head_of_an_unknown_form_is_computed_whole():
    """A model that adds something of its own to its logits: rows of the matrix would be wrong."""
    import transformers

    class Odd(transformers.LlamaForCausalLM):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits * 2 + torch.arange(output.logits.shape[-1])
            return output

    torch.manual_seed(2)
    config = transformers.LlamaConfig(
        vocab_size=600, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
    )
    _check_label_head(Odd(config).eval(), exact=False)


def _check_label_head(model, *, exact: bool) -> None:
    from cribble.models.causal import CausalModel
    from cribble.models.label_head import LabelHead

    causal = CausalModel("tiny", model, 64)
    assert isinstance(causal.head, LabelHead) == exact
    assert causal.packed is not None
    chance = np.random.default_rng(1)
    rows = [chance.integers(0, 600, n).astype(np.int32) for n in (7, 30, 80)]
    for part in causal.read([Reading(ids) for ids in rows]):
        for place, hidden, _ in part:
            expected = model(torch.tensor(rows[place][None].astype(np.int64))).logits[0, -1]
            got = causal.head.labels(hidden, (5, 9, 500))[0]
            assert float((got - expected[[5, 9, 500]]).abs().max().detach()) <= TOLERANCE


def test_bfloat16_is_near_and_gives_float32(language_model):
    folder = str(language_model("qwen2"))
    calls = pair_calls(passages(3), (" A", " B"))
    exact, rounded = values_of(HF(folder), calls), HF(folder, dtype="bf16")
    assert rounded.answers.model.packed is not None
    got = values_of(rounded, calls)
    assert 0 < np.abs(got - exact).max() < 0.1 * np.abs(exact).max()
    # Products of the label rows are float32: bfloat16 would leave 8 bits.
    assert (got.astype(np.float32).view(np.uint32) & 0xFFFF).any()


def test_packed_linear_layers_change_no_logits(language_model, tmp_path, monkeypatch):
    """On CPUs where packing pays; the rows of the output matrix stay readable."""
    from cribble.models import packed_linear

    if not packed_linear.packing_exists():
        pytest.skip("this torch has no packed linear layers")
    monkeypatch.setattr(packed_linear, "packing_pays", lambda: True)
    calls = pair_calls(passages(3), (" A", " B"))
    for kind in ("llama", "t5"):
        backend = HF(str(shutil.copytree(language_model(kind), tmp_path / kind)))
        plain = HF(str(language_model(kind)))
        kinds = {type(module).__name__ for module in backend.answers.model.model.modules()}
        assert "PackedLinear" in kinds
        asked = calls if kind == "llama" else [LabelCall(call.prompt, ("true", "false")) for call in calls]
        assert np.abs(values_of(backend, asked) - values_of(plain, asked)).max() <= TOLERANCE


# ---- failures and options --------------------------------------------------------------------------------------------


def test_a_prompt_over_the_limit_fails_alone(language_model):
    backend = HF(str(language_model("qwen2")), max_length=30)
    calls = [LabelCall(Prompt(text="the cat " * n + "Answer:"), (" A", " B")) for n in (3, 40)]
    replies = dict(backend.answer(calls))
    assert isinstance(replies[0], Reply)
    n = backend.tokens.count(calls[1].prompt)
    assert replies[1] == Failure(f"the prompt has {n} tokens, the limit of qwen2 is 30")


def test_an_empty_prompt_fails_alone(language_model):
    backend = HF(str(language_model("qwen2")))
    replies = dict(backend.answer([LabelCall(Prompt(text=""), ("A",)), LabelCall(Prompt(text="x"), (" A",))]))
    assert replies[0] == Failure("the prompt has no token")
    assert isinstance(replies[1], Reply)


def test_labels_are_checked_before_anything_is_read(language_model):
    backend = HF(str(language_model("qwen2")))
    with pytest.raises(InputError, match="not one token"):
        list(backend.answer([LabelCall(Prompt(text="Answer:"), (" search index", " B"))]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": None}, "needs a model"),
        ({"model": "./nowhere"}, "'./nowhere' does not exist"),
        ({"dtype": "float8"}, "dtype 'float8' is unknown"),
        ({"dtype": "float16", "device": "cpu"}, "float16 on the CPU"),
        ({"device": "tpu"}, "device 'tpu' is unknown|device 'tpu' is not supported"),
        ({"token_budget": 0}, "token_budget=0"),
        ({"max_length": 0}, "max_length=0"),
        ({"max_length": 4096}, "max_length=4096: qwen2 has 512 positions"),
        ({"quantise": "2bit"}, "quantise='2bit' is unknown"),
        ({"device_map": "balanced"}, "device_map='balanced' is unknown"),
        ({"device_map": "auto", "device": "cpu"}, "device='cpu' with device_map='auto'"),
        ({"revision": "main"}, "revision='main' does not apply to the local folder"),
        ({"adapter": "./nowhere"}, "'./nowhere' does not exist"),
        ({"chat_template": "nowhere"}, "'nowhere' is no file"),
    ],
)
def test_wrong_options_are_refused(language_model, options, message):
    def opened() -> None:
        backend = make_backend({"use": "hf"} | options, str(language_model("qwen2")))
        backend.open()
        _ = backend.tokens.tokenizer

    with pytest.raises(UsageError, match=message):
        opened()


@pytest.mark.parametrize(
    ("options", "package"), [({"quantise": "8bit"}, "accelerate"), ({"device_map": "auto"}, "accelerate")]
)
def test_a_missing_package_is_named_with_its_pip_line(language_model, options, package):
    pytest.importorskip("transformers")
    if _has(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(SetupError, match=f"needs the package {package} .*pip install .cribble.llm"):
        HF(str(language_model("qwen2")), **options).open()


def _has(package: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(package) is not None


def save_adapter(folder, hidden: int = 32) -> None:
    """A LoRA adapter of rank 2 for the query projections, as peft saves it."""
    from safetensors.torch import save_file

    folder.mkdir()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": "tiny",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    torch.manual_seed(4)
    weights = {}
    for layer in range(3):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights |= {f"{name}.lora_A.weight": torch.randn(2, hidden), f"{name}.lora_B.weight": torch.randn(hidden, 2)}
    save_file(weights, folder / "adapter_model.safetensors")


def test_an_adapter_is_added_to_the_weights(language_model, tmp_path):
    """Oracle: the same products by hand. Without peft the pip line is shown."""
    save_adapter(tmp_path / "lora")
    backend = HF(str(language_model("llama")), adapter=str(tmp_path / "lora"))
    assert backend.identity()["adapter"] != ""
    if not _has("peft"):
        with pytest.raises(SetupError, match=r"adapter lora needs the package peft .*pip install .cribble\[llm\]"):
            backend.open()
        return
    from copy import deepcopy

    from safetensors.torch import load_file

    changed, weights = deepcopy(network("llama")), load_file(tmp_path / "lora" / "adapter_model.safetensors")
    for layer in range(3):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        changed.model.layers[layer].self_attn.q_proj.weight.data += (
            2 * weights[f"{name}.lora_B.weight"] @ weights[f"{name}.lora_A.weight"]
        )
    calls = pair_calls(passages(3), (" A", " B"))
    got = values_of(backend, calls)
    for row, call in zip(got, calls, strict=True):
        ids = torch.tensor([backend.tokens.ids(call.prompt).tolist()])
        expected = changed(ids).logits[0, -1, list(backend.tokens.label_ids(call.prompt, call.labels))]
        assert np.abs(row - expected.detach().numpy()).max() <= TOLERANCE
    assert np.abs(got - values_of(HF(str(language_model("llama"))), calls)).max() > 0.1


def test_adapters_that_are_none_are_refused(language_model, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no adapter_config\.json"):
        HF(str(language_model("llama")), adapter=str(tmp_path / "empty")).identity()
    (tmp_path / "empty" / "adapter_config.json").write_text("{}")
    (tmp_path / "empty" / "adapter_model.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="pickled weights only"):
        HF(str(language_model("llama")), adapter=str(tmp_path / "empty")).identity()


def test_the_identity_names_what_answers_depend_on(language_model, tmp_path):
    folder = language_model("qwen2")
    plain = HF(str(folder)).identity()
    assert plain["model"] == "qwen2"
    assert len(plain["weights"]) == 64
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages[0].content }}")
    save_adapter(tmp_path / "lora")
    others = [
        HF(str(folder), dtype="bfloat16"),
        HF(str(folder), quantise="4bit"),
        HF(str(folder), adapter=str(tmp_path / "lora")),
        HF(str(folder), chat_template=str(template)),
        HF(str(language_model("qwen3"))),
    ]
    seen = [tuple(backend.identity().items()) for backend in others]
    assert len({tuple(plain.items()), *seen}) == len(others) + 1
    assert HF(str(folder), token_budget=64, share_prefix=False, device="cpu").identity() == plain


def test_code_of_a_checkpoint_is_not_run_unasked(language_model, tmp_path):
    folder = shutil.copytree(language_model("llama"), tmp_path / "coded")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own_kind", "auto_map": {"AutoConfig": "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="brings its own code"):
        HF(str(folder)).open()


def test_two_backends_of_one_model_share_it(language_model):
    """Its hooks are on it once: the second reader changes nothing for the first."""
    folder = str(language_model("qwen3"))
    first, second = HF(folder), HF(folder, token_budget=50)
    calls = pair_calls(passages(3), (" A", " B"))
    before = values_of(first, calls)
    assert second.answers.model.model is first.answers.model.model
    assert np.abs(values_of(second, calls) - before).max() <= TOLERANCE
    assert (values_of(first, calls) == before).all()


def test_weights_that_are_not_numbers_are_named(tmp_path, language_model):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(language_model("llama"), tmp_path / "broken")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"broken answers with .*nan.*check its dtype"):
        list(HF(str(folder)).answer(pair_calls(passages(2), (" A", " B"))))


def test_an_encoder_decoder_has_no_attention_to_read(language_model):
    with pytest.raises(UsageError, match="t5 is an encoder–decoder"):
        list(HF(str(language_model("t5"))).answer([AttentionCall("", ("a",), "", "q", "")]))


def test_every_model_has_been_tried():
    assert {*PACKED, *PLAIN, "wordy", "t5"} == set(MODELS)


def test_calls_of_several_kinds_keep_their_places(language_model):
    backend = HF(str(language_model("qwen2")))
    prompt = Prompt(text="the cat. Answer:")
    calls = [LikelihoodCall(prompt, (" A",)), LabelCall(prompt, (" A",)), LikelihoodCall(prompt, (" B", " A"))]
    replies = dict(backend.answer(calls))
    assert [len(replies[i].values) for i in range(3)] == [1, 1, 2]
    assert replies[0].values[0] == pytest.approx(replies[2].values[1], abs=1e-5)
