"""The vllm backend without vLLM: what it says then, and its conversions over plain values."""

import importlib.util
import math
from types import SimpleNamespace

import pytest
from cribble.errors import InputError, SetupError, UsageError
from cribble.models.backends import make_backend
from cribble.models.backends import vllm as module
from cribble.models.backends.vllm import VLLM, finish_of, label_values, target_logprob
from cribble.models.calls import Failure, GenerateCall, Prompt, Reply, Usage
from cribble.models.choosing import Choosing
from cribble.tests.models.conftest import save_backbone


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(save_backbone(tmp_path_factory.mktemp("vllm") / "qwen3", "qwen3"))


def test_without_the_package_it_says_how_to_install_it(folder):
    if importlib.util.find_spec("vllm"):
        pytest.skip("vLLM is installed here")
    with pytest.raises(SetupError, match=r'the backend vllm needs the package vllm .*pip install "cribble\[vllm\]"'):
        make_backend("vllm", folder).open()


def test_the_identity_needs_no_engine_and_tells_what_an_answer_depends_on(folder, tmp_path):
    plain = make_backend("vllm", folder).identity()
    assert (plain["backend"], plain["model"]) == ("vllm", "qwen3")
    assert all(isinstance(value, str) for value in plain.values())
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages[0].content }}")
    changes = {"dtype": "bfloat16", "quantization": "fp8", "engine": {"seed": 3}, "chat_template": str(template)}
    for name, value in changes.items():
        assert VLLM(folder, **{name: value}).identity() != plain, name
    assert VLLM(folder, gpu_memory_utilization=0.5).identity() == plain


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"model": None}, "needs a model"),
        ({"dtype": "float8"}, "dtype is 'float8'"),
        ({"tensor_parallel_size": 0}, "tensor_parallel_size is 0"),
        ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization is 1.5"),
        ({"engin": {}}, "did you mean 'engine'"),
    ],
)
def test_wrong_options(options, match):
    with pytest.raises(UsageError, match=match):
        make_backend({"use": "vllm", "model": "m"} | options, None)


def test_a_folder_without_safetensors_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="safetensors"):
        VLLM(str(tmp_path)).identity()


def test_labels_and_targets():
    values = label_values({7: -0.5, 9: -2.0}, [9, 7, 8])
    assert values[:2] == (-2.0, -0.5)
    assert math.isnan(values[2])
    steps = [{}, {11: -1.0, 5: -0.1}, {12: -2.0}, {13: -4.0, 6: -0.2}]
    assert target_logprob(steps, [10, 11, 12, 13], 2) == -6.0
    assert target_logprob(steps, [10, 11, 12, 13], 3) == -7.0
    assert target_logprob(steps, [10, 11, 12, 13], 0) == 0.0
    assert [finish_of(reason) for reason in ("length", "stop", None)] == ["length", "stop", "stop"]


def test_the_engines_objects_become_plain():
    assert module._plain({3: SimpleNamespace(logprob=-1.5, rank=1)}) == {3: -1.5}
    assert module._plain(None) == {}
    output = SimpleNamespace(
        prompt_token_ids=[1, 2, 3], num_cached_tokens=None, outputs=[SimpleNamespace(token_ids=(4, 5))]
    )
    assert module._usage(output) == Usage(3, 0, 2)


def test_a_constrained_answer_is_chosen_step_by_step():
    call = GenerateCall(Prompt(text="x", tail="["), choices=("[1]", "[2]", "[3]"), constrained=True)
    text = Choosing(call)
    assert text.options == ["1]", "2]", "3]"]
    text.choose("2]", Usage(5, 0, 2))
    assert text.prompt.tail == "[2]"
    assert text.options == [" > [1]", " > [3]"]
    text.choose(" > [3]", Usage(8, 5, 3))
    assert text.options == []
    assert text.reply == Reply(Usage(13, 5, 5), text="2] > [3] > [1]")
    best = Choosing(GenerateCall(Prompt(text="x"), choices=("[1]", "[2]"), constrained=True, top=1))
    best.choose("[2]", Usage(1, 0, 1))
    assert best.reply.text == "[2]"
    alone = Choosing(GenerateCall(Prompt(text="x"), choices=("[1]",), constrained=True))
    assert (alone.options, alone.reply.text) == ([], "[1]")
    wrong = Choosing(call)
    wrong.choose("4]", Usage(1, 0, 1))
    assert isinstance(wrong.reply, Failure)
    assert wrong.options == []
