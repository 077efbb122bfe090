"""Language models in this process, by transformers: prompts share what they have in common, labels cost one pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...errors import UsageError
from ...registry import register
from ..calls import AttentionCall, Call, Failure, GenerateCall, LabelCall, LikelihoodCall, Reply
from ..runtime import check_dtype, check_token_budget, choose_device
from ..tokenizing import HFTokens
from . import Backend

if TYPE_CHECKING:
    from ..answering import CausalAnswers
    from ..checkpoint import Checkpoint
    from ..seq2seq_answering import Seq2SeqAnswers

#: Tokens of prompts and texts that are held while generating, as a multiple of the token budget.
_ROOM = {"cpu": 32, "cuda": 4}


@register("hf")
@dataclass
class HF(Backend):
    """A language model of transformers in this process, causal or encoder–decoder.

    `model` is a local folder or a Hub name, in `revision` (a branch, tag or commit of the Hub). `device` is auto, cpu,
    cuda or cuda:N, `dtype` float32, bfloat16 or float16. `max_length` is the most tokens that prompt and answer may
    have together, at most and by default what the model has positions for. `token_budget` is how many tokens are read
    in one pass (default: 512 on a CPU, 32768 on a GPU). `quantise` is 8bit or 4bit (package bitsandbytes), `adapter` a
    LoRA adapter's folder or Hub name (package peft), `device_map` auto spreads the model over all devices (package
    accelerate). `share_prefix` reads common beginnings of prompts once; off, every prompt is read whole through the
    model's own attention, with padding. `trust_remote_code` runs code that the checkpoint brings. `chat_template` is a
    file with another chat template than the tokenizer's.
    """

    model: str | None = None
    revision: str | None = None
    device: str = "auto"
    dtype: str = "float32"
    max_length: int | None = None
    token_budget: int | None = None
    quantise: str = ""
    adapter: str | None = None
    device_map: str = ""
    share_prefix: bool = True
    trust_remote_code: bool = False
    chat_template: str | None = None

    calls = (LabelCall, GenerateCall, LikelihoodCall, AttentionCall)

    def __post_init__(self) -> None:
        if not self.model:
            raise UsageError("the backend hf needs a model: a folder or a Hub name of a language model")
        self.dtype = check_dtype(self.dtype, self.device)
        if self.quantise not in ("", "8bit", "4bit"):
            raise UsageError(f"quantise={self.quantise!r} is unknown: expected 8bit or 4bit, or nothing")
        if self.device_map not in ("", "auto"):
            raise UsageError(f"device_map={self.device_map!r} is unknown: expected auto, or nothing for one device")
        if self.device_map and self.device != "auto":
            raise UsageError(f"device={self.device!r} with device_map='auto': one of both decides where the model is")
        if self.token_budget is not None:
            check_token_budget(self.token_budget, "cpu")

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

    @cached_property
    def answers(self) -> CausalAnswers | Seq2SeqAnswers:
        """The loaded model behind the calls."""
        from ..language_model import load_language_model

        device = choose_device(self.device)
        dtype = check_dtype(self.dtype, device)
        _ = self.tokens.limit  # checks max_length
        model = load_language_model(
            self.checkpoint,
            device=device,
            dtype=dtype,
            quantise=self.quantise,
            adapter=self._adapter[0] if self._adapter else None,
            device_map=self.device_map,
            trust_remote_code=self.trust_remote_code,
        )
        return self._answers(model, check_token_budget(self.token_budget, device), _ROOM[device.partition(":")[0]])

    def open(self) -> None:
        _ = self.answers

    def identity(self) -> dict[str, str]:
        return {
            "model": self.checkpoint.name,
            "revision": self.revision or "",
            "weights": self.checkpoint.digest,
            "tokens": self.tokens.digest,
            "dtype": self.dtype,
            "quantise": self.quantise,
            "adapter": self._adapter[1] if self._adapter else "",
        }

    def answer(self, calls: Sequence[Call]) -> Iterator[tuple[int, Reply | Failure]]:
        for call in calls:
            self.check(call)
        answers: Any = self.answers
        kinds = {
            LabelCall: answers.labels,
            GenerateCall: answers.generate,
            LikelihoodCall: answers.likelihood,
            AttentionCall: answers.attention,
        }
        for kind, answer in kinds.items():
            asked = [(position, call) for position, call in enumerate(calls) if isinstance(call, kind)]
            if asked:
                yield from answer(asked)

    @cached_property
    def _adapter(self) -> tuple[Any, str] | None:
        """The adapter's folder and the digest of its weights."""
        from ..language_model import find_adapter

        return find_adapter(self.adapter, self.trust_remote_code) if self.adapter else None

    def _answers(self, model: Any, budget: int, room: int) -> CausalAnswers | Seq2SeqAnswers:
        if self.tokens.encoder_decoder:
            from ..seq2seq import Seq2SeqModel
            from ..seq2seq_answering import Seq2SeqAnswers

            return Seq2SeqAnswers(Seq2SeqModel(self.checkpoint.name, model, budget), self.tokens)
        from ..answering import CausalAnswers
        from ..causal import CausalModel

        exact = self.dtype == "float32" and not self.quantise
        causal = CausalModel(self.checkpoint.name, model, budget, exact=exact, share_prefix=self.share_prefix)
        return CausalAnswers(causal, self.tokens, room * budget)
