"""The models, texts and plain loops that `bench_rerank` measures with: random weights, a tokenizer trained on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
QUERY = "what are the effects of exercise on heart rate"
#: Multiplications of the decoder's layers a token; twice that are its floating point operations.
DECODER_WEIGHTS = 8 * (2 * 512 * 512 + 2 * 512 * 128 + 3 * 512 * 1408)


def save_decoder(folder: Path, texts: Sequence[str]) -> Path:
    """A Qwen2 of 38 M parameters (8 layers, 512 wide, 8 heads of which 2 for keys, 1408 in between, 30,000 tokens)."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=30_000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(
        [*texts, *(f" yes no Passage {c}: {c} [{c}]" for c in "ABCDEFGHIJKLMNOPQRST")], trainer
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHATML
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=30_000,
        hidden_size=512,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=2,
        intermediate_size=1408,
        max_position_embeddings=32768,
        tie_word_embeddings=True,
        eos_token_id=2,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


class Plain:
    """The loop that one writes with transformers: batches as they come, padded on the left, the head for the last token."""

    def __init__(self, folder: Path, tokens: Any) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        self.torch, self.tokens = torch, tokens
        self.model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
        self.computed = 0

    def labels(self, calls: Sequence[Any], batch: int) -> np.ndarray:
        """Logits (n, labels) of LabelCalls."""
        rows = []
        for start in range(0, len(calls), batch):
            part = calls[start : start + batch]
            ids, mask = self._padded([self.tokens.ids(call.prompt) for call in part])
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            with self.torch.inference_mode():
                logits = self.model(
                    input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=1, use_cache=False
                )
            self.computed += ids.numel()
            for row, call in enumerate(part):
                rows.append(logits.logits[row, -1, list(self.tokens.label_ids(call.prompt, call.labels))].numpy())
        return np.asarray(rows)

    def generate(self, prompt: Any, new: int) -> str:
        """Exactly `new` tokens after one prompt, greedily."""
        ids, mask = self._padded([self.tokens.ids(prompt)])
        with self.torch.inference_mode():
            out = self.model.generate(
                ids, attention_mask=mask, max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0
            )
        self.computed += ids.numel() + new
        text: str = self.tokens.decode(out[0, ids.shape[1] :].tolist())
        return text

    def _padded(self, rows: Sequence[np.ndarray]) -> tuple[Any, Any]:
        width = max(map(len, rows))
        ids, mask = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.int64)
        for i, row in enumerate(rows):
            ids[i, width - len(row) :], mask[i, width - len(row) :] = row, 1
        return self.torch.from_numpy(ids), self.torch.from_numpy(mask)


def product_rate(torch: Any, rows: int = 512) -> float:
    """GFLOP/s of this thread in a float32 product (rows, 512) · (512, 1408), by processor time: the ceiling."""
    import time

    x, w = torch.randn(rows, 512), torch.randn(1408, 512)
    best = 0.0
    for _ in range(5):
        start, count = time.process_time(), 40
        for _ in range(count):
            torch.nn.functional.linear(x, w)
        best = max(best, count * 2 * rows * 512 * 1408 / (time.process_time() - start) / 1e9)
    return best
