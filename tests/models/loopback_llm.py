"""An OpenAI-shaped server over 127.0.0.1 that ranks by words in common and misbehaves on demand.

In a test: `with LoopbackLLM(script=["429", "500"]) as server: … server.url, server.asked`. As a process of its own:
`python -m cribble.tests.models.loopback_llm --log FILE --delay 0.01` prints its port; it ends with its input, or after
`--lifetime` seconds. A line of the log is one JSON object: what was asked, or that its answer was sent.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import socket
import sys
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Requests after which the server refuses to go on: no test needs as many.
MOST_REQUESTS = 200_000
MOST_BYTES = 4 << 20


def words(text):
    return set(re.findall(r"\w+", text.lower()))


def read_prompt(text):
    """(query, {label: passage}) of a ranking prompt: `[A] …` lines or `Passage A: …`, and what follows `Query`."""
    queries = re.findall(r"(?:search query|query)\s*(?::|\")\s*\"?(.+?)\"?(?:\.\s|\.?\n|,|\"|$)", text, re.IGNORECASE)
    passages = re.findall(r"^(?:\[([A-Z]|\d{1,3})\]|Passage ([A-Z]):) *(.*)$", text, re.MULTILINE)
    return (queries[-1] if queries else ""), {one or two: passage for one, two, passage in passages}


def relevance(query, passage):
    wanted = words(query)
    return len(wanted & words(passage)) / max(len(wanted), 1)


def token_logprob(token):
    """What this server makes of a token by its id."""
    return -(token * 7919 % 101) / 10 - 0.1


def embedding(text, dimensions=16):
    """A unit vector: words hashed into places."""
    row = [1e-3] * dimensions
    for word in re.findall(r"\w+", text.lower()):
        row[sum(map(ord, word)) % dimensions] += 1.0
    length = math.sqrt(sum(value * value for value in row))
    return [value / length for value in row]


class Answers:
    """The well-behaved server: bodies of requests to bodies of answers."""

    def __init__(self, model="loopback"):
        self.model = model

    def __call__(self, path, body):
        if path == "/v1/models":
            return {"object": "list", "data": [{"id": self.model, "object": "model"}]}
        if path == "/v1/embeddings":
            return self._embeddings(body)
        chat = path == "/v1/chat/completions"
        prompt, tail = self._prompt(body, chat)
        if isinstance(prompt, list):
            return self._echo(body, prompt)
        query, passages = read_prompt(prompt)
        ranked = sorted(passages, key=lambda label: -relevance(query, passages[label]))
        most = body.get("max_completion_tokens", body.get("max_tokens", 16))
        wants = body.get("logprobs") if chat else body.get("logprobs") is not None
        if body.get("structured_outputs") or body.get("guided_choice"):
            text = self._chosen(body, query, passages)
        else:
            text = " > ".join(f"[{label}]" for label in ranked)
            text = text[1:] if tail.endswith("[") else text
            if "one letter" in prompt:
                text = ranked[0]
            elif "Passage A:" in prompt:
                text = f"Passage {ranked[0]}"
        pieces = re.findall(r" ?\w+| ?[^\w\s]", text)[:most]
        finish = "length" if len(pieces) == most else "stop"
        text = "".join(pieces)
        for stop in body.get("stop", []):
            text, finish = (text[: text.find(stop)], "stop") if stop in text else (text, finish)
        choice = {"index": 0, "finish_reason": finish}
        choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        if wants:
            top = body["top_logprobs"] if chat else body["logprobs"]
            positions = [self._candidates(piece, query, passages, body, top) for piece in pieces]
            choice["logprobs"] = self._logprobs(pieces, positions, chat)
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(pieces)}
        usage |= {"total_tokens": sum(usage.values()), "prompt_tokens_details": {"cached_tokens": 2}}
        return {"object": "completion", "model": body["model"], "choices": [choice], "usage": usage}

    def _embeddings(self, body):
        rows = [embedding(text, body.get("dimensions", 16)) for text in body["input"]]
        data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
        tokens = sum(len(text.split()) for text in body["input"])
        return {"object": "list", "model": body["model"], "data": data, "usage": {"prompt_tokens": tokens}}

    def _prompt(self, body, chat):
        if not chat:
            prompt = body["prompt"]
            return prompt, prompt if isinstance(prompt, str) else ""
        messages = body["messages"]
        tail = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
        return "\n".join(message["content"] for message in messages), tail

    def _chosen(self, body, query, passages):
        choices = body.get("guided_choice") or body["structured_outputs"]["choice"]

        def value(choice):
            labels = re.findall(r"[A-Z]|\d+", choice)
            return relevance(query, passages.get(labels[-1], "")) if labels else -1

        return max(choices, key=value)

    def _candidates(self, piece, query, passages, body, top):
        """(token, log-probability) of the likeliest tokens in the place of `piece`."""
        if ids := body.get("logprob_token_ids"):
            return [(f"token_id:{token}", token_logprob(token)) for token in ids]
        values = {label: 4 * relevance(query, passage) for label, passage in passages.items()}
        if piece.strip() not in values:
            return [(piece, -0.01)]
        total = math.log(sum(map(math.exp, values.values())))
        listed = sorted(((label, value - total) for label, value in values.items()), key=lambda entry: -entry[1])
        return listed[:top]

    def _logprobs(self, pieces, positions, chat):
        if not chat:
            tops = [dict(listed) for listed in positions]
            own = [listed[0][1] for listed in positions]
            return {"tokens": pieces, "token_logprobs": own, "top_logprobs": tops, "text_offset": [0] * len(pieces)}
        content = []
        for piece, listed in zip(pieces, positions, strict=True):
            top = [{"token": token, "logprob": value, "bytes": list(token.encode())} for token, value in listed]
            content.append({"token": piece, "logprob": listed[0][1], "top_logprobs": top})
        return {"content": content}

    def _echo(self, body, ids):
        values = [None, *(token_logprob(token) for token in ids[1:])]
        logprobs = {"tokens": [str(i) for i in ids], "token_logprobs": values, "top_logprobs": None, "text_offset": []}
        choice = {"index": 0, "text": "", "finish_reason": "length", "logprobs": logprobs if body.get("echo") else None}
        return {"choices": [choice], "usage": {"prompt_tokens": len(ids), "completion_tokens": 1}}


# ---- misbehaviour -------------------------------------------------------------------------------------------------------


def _error(message, code=None):
    return {"error": {"message": message, "type": "some_error", "param": None, "code": code}}


#: Name → (status, headers, body) in the place of the right answer.
REPLACED = {
    "401": (401, {}, _error("Incorrect API key provided: sk-loopback-secret.", "invalid_api_key")),
    "403": (403, {}, _error("this country is not served")),
    "404": (404, {}, _error("The model `x` does not exist", "model_not_found")),
    "400": (400, {}, _error("unknown parameter 'top_logprobs'")),
    "too-long": (400, {}, _error("This model's maximum context length is 64 tokens.", "context_length_exceeded")),
    "413": (413, {}, "payload too large"),
    "429": (429, {}, _error("rate limit reached")),
    "429-after": (429, {"Retry-After": "1"}, _error("rate limit reached")),
    "429-date": (429, {"Retry-After": "DATE"}, _error("rate limit reached")),
    "429-tomorrow": (429, {"Retry-After": "86400"}, _error("rate limit reached")),
    "quota": (429, {}, _error("You exceeded your current quota", "insufficient_quota")),
    "500": (500, {}, _error("internal error")),
    "503": (503, {}, "no model is loaded"),
    "html-502": (502, {"Content-Type": "text/html"}, "<html><body><h1>Bad Gateway</h1></body></html>"),
    "html": (200, {"Content-Type": "text/html"}, "<html><body>Sign in to the network</body></html>"),
    "moved": (307, {"Location": "http://127.0.0.1:9/elsewhere"}, ""),
    "array": (200, {}, "[1, 2, 3]"),
}


def _no_logprobs(answer):
    answer["choices"][0]["logprobs"] = None


def _few_logprobs(answer):
    for place in answer["choices"][0]["logprobs"]["content"]:
        del place["top_logprobs"][2:]


def _odd_labels(answer):
    for place in answer["choices"][0]["logprobs"]["content"]:
        place["token"] = "The"
        for entry in place["top_logprobs"]:
            entry["token"] = "x" + entry["token"]


def _spaced_labels(answer):
    """Each label twice: the worse form bare, the better one with a blank, as vocabularies have both."""
    for place in answer["choices"][0]["logprobs"]["content"]:
        place["top_logprobs"] += [e | {"token": " " + e["token"]} for e in place["top_logprobs"]]
        for entry in place["top_logprobs"]:
            entry["logprob"] -= 3.0 * (not entry["token"].startswith(" "))
        del place["logprob"]


def _two_choices(answer):
    wrong = json.loads(json.dumps(answer["choices"][0])) | {"index": 1}
    wrong["message"] = {"role": "assistant", "content": "the wrong one"}
    wrong["logprobs"] = None
    answer["choices"].insert(0, wrong)


def _first_row(change):
    """A change of the first vector of an embeddings answer."""
    return lambda answer: change(answer["data"][0])


#: Name → a change of the right answer.
CHANGED = {
    "no-logprobs": _no_logprobs,
    "few-logprobs": _few_logprobs,
    "odd-labels": _odd_labels,
    "spaced-labels": _spaced_labels,
    "two-choices": _two_choices,
    "no-choices": lambda answer: answer["choices"].clear(),
    "no-usage": lambda answer: answer.pop("usage"),
    "filtered": lambda answer: answer["choices"][0].update(finish_reason="content_filter"),
    "refusal": lambda answer: answer["choices"][0]["message"].update(content=None, refusal="I can't do that."),
    "no-text": lambda answer: answer["choices"][0]["message"].update(content=17),
    "odd-form": lambda answer: answer["choices"][0].update(logprobs={"content": [{"top_logprobs": [{"x": 1}]}]}),
    "long-text": lambda answer: answer["choices"][0]["message"].update(content="[9] > [9] > [1], I think."),
}
#: The same for answers to /v1/embeddings.
CHANGED_EMBEDDINGS = {
    "reversed": lambda answer: answer["data"].reverse(),
    "no-index": lambda answer: [row.pop("index") for row in answer["data"]],
    "same-index": lambda answer: [row.update(index=0) for row in answer["data"]],
    "missing-row": lambda answer: answer["data"].pop(),
    "no-data": lambda answer: answer.pop("data"),
    "nan": _first_row(lambda row: row["embedding"].__setitem__(0, math.nan)),
    "null": _first_row(lambda row: row["embedding"].__setitem__(0, None)),
    "narrow": _first_row(lambda row: row["embedding"].pop()),
    "all-narrow": lambda answer: [row["embedding"].pop() for row in answer["data"]],
    "no-embedding": _first_row(lambda row: row.pop("embedding")),
}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Two small segments, headers and body, would wait for each other's acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self):
        self._respond(None)

    def do_POST(self):
        size = int(self.headers.get("Content-Length", 0))
        if size > MOST_BYTES:
            self.close_connection = True
            return self._send(413, {}, "too large")
        return self._respond(json.loads(self.rfile.read(size)))

    def log_message(self, *arguments):
        pass

    def _respond(self, body):
        server = self.server.owner
        number, kind = server.admit(self.path, body, self.headers)
        if server.key and self.headers.get("Authorization") != f"Bearer {server.key}":
            kind = "401"
        elif server.delay:
            server.stopped.wait(server.delay)
        if kind == "hang":
            server.stopped.wait(20)
            kind = "closed"
        server.leave(number)
        if kind == "closed":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            server.note({"answered": number, "kind": kind, "status": 0})
            return
        status, headers, answer = REPLACED.get(kind, (200, {}, None))
        if answer is None:
            answer = server.answers(self.path, body)
            (CHANGED | CHANGED_EMBEDDINGS).get(kind, lambda answer: None)(answer)
        headers = {k: formatdate(time.time() + 2, usegmt=True) if v == "DATE" else v for k, v in headers.items()}
        self._send(status, headers, answer, cut={"half": "length", "short": "connection"}.get(kind, ""))
        server.note({"answered": number, "kind": kind, "status": status})

    def _send(self, status, headers, answer, cut=""):
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        half = data[: len(data) // 2]
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(half) if cut == "length" else len(data)))
        self.end_headers()
        self.wfile.write(half if cut else data)
        if cut == "connection":
            self.close_connection = True


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Clients that are killed close their connections; other errors are shown."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class LoopbackLLM:
    """The server, in threads of this process. `script` are the kinds of the first requests in their order (models are
    not counted), `always` that of the others; "" is a right answer. `asked` are the bodies that came, with their times."""

    def __init__(self, script=(), always="", *, delay=0.0, key="", log=None, model="loopback", port=0):
        self.script, self.always, self.delay, self.key = list(script), always, delay, key
        self.answers = Answers(model)
        self.asked, self.times, self.headers, self.most_at_once = [], [], [], 0
        self.stopped = threading.Event()
        self._lock, self._under_way = threading.Lock(), 0
        self._log = open(log, "a") if log else None  # noqa: SIM115  closed with the server
        self._http = _Http(("127.0.0.1", port), _Handler)
        self._http.owner = self

    @property
    def port(self):
        return self._http.server_address[1]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.stopped.set()
        self._http.shutdown()
        self._http.server_close()
        if self._log:
            self._log.close()

    def admit(self, path, body, headers):
        """Number a request and say how to treat it."""
        if body is None:
            return -1, ""
        with self._lock:
            number = len(self.asked)
            if number >= MOST_REQUESTS:
                raise RuntimeError("more requests than any test needs")
            self.asked.append(body)
            self.times.append(time.monotonic())
            self.headers.append(dict(headers))
            self._under_way += 1
            self.most_at_once = max(self.most_at_once, self._under_way)
            kind = self.script[number] if number < len(self.script) else self.always
        self.note({"asked": number, "kind": kind, "path": path, "body": body})
        return number, kind

    def leave(self, number):
        """A request is about to be answered: its client may send the next."""
        with self._lock:
            self._under_way -= number >= 0

    def note(self, entry):
        with self._lock:
            if self._log:
                self._log.write(json.dumps(entry) + "\n")
                self._log.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log")
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--always", default="")
    parser.add_argument("--script", default="", help="kinds with commas between")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--lifetime", type=float, default=300.0)
    options = parser.parse_args()
    script = [kind for kind in options.script.split(",") if kind]
    with LoopbackLLM(script, options.always, delay=options.delay, log=options.log, port=options.port) as server:
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()
        watcher = threading.Thread(target=sys.stdin.read, daemon=True)
        watcher.start()
        watcher.join(options.lifetime)


if __name__ == "__main__":
    main()
