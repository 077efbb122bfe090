"""UMBRELA: one prompt, a label from 0 to 3; perhaps examples, perhaps several samples and a vote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ...errors import InputError, UsageError
from ...models.calls import Tokens
from ...records import Document, Query
from ...registry import register
from ...rerankers.passages import places
from ...rerankers.prompts import Template
from . import SCALE, Grader, Grading, Verdict
from .asked import call_of, check_sampling, labels_of, load_prompt, prompt_of
from .votes import check_vote, vote


@register("umbrela")
@dataclass
class Umbrela(Grader):
    """UMBRELA (Upadhyay et al. 2024): a label from 0 to 3 by a prompt after Bing's; samples and a vote where asked for.

    `prompt` is zeroshot-bing, zeroshot-basic, fewshot-bing, fewshot-basic, or a template's file. `examples` is the file
    that the fewshot ones need: JSON Lines with query, passage, label, and steps where the reasoning is shown. `samples`
    answers are drawn at `temperature`, from `seed` on; `vote` is majority (the lower label of equally frequent ones) or
    mean. `max_tokens` is how long an answer may be, `words` cuts documents at so many words.
    """

    prompt: str = "zeroshot-bing"
    examples: str | None = None
    samples: int = 1
    temperature: float = 0.0
    seed: int = 0
    vote: str = "majority"
    max_tokens: int = 512
    words: int | None = None

    def __post_init__(self) -> None:
        check_sampling("umbrela", self.samples, self.temperature, self.seed, self.max_tokens)
        check_vote(self.vote)
        if self.vote != "majority" and self.samples == 1:
            raise UsageError(f"umbrela: vote={self.vote} has no effect on one sample: set samples")
        if self.words is not None and self.words < 1:
            raise UsageError(f"umbrela: words is {self.words}, expected at least 1")
        wants = any("instruction" in places(str(text)) for turn in self.shown.turns for text in turn.values())
        if wants and self.examples is None:
            raise UsageError(
                f"umbrela: the prompt {self.prompt} shows examples: name their file (examples=FILE.jsonl, with query, passage "
                "and label)"
            )
        if self.examples is not None and not wants:
            raise UsageError(f"umbrela: the prompt {self.prompt} has no place for examples: take a fewshot one")

    @cached_property
    def shown(self) -> Template:
        return load_prompt("umbrela", self.prompt)

    @property
    def _bare(self) -> bool:
        """Whether the prompt asks for a number on the last line, not for a final score."""
        return not any("final score" in str(turn) for turn in self.shown.turns)

    @cached_property
    def _examples(self) -> str | None:
        return None if self.examples is None else examples_text(Path(self.examples))

    def open(self) -> None:
        _ = self._examples

    def grade(self, query: Query, document: Document, tokens: Tokens) -> Grading:
        prompt, cut = prompt_of(
            self.shown, query, document, tokens,
            reserve=self.max_tokens, words=self.words, instruction=self._examples,
        )  # fmt: skip
        replies = yield [
            call_of(
                prompt, query, document,
                max_tokens=self.max_tokens, temperature=self.temperature, seed=self.seed + i if self.temperature else 0,
            )
            for i in range(self.samples)
        ]  # fmt: skip
        labels, failures = labels_of(replies, bare=self._bare)
        return Verdict(vote(labels, self.vote), labels, failures, ("cut_documents",) if cut else ())


def examples_text(path: Path) -> str:
    """The examples of a JSON Lines file as the prompts show them. Raises `InputError` naming file and line."""
    if not path.is_file():
        raise InputError(f"{path}: there is no file of examples: expected JSON Lines with query, passage and label")
    shown = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.strip():
            shown.append(_example(f"{path}:{number}", line))
    if not shown:
        raise InputError(f"{path} holds no example")
    return "###\n\n" + "\n\n###\n\n".join(shown) + "\n\n###"


def _example(where: str, line: str) -> str:
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise InputError(f"{where}: no valid JSON ({error})") from error
    label = row.get("label") if isinstance(row, Mapping) else None
    texts = [row.get(name, "") for name in ("query", "passage", "steps")] if isinstance(row, Mapping) else [""]
    if not all(isinstance(text, str) for text in texts) or not all(texts[:2]):
        raise InputError(f"{where}: expected an object with the texts query and passage, and perhaps steps")
    if isinstance(label, bool) or not isinstance(label, int) or not SCALE[0] <= label <= SCALE[1]:
        raise InputError(f"{where}: the label is {label!r}, expected a whole number from {SCALE[0]} to {SCALE[1]}")
    steps = f"\n\n### Steps:\n\n{texts[2]}" if texts[2] else ""
    return f"query: {texts[0]}\npassage: {texts[1]}{steps}\n\n##final score: {label}"
