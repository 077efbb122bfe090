"""A checkpoint's tokenizer: prompts as token ids, label tokens, lengths and cuts. Loads no weights."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, UsageError
from .attention_spans import spans_of
from .calls import AttentionCall, Message, Prompt
from .checkpoint import find_folder

#: Prompts whose token ids are kept: those of the shrink loop, of the count and of the run are the same.
_KEPT_PROMPTS = 2048
#: Characters before a label that decide how it is cut into tokens: no token that a vocabulary has is longer.
_CONTEXT = 96
_PROBE = "a"


class HFTokens:
    """The `Tokens` of a checkpoint, by `AutoTokenizer` over a local folder or a Hub name. Making one is free.

    `max_length` is a limit below the number of positions in the configuration. `chat_template` is a file with another
    template than the tokenizer's own. In an encoder–decoder the prompt's `tail` belongs to the decoder.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        revision: str | None = None,
        trust_remote_code: bool = False,
        max_length: int | None = None,
        chat_template: str | None = None,
    ) -> None:
        self.model, self.revision, self.trust_remote_code = model, revision, trust_remote_code
        self.max_length, self.chat_template = max_length, chat_template
        if max_length is not None and max_length < 1:
            raise UsageError(f"max_length={max_length}: expected at least 1 token")
        self._kept: OrderedDict[Prompt, np.ndarray] = OrderedDict()
        self._labels: dict[tuple[str, tuple[str, ...]], tuple[int, ...]] = {}

    # ---- what is loaded ----------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The folder's name or the Hub's."""
        path = Path(self.model).expanduser()
        return path.resolve().name if path.is_dir() else os.fspath(self.model)

    @cached_property
    def folder(self) -> Path:
        return find_folder(self.model, revision=self.revision, trust_remote_code=self.trust_remote_code)

    @cached_property
    def config(self) -> Any:
        """The model's configuration, of its text part where it has several."""
        from transformers import AutoConfig

        folder = str(self.folder)
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=self.trust_remote_code)
        except (ValueError, OSError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"the configuration of {self.name} can't be read ({reason})") from error
        return config if config.is_encoder_decoder else config.get_text_config()

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        folder = str(self.folder)
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=self.trust_remote_code
            )
        except Exception as error:  # almost any class, by the kind of tokenizer
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"the tokenizer of {self.name} can't be loaded ({type(error).__name__}: {reason}): a folder needs "
                "tokenizer.json, or the vocabulary files that its tokenizer_config.json speaks of"
            ) from error
        if self.chat_template is not None:
            tokenizer.chat_template = _read_template(self.chat_template)
        return tokenizer

    @property
    def encoder_decoder(self) -> bool:
        return bool(self.config.is_encoder_decoder)

    @cached_property
    def limit(self) -> int | None:
        """Tokens that prompt and answer may have together: `max_length`, else the positions of the configuration."""
        positions = getattr(self.config, "max_position_embeddings", None)
        positions = positions if isinstance(positions, int) and positions > 0 else None
        if self.max_length is not None and positions is not None and self.max_length > positions:
            raise UsageError(
                f"max_length={self.max_length}: {self.name} has {positions} positions; use at most that, or leave it out"
            )
        return self.max_length or positions

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what decides how a prompt is cut into tokens, in 16 hex digits: files and chat template."""
        digest = hashlib.sha256(str(self.tokenizer.chat_template).encode())
        for name in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model"):
            if (self.folder / name).is_file():
                digest.update(name.encode() + (self.folder / name).read_bytes())
        return digest.hexdigest()[:16]

    # ---- the protocol ------------------------------------------------------------------------------------------------

    def count(self, prompt: Prompt) -> int:
        """Tokens of the prompt with its chat template, tail and special tokens; of encoder and decoder together."""
        if self.encoder_decoder:
            return sum(map(len, self.encoder_ids(prompt))) + len(self.encode(prompt.tail))
        return len(self.ids(prompt))

    def count_attention(self, call: AttentionCall) -> int:
        """Tokens with the query, and those after the passages with the null query: the passages are read once."""
        asked, null = (spans_of(call, self, query) for query in (call.query, call.null_query))
        return len(asked.ids) + len(null.ids) - asked.passages_end

    def length(self, text: str) -> int:
        """Tokens of a bare text."""
        return len(self.encode(text))

    def cut(self, text: str, tokens: int) -> str:
        """The beginning of `text` that has at most `tokens` tokens: a piece of the text itself, with whole characters."""
        if tokens <= 0:
            return ""
        offsets = self.offsets(text) if self.tokenizer.is_fast else None
        if offsets is None:
            ids = self.encode(text)
            return text if len(ids) <= tokens else str(self.decode(ids[:tokens]))
        if len(offsets) <= tokens:
            return text
        # A character of several tokens (emoji in byte-level vocabularies) is kept whole or not at all.
        return text[: min(offsets[tokens - 1][1], offsets[tokens][0])].rstrip()

    def check_labels(self, prompt: Prompt, labels: Sequence[str]) -> None:
        """Raise `InputError` unless each label is one token of its own after this prompt."""
        self.label_ids(prompt, labels)

    # ---- token ids ---------------------------------------------------------------------------------------------------

    def encode(self, text: str) -> list[int]:
        """Token ids of a bare text: no special tokens, nothing cut, nothing padded."""
        ids: list[int] = self._tokenise(text)["input_ids"]
        return ids

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts in one go."""
        ids: list[list[int]] = self._tokenise(list(texts))["input_ids"] if texts else []
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens, white space as it is."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def offsets(self, text: str) -> list[tuple[int, int]] | None:
        """For each token of a bare text its characters [start, end); None where this tokenizer does not know."""
        if not self.tokenizer.is_fast:
            return None
        offsets: list[tuple[int, int]] = self._tokenise(text, return_offsets_mapping=True)["offset_mapping"]
        return offsets

    def ids(self, prompt: Prompt) -> np.ndarray:
        """Token ids (n,) int32 of a prompt for a causal model, its tail included."""
        return self.ids_of([prompt])[0]

    def ids_of(self, prompts: Sequence[Prompt]) -> list[np.ndarray]:
        """`ids` of many prompts, tokenised in one go; those asked for lately are remembered."""
        found = {prompt: self._kept[prompt] for prompt in prompts if prompt in self._kept}
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in found]
        if missing:
            texts = [self.rendered(prompt) + prompt.tail for prompt in missing]
            for prompt, bare in zip(missing, self._tokenise(texts)["input_ids"], strict=True):
                found[prompt] = np.asarray(self._with_start(prompt, bare), np.int32)
        for prompt in dict.fromkeys(prompts):
            self._kept[prompt] = found[prompt]
            self._kept.move_to_end(prompt)
        while len(self._kept) > _KEPT_PROMPTS:
            self._kept.popitem(last=False)
        return [found[prompt] for prompt in prompts]

    def encoder_ids(self, prompt: Prompt) -> list[list[int]]:
        """What an encoder reads: the token ids of the prompt, or of each of its parts."""
        start, end = self.special_ids if prompt.special else ([], [])
        texts = list(prompt.parts) or [self.rendered(prompt)]
        return [start + ids + end for ids in self._tokenise(texts)["input_ids"]]

    def rendered(self, prompt: Prompt) -> str:
        """The prompt's text without its tail, through the chat template where it is made of messages."""
        return self.chat(prompt.messages, prompt.thinking, prompt.without_system) if prompt.messages else prompt.text

    def context(self, prompt: Prompt) -> str:
        """The end of what stands before an answer: enough to know how the answer is cut into tokens."""
        return prompt.tail if self.encoder_decoder else (self.rendered(prompt) + prompt.tail)[-_CONTEXT:]

    def label_ids(self, prompt: Prompt, labels: Sequence[str]) -> tuple[int, ...]:
        """The token that each label is after this prompt. Raises `InputError` for one that is not exactly one token
        there, and for two that are the same."""
        context = self.context(prompt)
        key = (context, tuple(labels))
        if key not in self._labels:
            if len(self._labels) > 4096:
                self._labels.clear()
            self._labels[key] = self._find_labels(context, labels)
        return self._labels[key]

    @cached_property
    def special_ids(self) -> tuple[list[int], list[int]]:
        """The ids that the tokenizer puts before and after a text by itself."""
        bare = self.encode(_PROBE)
        whole: list[int] = self.tokenizer(_PROBE, padding=False, truncation=False)["input_ids"]
        for start in range(len(whole) - len(bare) + 1):
            if whole[start : start + len(bare)] == bare:
                return whole[:start], whole[start + len(bare) :]
        return [], []

    def _with_start(self, prompt: Prompt, bare: list[int]) -> list[int]:
        """A causal model's prompt goes on, so that only what stands before a text is added (and not a second time)."""
        start = self.special_ids[0] if prompt.special and not prompt.messages else []
        return bare if bare[: len(start)] == start else start + bare

    def _tokenise(self, text: str | list[str], **options: Any) -> Any:
        return self.tokenizer(text, add_special_tokens=False, padding=False, truncation=False, verbose=False, **options)

    def _find_labels(self, context: str, labels: Sequence[str]) -> tuple[int, ...]:
        before = self.encode(context)
        found = []
        for label in labels:
            ids = self.encode(context + label)
            if len(ids) != len(before) + 1 or ids[:-1] != before:
                alone = self.tokenizer.convert_ids_to_tokens(self.encode(label))
                there = self.tokenizer.convert_ids_to_tokens(ids[max(0, len(before) - 2) :])
                raise InputError(
                    f"the label {label!r} is not one token after the prompt's end {context[-24:]!r} in the tokenizer of "
                    f"{self.name} (alone it is {alone}, there the text ends with {there}): choose other labels, or "
                    "a judge that generates"
                )
            found.append(ids[-1])
        unknown = getattr(self.tokenizer, "unk_token_id", None)
        for label, token in zip(labels, found, strict=True):
            if token == unknown or found.count(token) > 1:
                raise InputError(
                    f"the label {label!r} has no token of its own in the tokenizer of {self.name} (it is "
                    f"{self.tokenizer.convert_ids_to_tokens(token)!r}, like others): choose other labels"
                )
        return tuple(found)

    # ---- chat templates ----------------------------------------------------------------------------------------------

    def chat(self, messages: Sequence[Message], thinking: bool | None = None, without_system: str = "\n\n") -> str:
        """Messages through the chat template, with the prompt for the answer. The system text of a template that has no
        such role goes before the first user turn."""
        if not self.tokenizer.chat_template:
            raise UsageError(
                f"the tokenizer of {self.name} has no chat template, which a prompt of messages needs: use a template of "
                "plain text, or give the backend a chat_template file (the model's page shows the format it was trained on)"
            )
        turns = list(messages)
        if turns and turns[0].role == "system" and not self._takes_system:
            turns = _merged(turns, without_system)
        return self._rendered(turns, thinking)

    @cached_property
    def _takes_system(self) -> bool:
        """Whether the template shows a system text; some refuse the role, some drop it in silence."""
        mark = "system-text-7f3a"
        try:
            return mark in self._rendered([Message("system", mark), Message("user", "text")], None)
        except InputError:
            return False

    def _rendered(self, turns: Sequence[Message], thinking: bool | None) -> str:
        from jinja2 import TemplateError

        options = {} if thinking is None else {"enable_thinking": thinking}
        try:
            text: str = self.tokenizer.apply_chat_template(
                [turn._asdict() for turn in turns], tokenize=False, add_generation_prompt=True, **options
            )
        except TemplateError as error:
            roles = ", ".join(turn.role for turn in turns)
            raise InputError(f"the chat template of {self.name} refuses turns of {roles}: {error}") from error
        return text


def _merged(turns: list[Message], between: str) -> list[Message]:
    """The system text before that of the first user turn."""
    system, rest = turns[0], turns[1:]
    if not rest or rest[0].role != "user":
        return [Message("user", system.content), *rest]
    return [Message("user", system.content + between + rest[0].content), *rest[1:]]


def _read_template(path: str) -> str:
    file = Path(path).expanduser()
    if not file.is_file():
        raise UsageError(f"chat_template {path!r} is no file: expected one with a Jinja template")
    return file.read_text(encoding="utf-8")
