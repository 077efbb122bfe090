"""Tiny language models with random weights and tokenizers trained on the spot, in the shapes that rerankers have."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .conftest import WORDS

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
#: As Gemma's and the first Mistral's: turns alternate and there is no system role.
NO_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
#: As some converted templates: a system turn is left out in silence.
DROPS_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}</s>{% endif %}{% endfor %}"
)

_TEXTS = [
    *(" ".join(WORDS[i:] + WORDS[:i]) for i in range(len(WORDS))),
    *(
        f"[{a}] > [{b}] Passage {a}: the Passage {b}. [1] > [2] > [10] yes no true false"
        for a in "ABCDE"
        for b in "FGH"
    ),
    " ".join(str(i) for i in range(130)),
    "Query: Document: Relevant: , A B C D E F G H I J K L M N O P Q R S T U V W [INST] [/INST] system user assistant",
]


def train_tokenizer(folder: Path, kind: str, chat_template: str | None) -> None:
    """`bytes`: byte-level BPE as Qwen's. `pieces`: Unigram with `▁` and a BOS as Llama's. `t5`: Unigram that ends with
    </s>. `words`: WordPiece."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    if kind == "bytes":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=560, special_tokens=special, initial_alphabet=alphabet)
        tokenizer.train_from_iterator(_TEXTS, trainer)
        names = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    elif kind == "words":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
        tokenizer.train_from_iterator(_TEXTS, trainers.WordPieceTrainer(vocab_size=500, special_tokens=special))
        names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "eos_token": "[SEP]"}
    else:
        special = ["<pad>", "</s>", "<unk>"] if kind == "t5" else ["<unk>", "<s>", "</s>"]
        letters = [chr(code) for code in range(33, 127)] + ["▁", "\n", "é", "ü"]
        words = sorted({"▁" + word for text in _TEXTS for word in text.split() if word.isalnum()})
        vocabulary = [(token, 0.0) for token in special] + [(c, -9.0) for c in letters] + [(w, -4.0) for w in words]
        tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=special.index("<unk>")))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        tokenizer.add_special_tokens(special)
        marks = [(mark, tokenizer.token_to_id(mark)) for mark in ("</s>", "<s>") if mark in special]
        single = "$A </s>" if kind == "t5" else "<s> $A"
        tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=marks)
        names = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>" if kind == "t5" else "</s>"}
        names |= {} if kind == "t5" else {"bos_token": "<s>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.chat_template = chat_template
    fast.save_pretrained(folder)


#: Name of a model → its tokenizer and chat template.
MODELS: dict[str, tuple[str, str | None]] = {
    "llama": ("pieces", CHATML),
    "mistral": ("pieces", NO_SYSTEM),
    "qwen2": ("bytes", CHATML),
    "qwen3": ("bytes", CHATML),
    "gemma2": ("pieces", NO_SYSTEM),
    "gemma3": ("pieces", NO_SYSTEM),
    "gpt2": ("bytes", None),
    "wordy": ("words", None),
    "mamba": ("bytes", CHATML),
    "bloom": ("bytes", CHATML),
    "t5": ("t5", None),
}


@cache
def _network(kind: str) -> Any:
    import torch
    import transformers as t

    torch.manual_seed(11)
    shape = {"vocab_size": 600, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
    grouped = {**shape, "num_key_value_heads": 2, "intermediate_size": 48, "max_position_embeddings": 512}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    if kind in ("llama", "wordy"):
        model = t.LlamaForCausalLM(t.LlamaConfig(**grouped, **ends))
    elif kind == "mistral":
        model = t.MistralForCausalLM(t.MistralConfig(**grouped, **ends, sliding_window=20))
    elif kind == "qwen2":
        model = t.Qwen2ForCausalLM(t.Qwen2Config(**grouped, eos_token_id=2, tie_word_embeddings=True))
    elif kind == "qwen3":
        model = t.Qwen3ForCausalLM(t.Qwen3Config(**grouped, eos_token_id=2, head_dim=8))
    elif kind == "gemma2":
        model = t.Gemma2ForCausalLM(t.Gemma2Config(**grouped, **ends, head_dim=8, sliding_window=20))
    elif kind == "gemma3":
        layers = ["sliding_attention", "full_attention", "sliding_attention"]
        model = t.Gemma3ForCausalLM(
            t.Gemma3TextConfig(**grouped, **ends, head_dim=8, sliding_window=20, layer_types=layers)
        )
    elif kind == "gpt2":
        model = t.GPT2LMHeadModel(t.GPT2Config(vocab_size=600, n_embd=32, n_layer=3, n_head=4, n_positions=512, **ends))
    elif kind == "mamba":
        config = t.MambaConfig(
            vocab_size=600, hidden_size=32, num_hidden_layers=2, state_size=8, eos_token_id=2, pad_token_id=0
        )
        model = t.MambaForCausalLM(config)
    elif kind == "bloom":
        model = t.BloomForCausalLM(t.BloomConfig(vocab_size=600, hidden_size=32, n_layer=2, n_head=4, **ends))
    else:
        config = t.T5Config(
            vocab_size=600, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0
        )
        model = t.T5ForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():  # larger than usual, so that different texts differ visibly
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    return model.eval()


def network(kind: str) -> Any:
    """The model itself, the oracle: it is not the one that a backend loads."""
    return _network(kind)


def save_language_model(folder: Path, kind: str) -> Path:
    """A checkpoint folder of `kind`, one of MODELS."""
    train_tokenizer(folder, *MODELS[kind])
    _network(kind).save_pretrained(folder)
    return folder


def own_logits(kind: str, ids: np.ndarray | list[int]) -> np.ndarray:
    """(n, V) logits of the model for one sequence, without batches, padding or caches."""
    import torch

    with torch.inference_mode():
        return _network(kind)(torch.tensor([[int(i) for i in ids]]), use_cache=False).logits[0].float().numpy()
