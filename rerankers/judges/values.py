"""From numbers to answers: documents by their labels' logits, and a score from a pair of logits."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ...errors import UsageError, suggest
from . import Answer

#: Stands for the log-probability of a label that a server did not list: below any that one lists.
FLOOR = -100.0
#: What a score can be made of. `difference`: logit of the first label less that of the second. `prob`: the first one's
#: probability among the two, by softmax. `log_prob`: its logarithm. `positive`: the logit of the first label alone.
SCORES = ("difference", "prob", "log_prob", "positive")


def by_values(verb: str, values: Sequence[float]) -> Answer:
    """The answer to `verb` about documents with these logits, one each, higher is better; ties keep the given order.

    A `nan`, which a server did not tell, is counted in `missing_labels`, stands behind all others and makes the scores
    unknown. For `prefer` the scores are probabilities and equal logits no preference.
    """
    counts = _missing(values)
    if verb == "prefer":
        first, second = map(_known, values)
        order = () if first == second else (0, 1) if first > second else (1, 0)
        prob = math.exp(-softplus(second - first))
        return Answer(order, (prob, 1 - prob), counts)
    return Answer(best_first(verb, values), () if counts else tuple(values), counts)


def best_first(verb: str, values: Sequence[float]) -> tuple[int, ...]:
    """What answers `verb`, of the order by these values; a `nan` stands behind all others."""
    return picked(verb, sorted(range(len(values)), key=lambda i: (math.isnan(values[i]), -_known(values[i]))))


def picked(verb: str, order: Sequence[int]) -> tuple[int, ...]:
    """What of a whole order answers `verb`: the best for choose, the best and the worst for ends, else all."""
    if verb == "choose":
        return tuple(order[:1])
    return (order[0], order[-1]) if verb == "ends" else tuple(order)


def check_scores(judge: str, scores: str | None, labels: Sequence[str]) -> None:
    """Refuse a way of scoring that there isn't, or that needs a second label where there is one."""
    if scores is not None and scores not in SCORES:
        raise UsageError(f"{judge}: scores {scores!r} are unknown: {suggest(scores, SCORES)}")
    if len(labels) not in (1, 2):
        raise UsageError(
            f"{judge}: expected one or two labels, the one that speaks for the document first, got {labels!r}"
        )
    if scores not in (None, "positive") and len(labels) == 1:
        raise UsageError(f"{judge}: scores={scores} compares two labels, and there is only {labels[0]!r}: use positive")


def score_of(values: Sequence[float], scores: str) -> tuple[float, dict[str, int]]:
    """The score from the logits of one or two labels, and the count of those that a server did not tell."""
    known, counts = [_known(value) for value in values], _missing(values)
    if scores == "positive":
        return known[0], counts
    difference = known[0] - known[1]
    if scores == "difference":
        return difference, counts
    log_prob = -softplus(-difference)
    return (log_prob if scores == "log_prob" else math.exp(log_prob)), counts


def _known(value: float) -> float:
    return FLOOR if math.isnan(value) else value


def _missing(values: Sequence[float]) -> dict[str, int]:
    missing = sum(map(math.isnan, values))
    return {"missing_labels": missing} if missing else {}


def softplus(x: float) -> float:
    """log(1 + exp(x)), for any x."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))
