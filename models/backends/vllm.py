"""Language models in this process by vLLM's offline engine, with its prefix cache (extra `vllm`; needs a GPU).

Written against vLLM's documented API and its sources from 0.11 on; this project's own tests have no GPU for it and run
the conversions only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...errors import UsageError, require, suggest
from ...registry import register
from ..calls import Call, Failure, GenerateCall, LabelCall, LikelihoodCall, Reply, Usage
from ..choosing import Choosing
from ..tokenizing import HFTokens
from . import Backend

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint

#: Calls that are handed to the engine together; their answers are kept when all of them are there.
_AT_ONCE = 512
_DTYPES = ("auto", "float32", "bfloat16", "float16")


@register("vllm")
@dataclass
class VLLM(Backend):
    """A causal language model in this process by vLLM: continuous batches, a prefix cache, several GPUs.

    `model` is a local folder or a Hub name, in `revision`. `dtype` is auto, float32, bfloat16 or float16,
    `quantization` a method that vLLM knows. `max_length` is the most tokens that prompt and answer may have together.
    The model is spread over `tensor_parallel_size` GPUs and takes the share `gpu_memory_utilization` of their memory.
    `trust_remote_code` runs code that the checkpoint brings. `chat_template` is a file with another chat template than
    the tokenizer's. `engine` are further arguments of vllm.LLM.
    """

    model: str | None = None
    revision: str | None = None
    dtype: str = "auto"
    quantization: str | None = None
    max_length: int | None = None
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    trust_remote_code: bool = False
    chat_template: str | None = None
    engine: Mapping[str, Any] | None = None

    calls = (LabelCall, GenerateCall, LikelihoodCall)

    def __post_init__(self) -> None:
        if not self.model:
            raise UsageError("the backend vllm needs a model: a folder or a Hub name of a language model")
        if self.dtype not in _DTYPES:
            raise UsageError(f"vllm: dtype is {self.dtype!r}: {suggest(self.dtype, _DTYPES)}")
        if self.tensor_parallel_size < 1:
            raise UsageError(
                f"vllm: tensor_parallel_size is {self.tensor_parallel_size}, expected a number of GPUs >= 1"
            )
        if not 0 < self.gpu_memory_utilization <= 1:
            raise UsageError(
                f"vllm: gpu_memory_utilization is {self.gpu_memory_utilization}, expected a share above 0 and up to 1"
            )

    @cached_property
    def tokens(self) -> HFTokens:
        return HFTokens(
            self.model or "",
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
            max_length=self.max_length,
            chat_template=self.chat_template,
        )

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The model's files, found or downloaded, their weights hashed."""
        from ..checkpoint import find_checkpoint

        return find_checkpoint(
            self.model, revision=self.revision, trust_remote_code=self.trust_remote_code, organisation=""
        )

    def identity(self) -> dict[str, str]:
        return {
            "backend": "vllm",
            "model": self.checkpoint.name,
            "revision": self.revision or "",
            "weights": self.checkpoint.digest,
            "tokens": self.tokens.digest,
            "dtype": self.dtype,
            "quantization": self.quantization or "",
            "engine": json.dumps(dict(self.engine or {}), sort_keys=True, default=str),
        }

    @cached_property
    def _llm(self) -> Any:
        vllm = require("vllm", "the backend vllm")
        if self.tokens.encoder_decoder:
            raise UsageError(
                f"vllm: {self.checkpoint.name} is an encoder-decoder, which vLLM does not run: use backend hf"
            )
        arguments: dict[str, Any] = {
            "model": str(self.checkpoint.folder),
            "dtype": self.dtype,
            "quantization": self.quantization,
            "max_model_len": self.tokens.limit,
            "tensor_parallel_size": self.tensor_parallel_size,
            "gpu_memory_utilization": self.gpu_memory_utilization,
            "trust_remote_code": self.trust_remote_code,
            "enable_prefix_caching": True,
            "load_format": "safetensors",
            "seed": 0,
            # By default log-probabilities are taken before `allowed_token_ids` apply, and labels beyond the best 20 lack.
            "logprobs_mode": "processed_logprobs",
            "max_logprobs": -1,
        }
        return vllm.LLM(**(arguments | dict(self.engine or {})))

    def open(self) -> None:
        _ = self._llm

    # ---- answering --------------------------------------------------------------------------------------------------

    def answer(self, calls: Sequence[Call]) -> Iterator[tuple[int, Reply | Failure]]:
        for call in calls:
            self.check(call)
        for start in range(0, len(calls), _AT_ONCE):
            fitting: dict[type, list[tuple[int, Any]]] = {}
            for position, call in enumerate(calls[start : start + _AT_ONCE], start):
                if failure := self._too_long(call):
                    yield position, failure
                else:
                    kind = type(call) if not getattr(call, "constrained", False) else Constrained
                    fitting.setdefault(kind, []).append((position, call))
            for kind, answer in self._answers.items():
                places = [position for position, _ in fitting.get(kind, [])]
                yield from zip(places, answer([call for _, call in fitting.get(kind, [])]), strict=True)

    @property
    def _answers(self) -> dict[type, Any]:
        return {
            LabelCall: self._labels,
            GenerateCall: self._texts,
            Constrained: self._constrained,
            LikelihoodCall: self._likelihoods,
        }

    def _too_long(self, call: Any) -> Failure | None:
        """vLLM refuses a whole batch for one prompt that is too long."""
        new = 1
        if isinstance(call, GenerateCall):
            new = self._most(call)
        elif isinstance(call, LikelihoodCall):
            new += max(map(self.tokens.length, call.targets), default=0)
        whole, limit = self.tokens.count(call.prompt) + new, self.tokens.limit
        if limit is None or whole <= limit:
            return None
        return Failure(
            f"prompt and answer may have {whole} tokens, the model takes {limit}: raise max_length or shorten"
        )

    def _most(self, call: GenerateCall) -> int:
        if call.constrained:
            return self.tokens.length(call.separator.join(call.choices[: call.top]))
        return self.tokens.length(call.exactly_as_long_as) if call.exactly_as_long_as else call.max_tokens

    def _generate(self, prompts: Sequence[Sequence[int]], options: Sequence[dict[str, Any]]) -> list[Any]:
        """vLLM's outputs for token ids, in their order; greedy unless the options say otherwise."""
        vllm = require("vllm", "the backend vllm")
        inputs = [vllm.TokensPrompt(prompt_token_ids=list(ids)) for ids in prompts]
        parameters = [vllm.SamplingParams(**({"temperature": 0.0} | option)) for option in options]
        return list(self._llm.generate(inputs, parameters, use_tqdm=False)) if inputs else []

    def _prompts(self, calls: Sequence[Any]) -> list[list[int]]:
        return [ids.tolist() for ids in self.tokens.ids_of([call.prompt for call in calls])]

    def _labels(self, calls: Sequence[LabelCall]) -> list[Reply]:
        labels = [self.tokens.label_ids(call.prompt, call.labels) for call in calls]
        options = [{"max_tokens": 1, "logprobs": len(ids), "allowed_token_ids": list(ids)} for ids in labels]
        outputs = self._generate(self._prompts(calls), options)
        return [
            Reply(_usage(output), label_values(_plain(output.outputs[0].logprobs[0]), ids))
            for output, ids in zip(outputs, labels, strict=True)
        ]

    def _texts(self, calls: Sequence[GenerateCall]) -> list[Reply]:
        options = []
        for call in calls:
            option: dict[str, Any] = {"max_tokens": self._most(call), "stop": list(call.stop) or None}
            if call.exactly_as_long_as:
                option["min_tokens"] = option["max_tokens"]
            if call.temperature:
                option |= {"temperature": call.temperature, "seed": call.seed}
            options.append(option)
        outputs = self._generate(self._prompts(calls), options)
        return [
            Reply(_usage(output), text=output.outputs[0].text, finish=finish_of(output.outputs[0].finish_reason))
            for output in outputs
        ]

    def _constrained(self, calls: Sequence[GenerateCall]) -> list[Reply | Failure]:
        """One id after the other, of all calls at a time, each chosen among those that are left."""
        from importlib import import_module

        structured = import_module("vllm.sampling_params").StructuredOutputsParams
        texts = [Choosing(call) for call in calls]
        while open_texts := [text for text in texts if text.options]:
            prompts = [text.prompt for text in open_texts]
            options = [
                {
                    "max_tokens": max(map(self.tokens.length, text.options)) + 2,
                    "structured_outputs": structured(choice=text.options),
                }
                for text in open_texts
            ]
            outputs = self._generate([ids.tolist() for ids in self.tokens.ids_of(prompts)], options)
            for text, output in zip(open_texts, outputs, strict=True):
                text.choose(output.outputs[0].text, _usage(output))
        return [text.reply for text in texts]

    def _likelihoods(self, calls: Sequence[LikelihoodCall]) -> list[Reply]:
        prompts, lengths = [], []
        for call, ids in zip(calls, self._prompts(calls), strict=True):
            for target in map(self.tokens.encode, call.targets):
                prompts.append(ids + target)
                lengths.append(len(target))
        outputs = self._generate(prompts, [{"max_tokens": 1, "prompt_logprobs": 0}] * len(prompts))
        values = [
            target_logprob([_plain(step) for step in output.prompt_logprobs], ids, length)
            for output, ids, length in zip(outputs, prompts, lengths, strict=True)
        ]
        replies, row = [], 0
        for call in calls:
            rows = slice(row, row := row + len(call.targets))
            costs = [_usage(output) for output in outputs[rows]]
            replies.append(Reply(Usage(*map(sum, zip(*costs, strict=True))), tuple(values[rows])))
        return replies


class Constrained:
    """The key of constrained calls among the kinds."""


# ---- vLLM's outputs as plain values -------------------------------------------------------------------------------------


def label_values(step: Mapping[int, float], ids: Sequence[int]) -> tuple[float, ...]:
    """The log-probabilities of the labels' tokens among themselves; nan for one that the engine left out."""
    return tuple(step.get(token, math.nan) for token in ids)


def target_logprob(steps: Sequence[Mapping[int, float]], ids: Sequence[int], target: int) -> float:
    """The sum of the log-probabilities of the last `target` tokens of `ids`, each from its step."""
    first = len(ids) - target
    return float(sum(step[token] for step, token in zip(steps[first:], ids[first:], strict=True)))


def finish_of(reason: str | None) -> str:
    return "length" if reason == "length" else "stop"


def _plain(step: Mapping[int, Any] | None) -> dict[int, float]:
    """Token id → log-probability; the first token of a prompt has none."""
    return {token: float(entry.logprob) for token, entry in (step or {}).items()}


def _usage(output: Any) -> Usage:
    return Usage(len(output.prompt_token_ids), output.num_cached_tokens or 0, len(output.outputs[0].token_ids))
