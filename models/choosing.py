"""Constrained answers where an engine can choose among strings: each id is chosen among those that are left."""

from __future__ import annotations

from dataclasses import replace

from .calls import Failure, GenerateCall, Prompt, Reply, Usage, unsaid


class Choosing:
    """A constrained answer in the making: `options` are the strings that may come next, none when it is complete; `said`
    is what was chosen so far."""

    def __init__(self, call: GenerateCall) -> None:
        self._call, self.said, self._usage = call, "", Usage()
        self._left, self._failure = list(call.choices), ""
        self._wanted = len(call.choices[: call.top])
        self._settle()

    @property
    def prompt(self) -> Prompt:
        return replace(self._call.prompt, tail=self._call.prompt.tail + self.said)

    @property
    def options(self) -> list[str]:
        chosen = len(self._call.choices) - len(self._left)
        if self._failure or chosen >= self._wanted:
            return []
        if chosen:
            return [self._call.separator + name for name in self._left]
        return [unsaid(self._call.prompt.tail, name) for name in self._left]

    def choose(self, text: str, usage: Usage) -> None:
        """Take what the engine chose."""
        self._usage = Usage(*(a + b for a, b in zip(self._usage, usage, strict=True)))
        if text not in self.options:
            self._failure = f"the model answered {text[:80]!r}, which is none of the choices that it was given"
            return
        self._take(text)
        self._settle()

    @property
    def reply(self) -> Reply | Failure:
        return Failure(self._failure) if self._failure else Reply(self._usage, text=self.said)

    def _take(self, text: str) -> None:
        del self._left[self.options.index(text)]
        self.said += text

    def _settle(self) -> None:
        """The last one that is left needs no asking."""
        if len(self.options) == 1:
            self._take(self.options[0])
