"""LLM reranking as a product of free choices: strategy × judge × backend × model card.

The named rerankers (`first`, `prp-allpair`, …) fix strategy and judge and show their options; `llm` takes any pair.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, UsageError
from ..progress import progress
from ..registry import find, make, option_names
from .candidates import Candidates, TextReranker
from .cards import Card, find_card
from .judges import ROOM as JUDGES
from .judges import Judge
from .scheduler import Outcome, schedule
from .strategies import ROOM as STRATEGIES
from .strategies import Strategy

if TYPE_CHECKING:
    from ..models.backends import Backend
    from ..models.ledger import Ledger

_log = logging.getLogger("cribble")

Spec = Mapping[str, Any]


@dataclass
class _Seen:
    """What a stage has met so far: counts of its last batch and of all, and at which totals it warned."""

    last: Counter[str] = field(default_factory=Counter)
    all: Counter[str] = field(default_factory=Counter)
    repaired: int = 0
    truncated: int = 0
    works: bool = False
    told: dict[str, int] = field(default_factory=dict)

    def due(self, what: str, total: int) -> bool:
        """Whether it is time to warn: the first time, and then when ten times as many came together."""
        if what in self.told and total < 10 * self.told[what]:
            return False
        self.told[what] = total
        return True


@dataclass
class LLMReranker(TextReranker):
    """What every LLM reranker shares. A subclass says which judge and strategy by `judge_spec` and `strategy_spec`.

    `model` is a local folder, a Hub name, or a server's name of its model. `depth` documents a query are reranked.
    `backend` is where the model runs: hf, vllm, openai or fake, or `{use: NAME, option: value}`. `card` names a model
    card (a shipped one or a file) other than the model's own. `ledger` is the file that keeps every judgement: auto is
    one in the cache folder, off keeps none. More repaired answers than `max_repair_rate` (a share from 0 to 1) are an
    error.
    """

    model: str | None = None
    depth: int = 100
    backend: str | Mapping[str, Any] = "hf"
    card: str | None = None
    ledger: str = "auto"
    max_repair_rate: float = 1.0
    score_kind: str = field(default="rank", init=False)
    _seen: _Seen = field(default_factory=_Seen, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self.check_depth()
        if not 0 <= self.max_repair_rate <= 1:
            raise UsageError(f"{self.label}: max_repair_rate is {self.max_repair_rate}, expected a share from 0 to 1")
        self.score_kind = type(self.chosen_strategy).score_kind
        if self.chosen_strategy.verb not in self.chosen_judge.verbs:
            raise UsageError(
                f"{self.label}: the strategy {self.chosen_strategy.registered_name} asks to {self.chosen_strategy.verb}, the judge "
                f"{self.chosen_judge.registered_name} can {' and '.join(sorted(self.chosen_judge.verbs))}: choose another pair"
            )
        _ = self.runner  # checks its options; loads nothing

    # ---- the parts --------------------------------------------------------------------------------------------------

    def judge_spec(self) -> Spec:
        """`{use: NAME, option: value}`; None stands for the card's value, or else the judge's default."""
        raise NotImplementedError

    def strategy_spec(self) -> Spec:
        """`{use: NAME, option: value}`, as `judge_spec`."""
        raise NotImplementedError

    @cached_property
    def model_card(self) -> Card:
        return find_card(self.model, self.card)

    @cached_property
    def chosen_judge(self) -> Judge:
        made: Judge = _made(JUDGES, self.judge_spec(), self.model_card.judge)
        return made

    @cached_property
    def chosen_strategy(self) -> Strategy:
        made: Strategy = _made(STRATEGIES, self.strategy_spec(), self.model_card.strategy)
        return made

    @cached_property
    def runner(self) -> Backend:
        """The backend, with the card's options where the user set none."""
        from ..models.backends import ROOM, make_backend

        spec = dict(self.backend) if isinstance(self.backend, Mapping) else {"use": self.backend}
        known = option_names(find(ROOM, str(spec.get("use", "hf"))))
        return make_backend(self.model_card.options(self.model, known) | spec, self.model)

    @cached_property
    def book(self) -> Ledger | None:
        """The ledger that answers are kept in; None where it is off or answers cost nothing."""
        from ..models.ledger import Ledger

        return Ledger.at(self.ledger) if self.ledger != "off" and self.runner.remembered else None

    # ---- the stage's duties -----------------------------------------------------------------------------------------

    def open(self) -> None:
        self.runner.open()
        self._warn_of_window()

    def artifacts(self) -> dict[str, str]:
        return self.runner.identity()

    def facts(self) -> dict[str, Any]:
        return {
            "judge": _described(self.chosen_judge),
            "strategy": _described(self.chosen_strategy),
            "backend": self.runner.identity(),
            "depth": str(self.depth),
        }

    @property
    def truncated(self) -> int:
        """Documents of which the judge showed only the first words, once per query that they are a candidate of."""
        return self._seen.truncated

    def score(self, candidates: Sequence[Candidates]) -> list[np.ndarray]:
        from ..models.ledger import asker

        self._warn_of_window()
        with progress(self.label, len(candidates), "queries") as advance:
            ask = asker(self.runner, self.book)
            outcomes = schedule(self.chosen_strategy, self.chosen_judge, self.runner.tokens, ask, candidates, advance)
        cut = sum(self.chosen_judge.cuts(document) for c in candidates for document in c.documents)
        self._seen.truncated += cut
        self._count(candidates, outcomes)
        return [positional_scores(outcome) for outcome in outcomes]

    # ---- counts -----------------------------------------------------------------------------------------------------

    def counts(self) -> dict[str, int]:
        return dict(self._seen.last)

    def _count(self, candidates: Sequence[Candidates], outcomes: Sequence[Outcome]) -> None:
        """Keep what this batch cost for its run's provenance; warn of failures and repairs, refuse too many."""
        seen = self._seen
        seen.last = totals(outcomes)
        seen.all.update(seen.last)
        seen.repaired += sum(o.repaired_calls for o in outcomes)
        seen.works = seen.works or any(o.calls and not o.failure for o in outcomes)
        failed = [(c.query.id, o.failure) for c, o in zip(candidates, outcomes, strict=True) if o.failure]
        # Some fail; but where none has ever worked, nothing would come of going on.
        if len(failed) > 1 and not seen.works:
            raise InputError(f"{self.label}: all {len(failed)} queries failed, the first because {failed[0][1]}")
        if failed and seen.due("failed", seen.all["failed_queries"]):
            _log.warning(
                "%s: %d of %d queries failed and keep their given order (%r is one: %s)",
                self.label, len(failed), len(candidates), *failed[0],
            )  # fmt: skip
        self._check_repairs()

    def _check_repairs(self) -> None:
        """Warn of repaired answers so far, and refuse more of them than the budget allows."""
        repaired, calls = self._seen.repaired, self._seen.all["calls"]
        if repaired > self.max_repair_rate * calls:
            raise InputError(
                f"{self.label}: {repaired} of {calls} answers had to be repaired, more than the budget "
                f"max_repair_rate={self.max_repair_rate} allows: check model, template and card, or raise the budget"
            )
        if repaired and self._seen.due("repaired", repaired):
            found = sorted((k, n) for k, n in self._seen.all.items() if k.startswith("repaired_"))
            kinds = ", ".join(f"{n} {kind.removeprefix('repaired_')}" for kind, n in found)
            _log.warning("%s: %d of %d answers so far had to be repaired (%s)", self.label, repaired, calls, kinds)

    def _warn_of_window(self) -> None:
        """Say what is known of windows that the model was not trained for."""
        trained, window = self.model_card.window, self.chosen_strategy.shown_at_once(self.depth)
        if trained is not None and window not in (None, trained) and self._seen.due("window", 1):
            damage = self.model_card.damage or "its answers at other sizes are not known"
            _log.warning(
                "%s: %s was trained for windows of %d documents, here %d: %s",
                self.label, self.model_card.name, trained, window, damage,
            )  # fmt: skip


