"""Measures exact to trec_eval, significance tests and reports.

Every registered measure is a name here, ready for `@`:

    >>> from cribble.eval import evaluate, nDCG, R
    >>> evaluate({"q1": {"a": 2.0, "b": 1.0}}, {"q1": {"b": 1}}, [nDCG @ 10, R @ 100]).means
    {'nDCG@10': 0.6309297535714575, 'R@100': 1.0}
"""

from .comparison import Comparison, Difference, compare
from .evaluation import Evaluation, evaluate, mean_of_parts
from .grammar import measures as all_measures
from .grammar import parse_measures
from .measure import Measure
from .report import Report, make_report, with_judged, write_report

__all__ = [
    "Comparison",
    "Difference",
    "Evaluation",
    "Measure",
    "Report",
    "all_measures",
    "compare",
    "evaluate",
    "make_report",
    "mean_of_parts",
    "parse_measures",
    "with_judged",
    "write_report",
]


def __getattr__(name: str) -> Measure:
    if not name.startswith("_") and name in all_measures():
        return all_measures()[name]()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *all_measures()])
