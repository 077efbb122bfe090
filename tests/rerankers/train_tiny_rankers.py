"""Makes `tiny_rankers/causal` and `tiny_rankers/t5`: language models of 0.5 MB that really order passages.

    OMP_NUM_THREADS=1 python -m cribble.tests.rerankers.train_tiny_rankers [causal|t5] [--steps N] [--out FOLDER]

Each is trained on the judges' own prompts about the world of `synthetic_lists`. A shipped prompt that changes makes the
models worse or useless at it: run this again then. The models here were trained in several goes, about 45 minutes of one
core:

    causal --steps 5000 --out 1;  causal --steps 2000 --rate 4e-3 --start 1 --out 2
    causal --steps 1500 --rate 4e-3 --start 2
    t5 --steps 2000 --out 1;  t5 --steps 1500 --rate 4e-3 --start 1

Seeds are fixed; other library versions or threads change the weights.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from cribble.models.attention_spans import spans_of
from cribble.models.calls import AttentionCall
from cribble.models.tokenizing import HFTokens
from cribble.rerankers.template import Template
from cribble.tests.rerankers.synthetic_lists import GRADES, TOPICS, item
from cribble.tests.rerankers.tiny_ranker_examples import CAUSAL, ENCODER_DECODER, Example, Task, Teacher, softmax
from torch import Tensor

FOLDER = Path(__file__).parent / "tiny_rankers"
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TAGS = ("<think>", "</think>", "<answer>", "</answer>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
WIDTH, HEADS, LAYERS = 64, 4, 4
#: What a list of 12 is ranked by where nothing else is asked for: `first` and `monot5`.
CAUSAL_CARD = "judge: {use: first}\nstrategy: {use: sliding, window: 12, stride: 6}\nwindow: 12\nlicence: Apache-2.0\n"
T5_CARD = "judge: {use: monot5}\nstrategy: {use: pointwise}\nlicence: Apache-2.0\n"
BATCH = 32


# ---- tokenizers -----------------------------------------------------------------------------------------------------


def save_tokenizer(folder: Path, templates: Sequence[Template], *, encoder_decoder: bool) -> int:
    """Byte-level BPE trained on the world, in which the templates' phrases are single tokens: prompts of 80 tokens
    instead of 250, so that training takes minutes. Returns the size of the vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<unk>", "<extra_id_10>"] if encoder_decoder else list(SPECIAL)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1200, min_frequency=20, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    pieces = {piece for template in templates for piece in phrases_of(template)}
    phrases = sorted(piece for piece in pieces if " " in piece.strip())
    tokenizer.train_from_iterator(_texts() + 20 * sorted(pieces - set(phrases)), trainer)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (*TAGS, *phrases)])
    if encoder_decoder:
        end = ("</s>", tokenizer.token_to_id("</s>"))
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[end])
    names = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    causal = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "padding_side": "left", "chat_template": CHAT}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **(names if encoder_decoder else causal))
    fast.save_pretrained(folder)
    return len(fast)


def _texts() -> list[str]:
    """The world, names of documents, and the words that models answer with."""
    chance = random.Random(0)
    letters, numbers = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", range(1, 31)
    texts = []
    for _ in range(2000):
        drawn = item(chance, 4)
        texts += [drawn.query, f" {drawn.query}", *drawn.passages, f' "{drawn.passages[0]}"\n']
    for _ in range(20):
        texts += ["".join(f" {letter}" for letter in letters), "".join(f"[{letter}] > " for letter in letters)]
        texts += [
            "".join(f" {number}" for number in numbers),
            "".join(f"[{number}] > " for number in numbers),
            "Document0: Document1:",
        ]
        texts += ["system\nuser\nassistant\n", " true false yes no", "true", "false", "yes", "no", "Yes", "No"]
    return texts


def phrases_of(template: Template) -> set[str]:
    """What a template says between its places, lines and tags: phrases, with the blank before them, and words."""
    turns = [turn for each in template.turns for turn in each.get("each", [each])]
    texts = [template.text, template.parts, template.passage, template.query_form, template.instruction or ""]
    texts += [template.tail, *(text for turn in turns for text in turn.values())]
    pieces = (piece for text in texts for piece in re.split(r"\{[a-z]+\}|\n|<[^<>]*>", text))
    found = (re.search(r" ?[A-Za-z].*\S| ?[A-Za-z]", piece) for piece in pieces)
    return {piece[0] for piece in found if piece}


