"""Measures exact to trec_eval, significance tests and reports.

Every registered measure is a name here, ready for `@`:

    >>> from cribble.eval import evaluate, nDCG, R
    >>> evaluate({"q1": {"a": 2.0, "b": 1.0}}, {"q1": {"b": 1}}, [nDCG @ 10, R @ 100]).means
    {'nDCG@10': 0.6309297535714575, 'R@100': 1.0}
"""

from . import measures as _measures  # noqa: F401  registers every measure
from .evaluation import Evaluation, evaluate, mean_of_parts
from .grammar import parse_measures
from .measure import ALIASES, MEASURES, Measure, register_measure

__all__ = [
    "ALIASES",
    "MEASURES",
    "Evaluation",
    "Measure",
    "evaluate",
    "mean_of_parts",
    "parse_measures",
    "register_measure",
]


def __getattr__(name: str) -> Measure:
    if name in MEASURES:
        return MEASURES[name]()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *MEASURES])
