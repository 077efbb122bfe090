"""The JSON of OpenAI-compatible servers: bodies of requests, and what their answers say. Pure functions.

`server` vllm has more than the official parameters: a prefilled answer, exact label tokens, a least length, choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import SetupError, UsageError
from .calls import Message, Prompt, Usage
from .http_json import Unanswered

#: How an answer that has begun already is sent in a chat, beside not at all: fields of the body, fields of the message.
PREFILLS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "continue": ({"add_generation_prompt": False, "continue_final_message": True}, {}),
    "prefix": ({}, {"prefix": True}),
    "assistant": ({}, {}),
}
#: Tokens whose log-probabilities one request of vLLM may ask for by their ids.
_IDS_AT_MOST = 128
_TOKEN_ID = "token_id:"


@dataclass(frozen=True)
class Dialect:
    """How this server is spoken to. `prefill` is a key of PREFILLS, or written: the model is trusted to write the
    beginning itself. `limit_name` is what the server calls the most tokens of a chat's answer."""

    model: str
    api: str = "chat"
    server: str = "openai"
    prefill: str = ""
    system_role: bool = True
    limit_name: str = "max_tokens"
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return "chat/completions" if self.api == "chat" else "completions"

    @property
    def vllm(self) -> bool:
        return self.server == "vllm"