# ---- models ---------------------------------------------------------------------------------------------------------


def new_model(vocabulary: int, *, encoder_decoder: bool) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

    size = -(-vocabulary // 16) * 16
    if encoder_decoder:
        config = T5Config(
            vocab_size=size, d_model=WIDTH, d_kv=WIDTH // HEADS, d_ff=2 * WIDTH, num_layers=2, num_heads=HEADS,
            dropout_rate=0.0, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, n_positions=4096,
        )  # fmt: skip
        return T5ForConditionalGeneration(config)
    config = LlamaConfig(
        vocab_size=size, hidden_size=WIDTH, intermediate_size=2 * WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=16384,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=SPECIAL.index("<|im_end|>"), pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


@torch.no_grad()
def warm_start(model: Any, tokens: HFTokens) -> None:
    """Begin where a larger training would soon be: a topic's plural is its singular turned, words of one grade are alike,
    and in a causal model two heads look from a topic to its plural and back; the others look at what is like themselves,
    and copy it. In an encoder a head looks for the nearest name before each token, and copies it."""
    embeddings = model.get_input_embeddings().weight
    scale = 1.0 if tokens.encoder_decoder else 0.3
    embeddings.normal_(0, scale)
    turn, _ = torch.linalg.qr(torch.randn(WIDTH, WIDTH))
    better = torch.randn(WIDTH) * scale
    for topic in TOPICS:
        singular, plural = (tokens.encode(f" {word}")[0] for word in (topic, f"{topic}s"))
        embeddings[plural] = embeddings[singular] @ turn.T
    for grade, words in enumerate(GRADES):
        for word in words:
            (token,) = tokens.encode(f" {word}")
            embeddings[token] = 0.6 * embeddings[token] + 0.8 * (grade - 2) / 1.4 * better
    if tokens.encoder_decoder:
        _look_for_names(model, tokens)
        return
    for layer in model.model.layers:
        attention = layer.self_attn
        attention.q_proj.weight.normal_(0, WIDTH**-0.5)
        attention.k_proj.weight.copy_(attention.q_proj.weight)
        turned, _ = torch.linalg.qr(torch.randn(WIDTH, WIDTH))
        attention.v_proj.weight.copy_(0.5 * turned)
        attention.o_proj.weight.copy_(0.5 * turned.T)
    first = model.model.layers[0].self_attn
    size = WIDTH // HEADS
    for head, (asks, answers) in enumerate(((torch.eye(WIDTH), turn.T), (turn.T, torch.eye(WIDTH)))):
        look = torch.randn(size, WIDTH) * 0.22
        # Rotary positions turn the first dimensions of each half fast, so that far tokens could not be found by them.
        look[[0, 1, 2, size // 2, size // 2 + 1, size // 2 + 2]] = 0
        rows = slice(head * size, (head + 1) * size)
        first.q_proj.weight[rows], first.k_proj.weight[rows] = look @ asks, look @ answers


@torch.no_grad()
def _look_for_names(model: Any, tokens: HFTokens) -> None:
    """All embeddings are alike in dimension 0, names in dimension 1 as well: the first head asks with the one for the
    other, nearer ones first, and none that come later."""
    names = [tokens.encode(f" {letter}") for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    names += [tokens.encode(str(number)) for number in range(31)]
    embeddings = model.get_input_embeddings().weight
    embeddings[:, 0], embeddings[:, 1] = 3.0, 0.0
    embeddings[[ids[0] for ids in names if len(ids) == 1], 1] = 3.0
    attention = model.encoder.block[0].layer[0].SelfAttention
    size = WIDTH // HEADS
    for weight, asked in ((attention.q.weight, 0), (attention.k.weight, 1)):
        weight[:size] = 0.0
        weight[0, asked] = 2.0
    copied, _ = torch.linalg.qr(torch.randn(WIDTH, size))
    attention.v.weight[:size], attention.o.weight[:, :size] = copied.T, 1.5 * copied
    half = attention.relative_attention_num_buckets // 2
    attention.relative_attention_bias.weight[:half, 0] = -1.5 * torch.arange(half)
    attention.relative_attention_bias.weight[half:, 0] = -40.0


# ---- losses ---------------------------------------------------------------------------------------------------------


class Losses(NamedTuple):
    """`answer`: cross-entropy to the wished answers, less their entropy. `clue`: what the probes can't tell."""

    answer: Tensor
    clue: Tensor


def examples_loss(model: Any, probes: Probes, examples: Sequence[Example], *, encoder_decoder: bool) -> Losses:
    ids = _padded([example.ids for example in examples])
    if encoder_decoder:
        hidden, middle, firsts = _encoded(model, examples, ids)
    else:
        output = model.model(ids, output_hidden_states=True)
        hidden, middle = output.last_hidden_state, output.hidden_states[LAYERS - 1]
        firsts = list(range(len(examples)))
    places = [(row, place, wish) for row, example in enumerate(examples) for place, wish in example.wishes]
    states = hidden[[row for row, _, _ in places], [place for _, place, _ in places]]
    logits = (model.lm_head(states)).log_softmax(-1)
    wished = torch.zeros_like(logits)
    for i, (_, _, wish) in enumerate(places):
        wished[i, list(wish)] = torch.tensor(list(wish.values()), dtype=torch.float32)
    answer = (wished * (wished.clamp_min(1e-9).log() - logits)).sum(-1).mean()
    return Losses(answer, probes.loss(middle, firsts, examples))


class Probes(torch.nn.Module):
    """Tell relevance and name of a passage from the middle layers; the models are saved without them. A name is told by
    the model's own head, so that it only has to be copied to where it is answered."""

    def __init__(self, head: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.relevance, self.name = torch.nn.Linear(WIDTH, 1), head

    def loss(self, states: Tensor, firsts: Sequence[int], examples: Sequence[Example]) -> Tensor:
        """Of `states` (texts, ·, width), of which an example's own begin at `firsts`."""
        clues = [(firsts[row] + clue.text, clue) for row, example in enumerate(examples) for clue in example.clues]
        if not clues:
            return torch.zeros(())
        at = states[[text for text, _ in clues], [clue.place for _, clue in clues]]
        loss = F.mse_loss(self.relevance(at)[:, 0], torch.tensor([clue.relevance for _, clue in clues]))
        names = torch.tensor([clue.name for _, clue in clues])
        return loss + (0.2 * F.cross_entropy(self.name(at), names) if (names >= 0).all() else 0)


def _head(model: Any, *, encoder_decoder: bool) -> Callable[[Tensor], Tensor]:
    """From states of any layer to logits."""
    if encoder_decoder:
        return lambda states: model.lm_head(states * WIDTH**-0.5)
    return lambda states: model.lm_head(model.model.norm(states))


def _encoded(model: Any, examples: Sequence[Example], ids: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """Decoder states, scaled for the tied head; encoder states (texts, ·, ·); each example's first text."""
    texts = [text for example in examples for text in example.texts]
    parts = len(examples[0].texts)
    read = _padded(texts)
    mask = _padded([[1] * len(text) for text in texts])
    middle = model.encoder(read, attention_mask=mask).last_hidden_state
    joined = middle.reshape(len(examples), -1, WIDTH)
    decoded = model.decoder(ids, encoder_hidden_states=joined, encoder_attention_mask=mask.reshape(len(examples), -1))
    states = decoded.last_hidden_state
    scaled = states * WIDTH**-0.5 if model.config.scale_decoder_outputs else states
    return scaled, middle, [i * parts for i in range(len(examples))]


def attention_loss(model: Any, teacher: Teacher, chance: random.Random, n: int, count: int) -> Losses:
    """Cross-entropy of the calibrated attention to the passages, as ICR scores them, to their relevance."""
    rows, spans, wishes = [], [], []
    for _ in range(count):
        drawn = item(chance, n)
        call = teacher.ask(drawn)
        assert isinstance(call, AttentionCall)
        assert call.request is not None
        asked, null = (spans_of(call, teacher.tokens, query) for query in (call.query, call.null_query))
        rows += [asked.ids.tolist(), null.ids.tolist()]
        spans += [asked, null]
        wishes.append(softmax([float(drawn.grades[int(document.id)]) for document in call.request.documents]))
    ids = _padded(rows)
    model.set_attn_implementation("eager")
    attentions = model.model(ids, output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    total = torch.stack([layer.sum(1) for layer in attentions]).sum(0)  # (rows, to, from)
    mean = torch.stack([total[row, slice(*span.query)].mean(0) for row, span in enumerate(spans)])
    calibrated = mean[0::2] - mean[1::2]
    scores = torch.stack(
        [torch.stack([calibrated[i, places].sum() for places in spans[2 * i].passages]) for i in range(count)]
    )
    wished = torch.tensor(wishes)
    answer = (wished * (wished.log() - (4 * scores).log_softmax(-1))).sum(-1).mean()
    return Losses(answer, torch.zeros(()))


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    padded = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.tensor(row)
    return padded


# ---- training -------------------------------------------------------------------------------------------------------


def train(
    folder: Path, tasks: Sequence[Task], steps: int, rate: float, *, start: Path | None, encoder_decoder: bool
) -> None:
    from transformers import logging

    logging.set_verbosity_error()
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    templates = [Teacher(task, None).judge.shown for task in tasks]  # type: ignore[arg-type,attr-defined]
    model = new_model(
        save_tokenizer(folder, templates, encoder_decoder=encoder_decoder), encoder_decoder=encoder_decoder
    )
    model.config.save_pretrained(folder)
    tokens = HFTokens(folder)
    if start:
        model.load_state_dict(type(model).from_pretrained(start, dtype=torch.float32).state_dict())
    else:
        warm_start(model, tokens)
    probes = Probes(_head(model, encoder_decoder=encoder_decoder))
    parameters = [*model.parameters(), *probes.relevance.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    teachers = [Teacher(task, tokens) for task in tasks]
    chance, seen = random.Random(1), defaultdict(list)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 100) * (1 - step / steps)
        (teacher,) = chance.choices(teachers, [task.share for task in tasks])
        task = teacher.task
        # Short lists first; a model that goes on has seen long ones.
        most = task.most if start else min(task.most, 4 + int(16 * step / steps))
        n = chance.randint(task.least, max(task.least, most))
        if task.judge["use"] == "icr":
            losses = attention_loss(model, teacher, chance, n, BATCH // 4)
        else:
            examples = [teacher.example(chance, n) for _ in range(BATCH)]
            losses = examples_loss(model, probes, examples, encoder_decoder=encoder_decoder)
        optimizer.zero_grad()
        (losses.answer + losses.clue).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        seen[" ".join(map(str, task.judge.values()))].append((losses.answer.item(), losses.clue.item()))
        if step % 200 == 199 or step == steps - 1:
            _tell(step + 1, seen)
    model.half().save_pretrained(folder)
    (folder / "cribble.yaml").write_text(T5_CARD if encoder_decoder else CAUSAL_CARD)
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes for the owner alone


def _tell(step: int, seen: dict[str, list[tuple[float, float]]]) -> None:
    print(f"step {step}, {time.process_time():.0f} CPU seconds")  # noqa: T201
    for name, losses in seen.items():
        answer, clue = (sum(values) / len(values) for values in zip(*losses[-20:], strict=True))
        print(f"    {name:32} {answer:.3f}  {clue:.3f}", flush=True)  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["causal", "t5"])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--rate", type=float, default=8e-3)
    parser.add_argument("--start", type=Path, help="folder of models to go on with")
    parser.add_argument("--out", type=Path, default=FOLDER)
    options = parser.parse_args()
    for name in options.models:
        tasks = CAUSAL if name == "causal" else ENCODER_DECODER
        start = options.start / name if options.start else None
        train(options.out / name, tasks, options.steps, options.rate, start=start, encoder_decoder=name == "t5")


if __name__ == "__main__":
    main()
