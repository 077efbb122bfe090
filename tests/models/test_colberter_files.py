"""ColBERTer's checkpoints: saved and loaded equal, published layouts, whatever does not fit named and refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from cribble.errors import InputError, SetupError, UsageError
from cribble.models.colberter import ColberterEncoder
from cribble.records import Document
from cribble.tests.models.tiny_colberter import PASSAGES, QUERY, save_backbone, save_colberter

DOCUMENTS = [Document(str(i), text) for i, text in enumerate(PASSAGES)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folders dim32 and dim16 by name."""
    root = tmp_path_factory.mktemp("colberter")
    folders = {"dim32": save_colberter(root / "dim32"), "dim16": save_colberter(root / "dim16", second=16)}
    return folders.__getitem__


def plain(saved):
    return ColberterEncoder(saved("dim32"), device="cpu")


def test_what_is_saved_loads_equal_and_alone(saved, tmp_path):
    own = ColberterEncoder(saved("dim16"), device="cpu", words="stem")
    own.save(tmp_path / "mine")
    assert {p.name for p in (tmp_path / "mine").iterdir()} == {"config.json", "model.safetensors", "backbone"}
    config = json.loads((tmp_path / "mine" / "config.json").read_text())
    config["bert_model"] = "not-to-be-had/at-all"
    (tmp_path / "mine" / "config.json").write_text(json.dumps(config))
    again = ColberterEncoder(tmp_path / "mine", device="cpu")
    assert again.words == "stem"
    one, two = own.encode_documents(DOCUMENTS), again.encode_documents(DOCUMENTS)
    assert np.array_equal(one.cls, two.cls)
    assert np.array_equal(one.bags.tokens, two.bags.tokens)
    assert np.array_equal(one.words, two.words)
    with pytest.raises(UsageError, match="something is here already"):
        own.save(tmp_path / "mine")


def test_pickled_weights_are_read_as_tensors_only(tmp_path, saved):
    import torch

    folder = save_colberter(tmp_path / "pickled", pickled=True)
    pickled = ColberterEncoder(folder, device="cpu")
    assert np.array_equal(pickled.encode_queries([QUERY]).cls, plain(saved).encode_queries([QUERY]).cls)
    assert len(pickled.spec.revision) == 64
    torch.save({"score_merger": print}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"the weights of the model pickled can't be read \(UnpicklingError"):
        ColberterEncoder(folder, device="cpu").encode_queries([QUERY])


def changed(tmp_path, saved, change, config=None):
    """A copy of the checkpoint with other weights and configuration."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "changed"
    shutil.copytree(saved("dim16"), folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    if config is not None:
        written = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(written | config))
    return ColberterEncoder(folder, device="cpu")


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        (
            lambda w: w.pop("mini_compressor.bias"),
            None,
            r"lacks weights that its network needs \(mini_compressor\.bias\)",
        ),
        (
            lambda w: w.update(odd=w["score_merger"].clone()),
            None,
            r"has weights that its network does not know \(odd\)",
        ),
        (None, {"second_compress_dim": 8}, r"mini_compressor\.(bias|weight) has shape .*, expected \(8"),
        (None, {"second_compress_dim": -1}, r"does not know \(mini_compressor\.bias, mini_compressor\.weight\)"),
        (None, {"compression_dim": "32"}, "config.json has compression_dim='32', expected a value such as -1"),
        (None, {"compression_dim": -1}, "has second_compress_dim without compression_dim"),
        (None, {"words": "lemma"}, "config.json has words 'lemma', expected surface or stem"),
        (None, {"bert_model": ""}, "names no bert_model: give its backbone"),
    ],
)
def test_weights_and_configurations_that_do_not_fit_are_named(tmp_path, saved, change, config, message):
    with pytest.raises(InputError, match=message):
        changed(tmp_path, saved, change or (lambda w: None), config).encode_queries([QUERY])


def test_weights_that_are_not_numbers_are_refused(tmp_path, saved):
    broken = changed(tmp_path, saved, lambda w: w["compressor_retrieval.bias"].fill_(float("nan")))
    with pytest.raises(InputError, match="gives NaN or infinity"):
        broken.encode_queries([QUERY])


def test_a_folder_that_is_no_colberter_is_refused_by_name(tmp_path, saved):
    """Its authors' ColBERT has the same `model_type`, and fields in common."""
    plain = save_backbone(tmp_path / "plain")
    with pytest.raises(InputError, match="the model plain is no ColBERTer model"):
        _ = ColberterEncoder(plain).spec
    config = {"model_type": "ColBERT", "architectures": ["ColBERT"], "bert_model": str(plain), "compression_dim": 768}
    (plain / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="use the late retriever"):
        _ = ColberterEncoder(plain).spec
    (tmp_path / "weightless").mkdir()
    shutil.copy(saved("dim32") / "config.json", tmp_path / "weightless")
    with pytest.raises(InputError, match=r"neither \*\.safetensors nor pytorch_model\.bin"):
        _ = ColberterEncoder(tmp_path / "weightless").spec
    with pytest.raises(UsageError, match="does not exist"):
        _ = ColberterEncoder("/no/such/folder").spec


def test_a_backbone_that_moved_is_given(tmp_path, saved):
    moved = tmp_path / "moved"
    shutil.copytree(saved("dim32"), moved)
    config = json.loads((moved / "config.json").read_text())
    backbone = config["bert_model"]
    (moved / "config.json").write_text(json.dumps(config | {"bert_model": "/gone/away"}))
    with pytest.raises(SetupError, match=r"configuration and the tokenizer of /gone/away .* give a folder"):
        _ = ColberterEncoder(moved).spec
    given = ColberterEncoder(moved, device="cpu", backbone=backbone)
    assert np.array_equal(given.encode_queries([QUERY]).cls, plain(saved).encode_queries([QUERY]).cls)
    elsewhere = shutil.copytree(backbone, tmp_path / "elsewhere")
    again = ColberterEncoder.of_spec(given.spec, moved, device="cpu", backbone=str(elsewhere))
    assert again.spec == given.spec
