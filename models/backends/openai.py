"""Any OpenAI-compatible server: OpenAI, vLLM, SGLang, llama.cpp, Ollama and the many that speak their JSON."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from threading import Event
from typing import Any, cast
from urllib.parse import urlsplit

from ...errors import SetupError, UsageError, suggest
from ...registry import register
from ..budget import Budget
from ..calls import Call, Failure, GenerateCall, LabelCall, LikelihoodCall, Reply, Tokens, Usage
from ..http_json import OFFICIAL, Endpoint, Unanswered, key_of
from ..openai_jobs import Jobs
from ..openai_shapes import PREFILLS, Dialect
from ..rough_tokens import RoughTokens
from ..tokenizing import HFTokens
from ..workers import Workers
from . import Backend

_log = logging.getLogger("cribble")

#: Calls one after another without an answer, at least, before the server counts as broken.
_SILENT_CALLS = 4

Asked = LabelCall | GenerateCall | LikelihoodCall


@register("openai")
@dataclass
class OpenAI(Backend):
    """An OpenAI-compatible server: chat and completions, retries, a concurrency limit, a budget; the key from the environment.

    `model` is the server's name of it. `url` ends in /v1; the variable OPENAI_BASE_URL or OpenAI's by default. The key
    is read from the variable that `key_variable` names and never shown. `api` is chat, or completions for prompts of
    plain text and for exact chat rendering by `tokenizer`, a model's folder or Hub name; without one, token counts are
    rough. `max_length` is the most tokens that prompt and answer have together.

    `server` vllm allows what the official API lacks: answers that begin already, least lengths, choices, exact label
    tokens (with a `tokenizer`) and likelihoods. `prefill` says how a chat's answer is begun: continue (vLLM, SGLang),
    prefix (DeepSeek, Mistral), assistant (llama.cpp and others that go on from a last assistant turn), or written (the
    model is trusted to write the beginning itself). `guided` is the field of the body that takes choices:
    structured_outputs, or guided_choice of older vLLM. `system_role` False puts the system text before the first user
    turn. `top_logprobs` next tokens are asked for where labels are read. `extra` are further fields of every body; None
    leaves one out.

    `concurrency` requests run at a time, each tried `retries` times more after `timeout_seconds` without an answer, 429,
    5xx or a broken one, with waits that grow from `backoff_seconds` or are the server's. No request is sent that would
    exceed `max_total_tokens`, or `max_cost` at `price_in` and `price_out` per million tokens.
    """

    model: str | None = None
    url: str | None = None
    api: str = "chat"
    server: str = "openai"
    key_variable: str = "OPENAI_API_KEY"
    tokenizer: str | None = None
    max_length: int | None = None
    top_logprobs: int = 20
    prefill: str | None = None
    guided: str | None = None
    system_role: bool = True
    extra: Mapping[str, Any] | None = None
    concurrency: int = 8
    timeout_seconds: float = 120.0
    retries: int = 5
    backoff_seconds: float = 1.0
    max_total_tokens: int | None = None
    max_cost: float | None = None
    price_in: float | None = None
    price_out: float | None = None

    calls = (LabelCall, GenerateCall, LikelihoodCall)

    def __post_init__(self) -> None:
        if not self.model:
            raise UsageError("openai: no model is named: add model=NAME, what the server calls it")
        _one_of("api", self.api, ("chat", "completions"))
        _one_of("server", self.server, ("openai", "vllm"))
        _one_of("prefill", self.prefill, (None, *PREFILLS, "written"))
        _one_of("guided", self.guided, (None, "structured_outputs", "guided_choice"))
        for name, least in (("concurrency", 1), ("retries", 0), ("top_logprobs", 1), ("max_length", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"openai: {name} is {value}, expected at least {least}")
        for name in ("timeout_seconds", "max_total_tokens", "max_cost"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise UsageError(f"openai: {name} is {value}, expected more than 0")
        if not self.backoff_seconds >= 0:
            raise UsageError(f"openai: backoff_seconds is {self.backoff_seconds}, expected at least 0")
        self._check_money()
        _check_url(self.address)

    def _check_money(self) -> None:
        prices = (self.price_in, self.price_out)
        if any(price is not None and not price >= 0 for price in prices):
            raise UsageError(f"openai: price_in and price_out are {prices}, expected prices of a million tokens >= 0")
        if self.max_cost is not None and None in prices:
            raise UsageError("openai: max_cost needs price_in and price_out, the prices of a million tokens")
        if self.max_cost is None and prices != (None, None):
            raise UsageError("openai: price_in and price_out are for max_cost: set it, or leave them out")

    # ---- what it is -------------------------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        return (self.url or os.environ.get("OPENAI_BASE_URL") or OFFICIAL).rstrip("/")

    @cached_property
    def dialect(self) -> Dialect:
        official = urlsplit(self.address).hostname == urlsplit(OFFICIAL).hostname
        return Dialect(
            str(self.model),
            self.api,
            self.server,
            self.prefill or ("continue" if self.server == "vllm" else ""),
            self.system_role,
            "max_completion_tokens" if official else "max_tokens",
            self.extra or {},
        )

    @cached_property
    def tokens(self) -> Tokens:
        if self.tokenizer is None:
            return RoughTokens(self.max_length)
        return HFTokens(self.tokenizer, max_length=self.max_length)

    def identity(self) -> dict[str, str]:
        shown: dict[str, Any] = {"model": self.model, "url": self.address, "api": self.api, "server": self.server}
        shown |= {"prefill": self.dialect.prefill, "guided": self._guided, "system_role": self.system_role}
        shown |= {"top_logprobs": self.top_logprobs, "extra": json.dumps(self.extra or {}, sort_keys=True)}
        if isinstance(self.tokens, HFTokens):
            shown["tokenizer"] = self.tokens.digest
        return {"backend": "openai"} | {name: str(value) for name, value in shown.items()}

    @property
    def _guided(self) -> str | None:
        return self.guided or ("structured_outputs" if self.server == "vllm" else None)

    @cached_property
    def endpoint(self) -> Endpoint:
        return Endpoint(
            self.address,
            key=key_of(self.address, self.key_variable),
            key_variable=self.key_variable,
            timeout=self.timeout_seconds,
            retries=self.retries,
            backoff=self.backoff_seconds,
            connections=self.concurrency,
        )

    @cached_property
    def budget(self) -> Budget:
        """What was spent since the backend was made, and the limits."""
        return Budget(self.max_total_tokens, self.max_cost, self.price_in or 0.0, self.price_out or 0.0)

    def open(self) -> None:
        """Look whether the server is there, takes the key and has the model (where it lists its models)."""
        if self.tokenizer is None:
            _log.info(
                "openai: counts of tokens before a call are rough: set tokenizer to the model's folder or Hub name"
            )
        try:
            listed = self.endpoint.get("models").get("data")
        except Unanswered as error:
            raise SetupError(f"openai: {self.address} can't be reached: {error}") from error
        except SetupError as error:
            if "status 404" in str(error) or "status 405" in str(error):
                return
            raise
        names = [str(entry.get("id")) for entry in listed or [] if isinstance(entry, Mapping)]
        if names and self.model not in names:
            raise SetupError(f"openai: {self.address} has no model {self.model!r}: {suggest(str(self.model), names)}")

    # ---- answering --------------------------------------------------------------------------------------------------

    def answer(self, calls: Sequence[Call]) -> Iterator[tuple[int, Reply | Failure]]:
        asked = [self._asked(call) for call in calls]
        waiting = iter(enumerate(asked))
        upcoming = next(waiting, None)
        estimates: dict[int, Usage] = {}
        silent = 0
        error: BaseException | None = None
        with Workers[tuple[Reply, Usage | None]](self.concurrency) as workers:
            send = partial(self._send, stop=workers.stop)
            while True:
                while upcoming and not error and workers.busy < self.concurrency:
                    number, call = upcoming
                    estimates[number] = self.jobs.estimate(call) if self.budget.limited else Usage()
                    if limit := self.budget.refusal(estimates[number]):
                        if not workers.busy:  # else some of what is reserved may come back
                            error = self._overspent(limit)
                        break
                    self.budget.reserve(estimates[number])
                    workers.put(number, partial(self.jobs.job(call), send))
                    upcoming = next(waiting, None)
                if not workers.busy:
                    break
                number, result = workers.get()
                reply = self._settled(asked[number], estimates.pop(number), result)
                if isinstance(reply, BaseException):
                    error = error or reply  # those under way are paid for: their answers are still handed on
                    workers.stop.set()
                    continue
                silent = silent + 1 if isinstance(result, Unanswered) and result.server else 0
                if silent >= max(_SILENT_CALLS, self.concurrency) and not error:
                    error = SetupError(f"openai: {silent} calls in a row got no answer from {self.address}: {result}")
                yield number, reply
        if error:
            raise error

    @cached_property
    def jobs(self) -> Jobs:
        return Jobs(self.dialect, self.tokens, self.top_logprobs, self._guided)

    def _asked(self, call: Call) -> Asked:
        """The call, if this backend has its kind."""
        self.check(call)
        known = cast(Asked, call)
        if known.prompt.thinking is not None and self.server != "vllm" and self.api == "chat":
            self._say(
                "thinking",
                "this server has no switch for thinking, which the prompt asks for: see `extra`",
                logging.INFO,
            )
        return known

    def _send(self, content: dict[str, Any], stop: Event) -> dict[str, Any]:
        return self.endpoint.post(self.dialect.path, content, stop)

    def _settled(
        self, call: Asked, estimate: Usage, result: tuple[Reply, Usage | None] | BaseException
    ) -> Reply | Failure | BaseException:
        """The reply with what it cost; a failure where one call got none; an error that ends all."""
        if isinstance(result, BaseException):
            self.budget.settle(estimate, None)
            if not isinstance(result, Unanswered):
                return result
            if not result.connected:
                return SetupError(f"openai: {self.address} can't be reached: {result}")
            return Failure(str(result))
        reply, usage = result
        if usage is None:
            self._say("usage", "the server does not say what an answer costs: token counts are our own")
            usage = Usage(self.tokens.count(call.prompt), 0, self.tokens.length(reply.text) or 1)
        elif self.tokenizer is not None and not isinstance(call, LikelihoodCall):
            counted = self.tokens.count(call.prompt)
            if usage.prompt != counted:
                self._say(
                    "count",
                    f"the server counts {usage.prompt} prompt tokens where the tokenizer {self.tokenizer} counts "
                    f"{counted}: check that it is the model's own, with the same chat template",
                )
        self.budget.settle(estimate, usage)
        return replace(reply, usage=usage)

    def _overspent(self, limit: str) -> UsageError:
        return UsageError(
            f"openai: the next call would exceed the budget {limit}: spent were {self.budget.account()}. They are in the "
            "ledger, unless it is off: raise the budget and run again to go on"
        )

    def _say(self, what: str, message: str, level: int = logging.WARNING) -> None:
        """Say something once."""
        said = self.__dict__.setdefault("_said", set())
        if what not in said:
            _log.log(level, "openai: %s", message)
            said.add(what)


# ---- options --------------------------------------------------------------------------------------------------------


def _one_of(name: str, value: str | None, known: Sequence[str | None]) -> None:
    if value not in known:
        raise UsageError(f"openai: {name} is {value!r}: {suggest(str(value), [k for k in known if k])}")


def _check_url(url: str) -> None:
    """http(s)://host/path and nothing else: keys do not belong into an address."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        raise UsageError("openai: the url can't be read, expected http(s)://host:port/v1") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            "openai: the url has a user, a password or a query, which would be shown and kept: expected "
            "http(s)://host:port/v1, and the key in the variable that key_variable names"
        )
    if not fine:
        raise UsageError(f"openai: url is {url!r}, expected http(s)://host:port/v1")