def _made(room: str, spec: Spec, carded: Spec) -> Any:
    """What `spec` names; options that it leaves None come from the card where the card names the same thing."""
    name = str(spec["use"])
    options = {key: value for key, value in spec.items() if key != "use" and value is not None}
    if carded.get("use") == name:
        options = {key: value for key, value in carded.items() if key != "use"} | options
    return make(room, name, options)


def _described(part: Judge | Strategy) -> str:
    """`first(template=…, ids=…)` for the provenance."""
    options = ", ".join(f"{name}={getattr(part, name)}" for name in option_names(type(part)))
    return f"{part.registered_name}({options})"


def totals(outcomes: Sequence[Outcome]) -> Counter[str]:
    """Sums over queries; `depth` is the sum of the queries' sequential depths."""
    counts: Counter[str] = Counter(calls=0, prompt_tokens=0, cached_tokens=0, new_tokens=0, depth=0, failed_queries=0)
    for outcome in outcomes:
        counts["calls"] += outcome.calls
        counts["prompt_tokens"] += outcome.usage.prompt
        counts["cached_tokens"] += outcome.usage.cached
        counts["new_tokens"] += outcome.usage.new
        counts["depth"] += outcome.rounds
        counts["failed_queries"] += bool(outcome.failure)
        counts.update(outcome.counts)
    return counts


def positional_scores(outcome: Outcome) -> np.ndarray:
    """Scores (n,) by given position, strictly falling in the outcome's order also as float32, in which trec_eval
    compares: the sort's own where it has such, else n, n - 1, …, 1."""
    order = np.asarray(outcome.sorted.order, np.int64)
    n = len(order)
    falling: np.ndarray = np.arange(n, 0, -1, dtype=np.float64)
    if outcome.sorted.scores is not None and not outcome.failure:
        # Far from the ends of float32's range, so that there is room to fall.
        falling = np.clip(np.asarray(outcome.sorted.scores, np.float64), -1e38, 1e38).astype(np.float32)
        for i in range(1, n):
            if not falling[i] < falling[i - 1]:
                falling[i] = np.nextafter(falling[i - 1], np.float32(-np.inf))
    scores = np.empty(n, np.float64)
    scores[order] = falling
    return scores
