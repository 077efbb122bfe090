"""Tiny random late-interaction checkpoints in the three formats that the Hub has: sentence-transformers', PyLate's, Stanford's."""

from __future__ import annotations

import json
import string
from pathlib import Path

from cribble.tests.models.conftest import save_backbone

#: Tokens that are no words of the trained tokenizer, as BERT has them for markers, and the mask that queries are filled with.
_ADDED = ["[unused0]", "[unused1]", "[MASK]", ".", ",", "?", "-"]


def backbone(folder: Path, kind: str = "bert") -> Path:
    """A random transformer whose tokenizer has markers, a mask and punctuation."""
    from transformers import AutoTokenizer

    save_backbone(folder, kind)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"mask_token": "[MASK]"})
    tokenizer.add_tokens([token for token in _ADDED if token not in tokenizer.get_vocab()])
    tokenizer.save_pretrained(folder)
    return folder


def save_sentence_transformers(folder: Path, kind: str = "bert", *, expansion: dict | None, **options) -> Path:
    """As sentence-transformers saves a MultiVectorEncoder."""
    import torch
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    first = Transformer(
        str(backbone(folder.with_name(folder.name + "-backbone"), kind)),
        document_length=options.pop("document_length", 40),
        query_length=options.pop("query_length", None),
        query_expansion=expansion,
    )
    torch.manual_seed(1)
    projection = Dense(
        32, 12, bias=False, activation_function=torch.nn.Identity(), module_input_name="token_embeddings"
    )
    mask = MultiVectorMask(skiplist_words=options.pop("skip", []))
    modules = [first, projection, mask, Normalize(module_input_name="token_embeddings")]
    MultiVectorEncoder(modules=modules, device="cpu", **options).save_pretrained(str(folder))
    return folder


def save_pylate(folder: Path, *, attend: bool = False) -> Path:
    """As PyLate up to 3 saves a ColBERT: two modules, one of its own name, and the rest in a configuration."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModel, AutoTokenizer

    source = backbone(folder.with_name(folder.name + "-backbone"))
    AutoModel.from_pretrained(source).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    (folder / "1_Dense").mkdir()
    dense = {
        "in_features": 32,
        "out_features": 12,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    (folder / "1_Dense" / "config.json").write_text(json.dumps(dense))
    generator = torch.Generator().manual_seed(2)
    save_file({"linear.weight": torch.randn(12, 32, generator=generator)}, folder / "1_Dense" / "model.safetensors")
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 39, "do_lower_case": False}))
    config = {
        "prompts": {},
        "model_type": "ColBERT",
        "query_prefix": "[unused0] ",
        "document_prefix": "[unused1] ",
        "query_length": 16,
        "document_length": 40,
        "attend_to_expansion_tokens": attend,
        "do_query_expansion": True,
        "skiplist_words": list(string.punctuation),
        "similarity_fn_name": "MaxSim",
    }
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config))
    return folder


def save_stanford(folder: Path, *, attend: bool = False, metadata: bool = True) -> Path:
    """As Stanford's ColBERT saves a checkpoint: the projection among the weights, the rest in `artifact.metadata`."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModel, AutoTokenizer

    source = backbone(folder.with_name(folder.name + "-backbone"))
    AutoModel.from_pretrained(source).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    weights = {f"bert.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
    weights["linear.weight"] = torch.randn(12, 32, generator=torch.Generator().manual_seed(3))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["HF_ColBERT"]}))
    if metadata:
        about = {
            "query_token_id": "[unused0]",
            "doc_token_id": "[unused1]",
            "query_maxlen": 16,
            "doc_maxlen": 40,
            "mask_punctuation": True,
            "attend_to_mask_tokens": attend,
        }
        (folder / "artifact.metadata").write_text(json.dumps(about))
    return folder