def body(dialect: Dialect, prompt: Prompt, text: str, max_tokens: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """A request for at most `max_tokens` tokens after the prompt. `text` is the rendered prompt with its tail, for the
    completions API; a field that `extra` sets to None is left out."""
    if dialect.api == "chat":
        content = chat_prompt(dialect, prompt) | {dialect.limit_name: max_tokens}
    else:
        content = {"prompt": text, "max_tokens": max_tokens}
        if dialect.vllm:
            content["add_special_tokens"] = prompt.special and not prompt.messages
    whole = {"model": dialect.model, "temperature": 0.0} | content | dict(options) | dict(dialect.extra)
    return {name: value for name, value in whole.items() if value is not None}


def chat_prompt(dialect: Dialect, prompt: Prompt) -> dict[str, Any]:
    """The fields of a chat's body that hold the prompt. Raises `UsageError` for what the server can't be told."""
    if prompt.parts:
        raise UsageError("openai: passages that are encoded apart (Fusion-in-Decoder) need the backend hf")
    if not prompt.messages:
        raise UsageError(
            "openai: this prompt is plain text, which a chat would change: set the backend's api=completions"
        )
    messages = [message._asdict() for message in _turns(prompt, dialect.system_role)]
    fields: dict[str, Any] = {}
    if prompt.tail and dialect.prefill != "written":
        if dialect.prefill not in PREFILLS:
            raise UsageError(
                f"openai: the answer begins with {prompt.tail!r} here, and the official chat API has no way to say so: "
                "set the backend's server=vllm, prefill=continue, prefix or assistant (what the server knows), "
                "prefill=written (trust the model to write it), or api=completions"
            )
        extra_body, extra_message = PREFILLS[dialect.prefill]
        messages.append({"role": "assistant", "content": prompt.tail} | extra_message)
        fields |= extra_body
    if prompt.thinking is not None and dialect.vllm:
        fields["chat_template_kwargs"] = {"enable_thinking": prompt.thinking}
    return {"messages": messages} | fields


def _turns(prompt: Prompt, system_role: bool) -> list[Message]:
    """The messages; for a model without a system role its text stands before that of the first user turn."""
    first, *rest = prompt.messages
    if system_role or first.role != "system" or not rest:
        return [first, *rest]
    return [Message("user", first.content + prompt.without_system + rest[0].content), *rest[1:]]


def label_options(dialect: Dialect, top: int, ids: Sequence[int] | None) -> dict[str, Any]:
    """Ask for the log-probabilities of the `top` best next tokens, or of the tokens `ids` where the server can."""
    wanted: dict[str, Any] = {"logprobs": True, "top_logprobs": top} if dialect.api == "chat" else {"logprobs": top}
    if ids is not None and dialect.vllm and len(ids) <= _IDS_AT_MOST:
        wanted |= {"logprob_token_ids": list(ids), "return_tokens_as_token_ids": True}
    return wanted


# ---- answers --------------------------------------------------------------------------------------------------------


def usage_of(answer: Mapping[str, Any]) -> Usage | None:
    """What the server says that it read and wrote; None where it does not."""
    usage = answer.get("usage")
    if not isinstance(usage, Mapping) or not isinstance(usage.get("prompt_tokens"), int):
        return None
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
    return Usage(usage["prompt_tokens"], cached or 0, usage.get("completion_tokens") or 0)


def choice_of(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first choice by its `index`, wherever it stands."""
    choices = answer.get("choices")
    known = [choice for choice in choices if isinstance(choice, Mapping)] if isinstance(choices, list) else []
    if not known:
        raise Unanswered("the server's answer has no choices", server=True)
    choice = min(known, key=lambda choice: choice.get("index") or 0)
    if choice.get("finish_reason") == "content_filter":
        raise Unanswered("the server's content filter stopped the answer")
    return choice


def text_of(choice: Mapping[str, Any]) -> tuple[str, str]:
    """(text, `stop` or `length`) of a choice of either API."""
    message = choice.get("message")
    if isinstance(message, Mapping):
        if message.get("refusal"):
            raise Unanswered(f"the model refused: {str(message['refusal'])[:200]}")
        text = message.get("content")
    else:
        text = choice.get("text")
    if text is not None and not isinstance(text, str):
        raise Unanswered(f"the server's answer holds no text but {type(text).__name__}", server=True)
    return text or "", "length" if choice.get("finish_reason") == "length" else "stop"


def top_logprobs(choice: Mapping[str, Any], written: str = "") -> list[tuple[str, float]]:
    """(token, log-probability) of the candidates for the token at the answer's start, or after `written`.

    Raises `SetupError` where the server gives no log-probabilities at all; the list is empty where the answer does not
    begin with `written`.
    """
    given = choice.get("logprobs")
    positions = _chat_positions(given) if "message" in choice else _completion_positions(given)
    if not positions:
        raise SetupError(
            "the server gives no log-probabilities, which this judge reads: choose a model or server that does "
            "(top_logprobs), or a judge that reads text"
        )
    so_far = ""
    for token, candidates in positions:
        if so_far.strip() == written.strip():
            return candidates
        so_far += token
    return []


def _chat_positions(given: Any) -> list[tuple[str, list[tuple[str, float]]]]:
    content = given.get("content") if isinstance(given, Mapping) else None
    positions = []
    for place in content or []:
        listed = [(str(entry["token"]), float(entry["logprob"])) for entry in place.get("top_logprobs") or []]
        if "logprob" in place:
            listed.append((str(place["token"]), float(place["logprob"])))
        positions.append((str(place.get("token", "")), listed))
    return positions


def _completion_positions(given: Any) -> list[tuple[str, list[tuple[str, float]]]]:
    if not isinstance(given, Mapping):
        return []
    tokens = given.get("tokens") or []
    tops = given.get("top_logprobs") or [None] * len(tokens)
    own = given.get("token_logprobs") or [None] * len(tokens)
    positions = []
    for token, top, logprob in zip(tokens, tops, own, strict=True):
        listed = [(str(name), float(value)) for name, value in (top or {}).items()]
        if logprob is not None:
            listed.append((str(token), float(logprob)))
        positions.append((str(token), listed))
    return positions


def label_values(
    candidates: Sequence[tuple[str, float]], labels: Sequence[str], ids: Sequence[int] | None
) -> tuple[float, ...]:
    """The log-probability of each label, nan where the server did not list it.

    By token id where the server names tokens so; else by text, whatever blanks are around it: of several forms of one
    label (`A`, ` A`) the best counts.
    """
    by_name: dict[str, float] = {}
    for token, logprob in candidates:
        name = token if token.startswith(_TOKEN_ID) else _bare(token)
        by_name[name] = max(logprob, by_name.get(name, -math.inf))
    if ids is not None and any(name.startswith(_TOKEN_ID) for name in by_name):
        names = [f"{_TOKEN_ID}{token}" for token in ids]
    else:
        names = [_bare(label) for label in labels]
    return tuple(by_name.get(name, math.nan) for name in names)


def _bare(token: str) -> str:
    """A token's text without blanks, also as vocabularies write them."""
    return token.replace("\u2581", " ").replace("\u0120", " ").strip() or token


def echoed_logprob(choice: Mapping[str, Any], prompt: int, target: int) -> float:
    """The log-probability of the last `target` of the `prompt + target` tokens that the server repeats."""
    given = choice.get("logprobs")
    values = given.get("token_logprobs") if isinstance(given, Mapping) else None
    if not isinstance(values, list) or len(values) < prompt + target:
        raise SetupError(
            "the server does not repeat the prompt with its log-probabilities (echo), which likelihoods need: use vLLM's "
            "server, or the backend hf or vllm"
        )
    return float(sum(float(value) for value in values[prompt : prompt + target]))
