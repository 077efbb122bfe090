"""What the tiny rankers of this folder are trained on: the judges' own prompts about the synthetic world, and what a
model that knows the relevance of each passage would say after them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cribble.models.calls import AttentionCall, GenerateCall, LabelCall, LikelihoodCall, Prompt, Request
from cribble.models.tokenizing import HFTokens
from cribble.records import Document, Query
from cribble.registry import make
from cribble.rerankers.judges import Judge
from cribble.tests.rerankers.synthetic_lists import BEST, LEADS, TOPICS, Item, item

#: Token -> probability.
Wish = Mapping[int, float]
#: The probability that a passage's reader asks for its topic, by its grade.
_ASKED = (0.04, 0.2, 0.4, 0.6, 0.8)


class Clue(NamedTuple):
    """What a probe should be able to tell from the middle layers at the `place` of a `text`: the relevance of the passage
    that ends there, and the token of its name, or -1 where it has none."""

    text: int
    place: int
    relevance: float
    name: int


@dataclass
class Example:
    """Token ids that the model reads (in an encoder–decoder, the decoder), and what should come after some of them.

    `wishes` are (place, wish): the token after ids[place]. `clues` are about the last token of each passage. `texts` are
    what an encoder reads, one for each part.
    """

    ids: list[int]
    wishes: list[tuple[int, Wish]]
    clues: list[Clue] = field(default_factory=list)
    texts: list[list[int]] = field(default_factory=list)


class Task(NamedTuple):
    """A judge by its spec, the verb that it is asked, how many passages it is shown, and its share of the training."""

    judge: Mapping[str, object]
    verb: str
    least: int
    most: int
    share: float


CAUSAL = (
    Task({"use": "first"}, "order", 2, 12, 1.5),
    Task({"use": "setwise", "mode": "likelihood"}, "order", 2, 12, 1.0),
    Task({"use": "prp", "mode": "scoring"}, "prefer", 2, 2, 1.0),
    Task({"use": "generate"}, "order", 2, 12, 1.5),
    Task({"use": "generate", "template": "rankgpt"}, "order", 2, 12, 1.0),
    Task({"use": "generate", "template": "fullrank-chat"}, "order", 2, 12, 1.0),
    Task({"use": "yes-no"}, "score", 1, 1, 0.5),
    Task({"use": "rank1"}, "score", 1, 1, 0.5),
    Task({"use": "rank-r1"}, "choose", 2, 4, 0.7),
    Task({"use": "query-likelihood"}, "score", 1, 1, 0.5),
    Task({"use": "icr"}, "order", 2, 12, 1.0),
)
ENCODER_DECODER = (
    Task({"use": "monot5"}, "score", 1, 1, 1.0),
    Task({"use": "rankt5"}, "score", 1, 1, 1.0),
    Task({"use": "duot5"}, "prefer", 2, 2, 1.0),
    Task({"use": "prp", "mode": "scoring"}, "prefer", 2, 2, 1.0),
    Task({"use": "setwise", "mode": "likelihood"}, "order", 2, 12, 1.0),
    Task({"use": "generate", "template": "lit5-distill", "forced_length": False}, "order", 2, 12, 2.0),
)


class Teacher:
    """Makes examples of one task for one tokenizer."""

    def __init__(self, task: Task, tokens: HFTokens) -> None:
        self.task, self.tokens = task, tokens
        self.judge: Judge = make("rerankers/judges", str(task.judge["use"]), _options(task))

    def ask(self, drawn: Item) -> LabelCall | GenerateCall | LikelihoodCall | AttentionCall:
        documents = tuple(Document(str(i), text) for i, text in enumerate(drawn.passages))
        request = Request(self.task.verb, Query("q", drawn.query), documents)
        call, _ = self.judge.call(request, self.tokens)
        return call

    def example(self, chance: random.Random, n: int) -> Example:
        drawn = item(chance, n)
        call = self.ask(drawn)
        assert not isinstance(call, AttentionCall)
        if isinstance(call, LabelCall):
            return self._labels(call, drawn)
        if isinstance(call, LikelihoodCall):
            return self._query(call, drawn)
        use = self.task.judge["use"]
        if use == "generate":
            return self._order(call, drawn, chance)
        reasoned = self._reasons_about_one if use == "rank1" else self._reasons_about_some
        return reasoned(call, drawn)

    # ---- kinds of answers --------------------------------------------------------------------------------------------

    def _labels(self, call: LabelCall, drawn: Item) -> Example:
        """One label, and where that is a text that a model would generate, the end after it."""
        if len(call.labels) == 1:
            # RankT5's only label against all other tokens: the logit itself is what counts.
            chances = [_yes(drawn.grades[0])]
        elif self.task.verb == "score":
            chances = [_yes(drawn.grades[0]), 1 - _yes(drawn.grades[0])]
        else:
            chances = softmax([1.5 * g if self.task.verb == "prefer" else float(g) for g in drawn.grades])
        labels = self.tokens.label_ids(call.prompt, call.labels)
        wish = dict(zip(labels, chances, strict=True))
        if len(labels) == 1:
            wish[self.end] = 1 - chances[0]
        ends = self.task.judge["use"] in ("prp", "setwise")
        answer = [(labels[chances.index(max(chances))], wish), (self.end, {self.end: 1.0})]
        names = labels if len(labels) == len(drawn.grades) > 1 else ()
        return self._written(call.prompt, drawn, answer[: 1 + ends], names)

    def _order(self, call: GenerateCall, drawn: Item, chance: random.Random) -> Example:
        """All names, best first; passages of the same relevance in any order."""
        n = len(drawn.grades)
        left = set(range(n))
        order = sorted(left, key=lambda i: (-drawn.grades[i], chance.random()))
        text = call.separator.join(call.choices[i] for i in order)
        names = [self.single(name.strip("[]")) for name in call.choices]
        answer: list[tuple[int, Wish]] = []
        for token in [*self.tokens.encode(text), self.end]:
            if token not in names:
                answer.append((token, {token: 1.0}))
            else:
                answer.append((token, self._best(drawn, left, names)))
                left.remove(names.index(token))
        return self._written(call.prompt, drawn, answer, names)

    def _best(self, drawn: Item, left: set[int], names: Sequence[int]) -> Wish:
        top = max(drawn.grades[i] for i in left)
        best = [i for i in left if drawn.grades[i] == top]
        return {names[i]: 1 / len(best) for i in best}

    def _query(self, call: LikelihoodCall, drawn: Item) -> Example:
        """Each of the queries that the passage answers; the better it is, the likelier is its own topic."""
        ((own, _, grade),) = drawn.about
        likely = _ASKED[grade]
        topics = {self.single(f" {topic}s"): (1 - likely) / (len(TOPICS) - 1) for topic in TOPICS}
        topics[self.single(f" {own}s")] = likely
        answer: list[tuple[int, Wish]] = []
        leads = [self.encode(lead) for lead in LEADS]
        for place, token in enumerate(self.encode(drawn.query)):
            same = [lead for lead in leads if lead[:place] == [t for t, _ in answer]]
            answer.append((token, {lead[place]: 1 / len(same) for lead in same} if place < len(leads[0]) else topics))
        return self._written(call.prompt, drawn, answer)

    def _reasons_about_one(self, call: GenerateCall, drawn: Item) -> Example:
        """The passage's topic and its word of grade, then true or false."""
        ((topic, word, _),) = drawn.about
        yes, no = (self.single(label) for label in self.judge.said)  # type: ignore[attr-defined]
        answer = [(token, {token: 1.0}) for token in self.tokens.encode(f" {topic}: {word}</think>")]
        chance = _yes(drawn.grades[0])
        answer.append((yes, {yes: chance, no: 1 - chance}))
        return self._written(call.prompt, drawn, answer)

    def _reasons_about_some(self, call: GenerateCall, drawn: Item) -> Example:
        names = [self.single(name.strip("[]")) for name in call.choices]
        wish = self._best(drawn, set(range(len(names))), names)
        best = next(iter(wish))
        before, after = "<think> </think> <answer>[", "]</answer>"
        answer = [(token, {token: 1.0}) for token in self.encode(before)]
        answer += [(best, wish)] + [(t, {t: 1.0}) for t in [*self.encode(after), self.end]]
        return self._written(call.prompt, drawn, answer, names)

    # ---- tokens ------------------------------------------------------------------------------------------------------

    @property
    def end(self) -> int:
        return int(self.tokens.tokenizer.eos_token_id)

    def encode(self, text: str) -> list[int]:
        known: dict[str, list[int]] = self.__dict__.setdefault("_encoded", {})
        if text not in known:
            known[text] = self.tokens.encode(text)
        return known[text]

    def single(self, text: str) -> int:
        (token,) = self.encode(text)
        return token

    def _written(
        self, prompt: Prompt, drawn: Item, answer: Sequence[tuple[int, Wish]], names: Sequence[int] = ()
    ) -> Example:
        """The prompt and its answer, of which the last token need not be read."""
        if self.tokens.encoder_decoder:
            start = [int(self.tokens.config.decoder_start_token_id), *self.encode(prompt.tail)]
            texts = list(prompt.parts) or [self.tokens.rendered(prompt)]
            read = [ids.tolist() if hasattr(ids, "tolist") else list(ids) for ids in self.tokens.encoder_ids(prompt)]
        else:
            start, texts, read = self.tokens.ids(prompt).tolist(), [self.tokens.rendered(prompt)], []
        ids = [*start, *(token for token, _ in answer[:-1])]
        wishes = [(len(start) - 1 + i, wish) for i, (_, wish) in enumerate(answer)]
        return Example(ids, wishes, self._clues(texts, drawn, names), read)

    def _clues(self, texts: Sequence[str], drawn: Item, names: Sequence[int]) -> list[Clue]:
        """Where the last token of each passage is that stands behind the query."""
        found: list[Clue] = []
        at = 0
        offsets = [self.tokens.offsets(text) or [] for text in texts]
        for i, (passage, grade) in enumerate(zip(drawn.passages, drawn.grades, strict=True)):
            part = i if len(texts) > 1 else 0
            at = texts[part].find(passage, 0 if len(texts) > 1 else at)
            if 0 <= texts[part].find(drawn.query) < at:
                end = at + len(passage)
                place = next(j for j, (_, e) in enumerate(offsets[part]) if e >= end)
                found.append(Clue(part, place, grade / BEST, names[i] if names else -1))
        return found


def softmax(values: Sequence[float]) -> list[float]:
    weights = [math.exp(value) for value in values]
    return [weight / sum(weights) for weight in weights]


def _yes(grade: int) -> float:
    return 0.02 + 0.96 * grade / BEST


def _options(task: Task) -> dict[str, object]:
    return {name: value for name, value in task.judge.items() if name != "use"}


Maker = Callable[[random.Random, int], Example]
