"""What graders share: templates, their prompts cut to size, calls, and labels read from replies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...errors import UsageError, suggest
from ...models.calls import Failure, GenerateCall, Prompt, Reply, Request, Tokens
from ...records import Document, Query
from ...rerankers.prompts import Template, load_template, shrink
from . import SCALE
from .parsing import read_label

_FOLDER = Path(__file__).parent / "prompts"

#: How an answer names each label, lowest first: what a backend that plays an oracle says.
ANSWERS = tuple(f"##final score: {label}" for label in range(SCALE[0], SCALE[1] + 1))


def prompt_names(family: str) -> list[str]:
    """The shipped prompts of a family such as umbrela."""
    return sorted(path.stem.removeprefix(f"{family}-") for path in _FOLDER.glob(f"{family}-*.yaml"))


def load_prompt(family: str, name: str) -> Template:
    """The shipped prompt `name` of a family, or the template in a file whose name ends in .yaml."""
    if name in prompt_names(family):
        return load_template(str(_FOLDER / f"{family}-{name}.yaml"))
    if not name.endswith((".yaml", ".yml")):
        raise UsageError(
            f"prompt {name!r} is unknown: {suggest(name, prompt_names(family))}; a file's name ends in .yaml"
        )
    template = load_template(name)
    if template.verbs != {"score"}:
        raise UsageError(f"the template {name} asks to {' or '.join(sorted(template.verbs))}, expected score alone")
    return template


def prompt_of(
    template: Template,
    query: Query,
    document: Document,
    tokens: Tokens,
    *,
    reserve: int,
    words: int | None,
    instruction: str | None = None,
) -> tuple[Prompt, bool]:
    """The prompt about one pair, with the document cut until `reserve` tokens are free for the answer; and whether it was
    cut, by that or by `words`."""
    prompt, shrunk = shrink(template, query.text, [document], (), tokens, reserve, instruction=instruction, words=words)
    return prompt, bool(shrunk) or (words is not None and template.document.longest(document) > words)


def call_of(
    prompt: Prompt,
    query: Query,
    document: Document,
    *,
    max_tokens: int,
    temperature: float,
    seed: int,
    answers: Sequence[str] = ANSWERS,
) -> GenerateCall:
    return GenerateCall(
        prompt,
        max_tokens,
        choices=tuple(answers),
        temperature=temperature,
        seed=seed,
        request=Request("grade", query, (document,)),
    )


def labels_of(replies: Sequence[Reply | Failure], *, bare: bool) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """The labels that were read, and the kinds of failure of the other replies."""
    read = ["no_reply" if isinstance(r, Failure) else read_label(r.text, bare=bare, finish=r.finish) for r in replies]
    labels = tuple(value for value in read if isinstance(value, int))
    return labels, tuple(value for value in read if isinstance(value, str))


def check_sampling(grader: str, samples: int, temperature: float, seed: int, max_tokens: int) -> None:
    if samples < 1:
        raise UsageError(f"{grader}: samples is {samples}, expected at least 1")
    if not temperature >= 0:
        raise UsageError(f"{grader}: temperature is {temperature}, expected at least 0")
    if samples > 1 and temperature == 0:
        raise UsageError(f"{grader}: {samples} samples at temperature 0 are all alike: set temperature, e.g. 0.7")
    if seed and temperature == 0:
        raise UsageError(
            f"{grader}: seed={seed} has no effect at temperature 0: set temperature, or leave the seed out"
        )
    if max_tokens < 1:
        raise UsageError(f"{grader}: max_tokens is {max_tokens}, expected at least 1")
