"""What is sent to an OpenAI-compatible server for each kind of call, and how its answers become replies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import CribbleError, UsageError
from .calls import Failure, GenerateCall, LabelCall, LikelihoodCall, Prompt, Reply, Tokens, Usage
from .choosing import Choosing
from .http_json import Unanswered
from .openai_shapes import (
    Dialect,
    body,
    choice_of,
    echoed_logprob,
    label_options,
    label_values,
    text_of,
    top_logprobs,
    usage_of,
)
from .tokenizing import HFTokens

#: Stop strings that the official server takes; the others are cut off here.
_STOPS_AT_MOST = 4
#: A beginning of at most so many characters can be left to the model to write.
_WRITTEN_AT_MOST = 8

#: Sends a body, gives the server's answer.
Send = Callable[[dict[str, Any]], dict[str, Any]]
#: One call's work, done in a thread: the reply, and what the server says that it cost, if it does.
Job = Callable[[Send], tuple[Reply, Usage | None]]


@dataclass(frozen=True)
class Jobs:
    """Makes jobs of calls. `top` next tokens are asked for where labels are read; `guided` is the field of a body that
    takes choices, None where the server has none."""

    dialect: Dialect
    tokens: Tokens
    top: int
    guided: str | None

    def job(self, call: LabelCall | GenerateCall | LikelihoodCall) -> Job:
        """The call's work. Its bodies are made here and now: tokenizers are not made for several threads."""
        if isinstance(call, LikelihoodCall):
            return self._likelihood_job(call)
        text = self._rendered(call.prompt) if self.dialect.api == "completions" else ""
        if isinstance(call, LabelCall):
            return self._label_job(call, text)
        return self._choices_job(call, text) if call.constrained else self._text_job(call, text)

    def estimate(self, call: LabelCall | GenerateCall | LikelihoodCall) -> Usage:
        """What the call may cost at most."""
        prompt = self.tokens.count(call.prompt)
        if isinstance(call, LikelihoodCall):
            return Usage(sum(prompt + self.tokens.length(target) for target in call.targets), 0, len(call.targets))
        if isinstance(call, GenerateCall) and call.constrained:
            whole = self.tokens.length(call.separator.join(call.choices))
            return Usage(len(call.choices) * (prompt + whole), 0, whole)
        return Usage(prompt, 0, self._max_tokens(call) if isinstance(call, GenerateCall) else 1)

    def _rendered(self, prompt: Prompt) -> str:
        """The prompt as text, with its tail, for the completions API."""
        if prompt.parts:
            raise UsageError("openai: passages that are encoded apart (Fusion-in-Decoder) need the backend hf")
        if isinstance(self.tokens, HFTokens):
            return self.tokens.rendered(prompt) + prompt.tail
        if prompt.messages:
            raise UsageError(
                "openai: api=completions needs the model's tokenizer to render a chat: set tokenizer to its folder or Hub "
                "name, or api=chat"
            )
        return prompt.text + prompt.tail

    def _written(self, prompt: Prompt) -> str:
        """The beginning that the model is trusted to write."""
        written = prompt.tail if self.dialect.api == "chat" and self.dialect.prefill == "written" else ""
        if len(written) > _WRITTEN_AT_MOST:
            raise UsageError(f"openai: prefill=written can't be trusted with a beginning as long as {written!r}")
        return written

    def _label_job(self, call: LabelCall, text: str) -> Job:
        ids = self.tokens.label_ids(call.prompt, call.labels) if isinstance(self.tokens, HFTokens) else None
        written = self._written(call.prompt)
        options = label_options(self.dialect, self.top, None if written else ids)
        content = body(self.dialect, call.prompt, text, 1 + len(written), options)

        def job(send: Send) -> tuple[Reply, Usage | None]:
            answer = send(content)
            return _reading(lambda: _labels_read(answer, call.labels, ids, written)), usage_of(answer)

        return job

    def _text_job(self, call: GenerateCall, text: str) -> Job:
        written = self._written(call.prompt)
        stops = call.stop if self.dialect.vllm else call.stop[:_STOPS_AT_MOST]
        options: dict[str, Any] = {"stop": list(stops)} if stops else {}
        if call.temperature:
            options |= {"temperature": call.temperature, "seed": call.seed}
        most = self._max_tokens(call)
        if call.exactly_as_long_as and self.dialect.vllm:
            options["min_tokens"] = most
        content = body(self.dialect, call.prompt, text, most + len(written), options)

        def job(send: Send) -> tuple[Reply, Usage | None]:
            answer = send(content)
            return _reading(lambda: _text_read(answer, call.stop, written)), usage_of(answer)

        return job

    def _choices_job(self, call: GenerateCall, text: str) -> Job:
        """One id after the other, each chosen among those that are left."""
        guided = self.guided
        if guided is None:
            raise UsageError(
                "openai: constrained answers need a server that takes choices: set the backend's server=vllm or guided, or "
                "constrained=false"
            )

        def asked(choosing: Choosing) -> dict[str, Any]:
            options = choosing.options
            choices = {"choice": options} if guided == "structured_outputs" else options
            most = max(map(len, options)) + 1
            return body(self.dialect, choosing.prompt, text + choosing.said, most, {guided: choices})

        def job(send: Send) -> tuple[Reply, Usage | None]:
            choosing, costs_told = Choosing(call), True
            while choosing.options:
                answer = send(asked(choosing))
                cost = usage_of(answer)
                costs_told = costs_told and cost is not None
                choosing.choose(_reading(lambda: text_of(choice_of(answer))[0]), cost or Usage())  # noqa: B023
            reply = choosing.reply
            if isinstance(reply, Failure):
                raise Unanswered(reply.reason)
            return reply, reply.usage if costs_told else None

        return job

    def _likelihood_job(self, call: LikelihoodCall) -> Job:
        tokens = self.tokens
        if self.dialect.api != "completions" or not self.dialect.vllm or not isinstance(tokens, HFTokens):
            raise UsageError(
                "openai: likelihoods are read from a prompt that the server repeats: set the backend's api=completions, "
                "server=vllm and tokenizer, or use the backend hf or vllm"
            )
        prompt = tokens.ids(call.prompt).tolist()
        targets = [tokens.encode(target) for target in call.targets]
        shape: dict[str, Any] = {
            "model": self.dialect.model,
            "max_tokens": 0,
            "echo": True,
            "logprobs": 1,
            "temperature": 0.0,
        }
        shape = {name: value for name, value in (shape | dict(self.dialect.extra)).items() if value is not None}
        contents = [shape | {"prompt": prompt + target} for target in targets]

        def job(send: Send) -> tuple[Reply, Usage | None]:
            answers = [send(content) for content in contents]
            values = _reading(
                lambda: [
                    echoed_logprob(choice_of(answer), len(prompt), len(target))
                    for answer, target in zip(answers, targets, strict=True)
                ]
            )
            costs = [usage_of(answer) or Usage() for answer in answers]
            return Reply(values=tuple(values)), Usage(*map(sum, zip(*costs, strict=True)))

        return job

    def _max_tokens(self, call: GenerateCall) -> int:
        return self.tokens.length(call.exactly_as_long_as) if call.exactly_as_long_as else call.max_tokens


# ---- reading --------------------------------------------------------------------------------------------------------


def _reading(read: Callable[[], Any]) -> Any:
    """What `read` makes of an answer; one of an unknown form is no answer."""
    try:
        return read()
    except CribbleError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Unanswered(f"the server's answer has an unknown form ({type(error).__name__}: {error})") from error


def _labels_read(answer: Mapping[str, Any], labels: Sequence[str], ids: Sequence[int] | None, written: str) -> Reply:
    choice = choice_of(answer)
    candidates = top_logprobs(choice, written)
    return Reply(values=label_values(candidates, labels, ids))


def _text_read(answer: Mapping[str, Any], stops: Sequence[str], written: str) -> Reply:
    text, finish = text_of(choice_of(answer))
    if written and text.lstrip().startswith(written):
        text = text.lstrip().removeprefix(written)
    cuts = [text.find(stop) for stop in stops if stop in text]
    return Reply(text=text[: min(cuts)] if cuts else text, finish="stop" if cuts else finish)
