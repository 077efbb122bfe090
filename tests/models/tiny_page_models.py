"""Tiny random late-interaction models of page images: transformers' retrievers (ColQwen2, ColPali) and one that
sentence-transformers saved, with a chat template and a projection (Idefics3, as ColSmol is)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_WORDS = ["the cat dog fish river house Question: Query: Describe the image. user"] * 3
_LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}

#: Rows and columns of a picture that is split, as Idefics3 names them.
_PARTS = [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]
_TEMPLATE = (
    "{% for message in messages %}{{ '<start>' + message['role'] + ':' }}"
    "{% for part in message['content'] %}{{ '<image>' if part['type'] == 'image' else part['text'] }}{% endfor %}"
    "{{ '<end>' }}{% endfor %}{% if task == 'query' %}{{ '<end>' * 10 }}{% endif %}"
)


def _tokenizer(special: list[str], **roles: str) -> Any:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=letters, show_progress=False)
    tokenizer.train_from_iterator(_WORDS, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


def save_colqwen2(folder: Path) -> Path:
    """A ColQwen2: 12 dimensions, pictures of up to 32 × 32 pixels in patches of 4, four of which make a token."""
    import torch
    import transformers

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
    tokenizer = _tokenizer([*special, "<|video_pad|>"], eos_token="<|im_end|>", pad_token="<|endoftext|>")
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    text = _LAYERS | {"vocab_size": len(tokenizer), "num_key_value_heads": 2, "rope_parameters": rope}
    text |= {"max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 4, "mlp_ratio": 2}
    seeing = transformers.Qwen2VLConfig(
        text_config=text,
        vision_config=vision | {"spatial_merge_size": 2, "temporal_patch_size": 2},
        vision_start_token_id=3,
        vision_end_token_id=4,
        image_token_id=5,
        video_token_id=6,
    )
    torch.manual_seed(5)
    config = transformers.ColQwen2Config(vlm_config=seeing.to_dict(), embedding_dim=12)
    transformers.ColQwen2ForRetrieval(config).save_pretrained(folder)
    size = {"shortest_edge": 16 * 16, "longest_edge": 32 * 32}
    images = transformers.Qwen2VLImageProcessor(patch_size=4, merge_size=2, temporal_patch_size=2, size=size)
    transformers.ColQwen2Processor(image_processor=images, tokenizer=tokenizer).save_pretrained(folder)
    return folder


def save_colpali(folder: Path) -> Path:
    """A ColPali: 12 dimensions, pictures of 32 × 32 pixels, 16 tokens each."""
    import torch
    import transformers

    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<image>"]
    roles = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    images = transformers.SiglipImageProcessor(size={"height": 32, "width": 32})
    images.image_seq_length = 16
    processor = transformers.ColPaliProcessor(image_processor=images, tokenizer=_tokenizer(special, **roles))
    text = _LAYERS | {"model_type": "gemma", "vocab_size": len(processor.tokenizer), "head_dim": 8}
    text |= {"num_key_value_heads": 1, "max_position_embeddings": 512}
    text |= {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    vision = _LAYERS | {"model_type": "siglip_vision_model", "image_size": 32, "patch_size": 8, "projection_dim": 32}
    seeing = transformers.PaliGemmaConfig(
        text_config=text, vision_config=vision, image_token_index=4, projection_dim=32, hidden_size=32
    )
    torch.manual_seed(5)
    config = transformers.ColPaliConfig(vlm_config=seeing.to_dict(), embedding_dim=12)
    transformers.ColPaliForRetrieval(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_colidefics(folder: Path) -> Path:
    """An Idefics3 under a projection to 12 dimensions: pictures are split into parts of 32 × 32 pixels, 4 tokens each."""
    import torch
    import transformers
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    special = ["<pad>", "<start>", "<end>", "<image>", "<fake_token_around_image>", "<global-img>", *_PARTS]
    roles = {"bos_token": "<start>", "eos_token": "<end>", "pad_token": "<pad>", "unk_token": "<pad>"}
    images = transformers.Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32})
    processor = transformers.Idefics3Processor(
        image_processor=images, tokenizer=_tokenizer(special, **roles), image_seq_len=4, chat_template=_TEMPLATE
    )
    text = _LAYERS | {"model_type": "llama", "vocab_size": len(processor.tokenizer), "num_key_value_heads": 2}
    text |= {"max_position_embeddings": 1024, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    vision = _LAYERS | {"image_size": 32, "patch_size": 8}
    config = transformers.Idefics3Config(
        text_config=text, vision_config=vision, image_token_id=processor.image_token_id, scale_factor=2, pad_token_id=0
    )
    torch.manual_seed(5)
    backbone = folder.with_name(folder.name + "-backbone")
    transformers.Idefics3Model(config).save_pretrained(backbone)
    processor.save_pretrained(backbone)
    projection = Dense(32, 12, activation_function=torch.nn.Identity(), module_input_name="token_embeddings")
    modules = [
        Transformer(str(backbone)),
        projection,
        MultiVectorMask(),
        Normalize(module_input_name="token_embeddings"),
    ]
    MultiVectorEncoder(modules=modules, device="cpu").save_pretrained(str(folder))
    return folder
