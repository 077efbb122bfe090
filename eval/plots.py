"""The report page's plots as inline SVG: no script, no image file, colours from the page's style sheet.

Each has a title and a description for screen readers; better and worse differ by place and colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from .report import Report
from .svg import Scale, cost_plot, short, svg, text, ticks

_BARS = 400  # beyond so many queries single bars are thinner than a pixel, and one outline is drawn


def means_plot(report: Report) -> str:
    """Each run's mean by the main measure with its interval, best on top."""
    rows = sorted(report.rows, key=lambda row: -row.evaluation.mean(report.main))
    intervals = [row.intervals[str(report.main)] for row in rows]
    levels = ticks(min(0.0, *(i.low for i in intervals)), max(i.high for i in intervals))
    left, right, top, step = 210, 690, 8, 30
    bottom = top + step * len(rows)

    def x(value: float) -> float:
        return left + (right - left) * (value - levels[0]) / (levels[-1] - levels[0])

    parts = _vertical_grid(levels, x, top, bottom)
    for i, (row, interval) in enumerate(zip(rows, intervals, strict=True)):
        y, mean = top + step * (i + 0.5), row.evaluation.mean(report.main)
        kind = "base" if row.name == report.baseline else "run"
        parts += [
            text(left - 12, y + 4, short(row.name, 26), "end", full=row.name),
            f'<line class="whisker {kind}" x1="{x(interval.low):.1f}" x2="{x(interval.high):.1f}" y1="{y}" y2="{y}"/>',
            f'<circle class="{kind}" cx="{x(mean):.1f}" cy="{y}" r="5"><title>{escape(row.name)}: {mean:.4f}</title></circle>',
            text(right + 12, y + 4, f"{mean:.4f}", "start", "number"),
        ]
    title = f"{report.main} of each run"
    told = "; ".join(f"{row.name} {row.evaluation.mean(report.main):.4f}" for row in rows)
    return svg(760, bottom + 26, title, told, parts)


def differences_plot(
    run: str, baseline: str, measure: str, query_ids: Sequence[str], differences: np.ndarray, largest: float
) -> str:
    """Per-query differences of a run from the baseline, sorted: above the line the run is better. `largest` is the
    largest difference of all plots beside it, so that they share a scale.
    """
    order = np.argsort(-differences, kind="stable")
    values, n = differences[order], len(differences)
    limit = max(0.05, math.ceil(largest * 20 - 1e-9) / 20)
    left, right, top, bottom = 46, 352, 10, 170
    middle, width = (top + bottom) / 2, (right - left) / max(n, 1)

    def y(value: float) -> float:
        return middle - value / limit * (bottom - top) / 2

    parts = []
    for tick in (-limit, -limit / 2, 0.0, limit / 2, limit):
        style = "axis" if tick == 0 else "grid"
        parts.append(f'<line class="{style}" x1="{left}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(text(left - 6, y(tick) + 4, f"{tick:+.2f}" if tick else "0", "end", "number"))
    if n <= _BARS:
        gap = 0.15 * width
        for i, value in enumerate(values):
            if value == 0:
                continue
            height = max(abs(y(float(value)) - middle), 0.5)
            edge = middle - height if value > 0 else middle
            parts.append(
                f'<rect class="{"better" if value > 0 else "worse"}" x="{left + i * width + gap / 2:.2f}" y="{edge:.2f}" '
                f'width="{width - gap:.2f}" height="{height:.2f}">'
                f"<title>{escape(query_ids[int(order[i])])}: {value:+.4f}</title></rect>"
            )
    else:
        parts += [_outline(values, left, width, middle, y, kind) for kind in ("better", "worse")]
    wins, losses = int((values > 0).sum()), int((values < 0).sum())
    parts.append(
        text((left + right) / 2, bottom + 22, f"{wins} better · {n - wins - losses} equal · {losses} worse", "middle")
    )
    told = f"{run} is better than {baseline} on {wins} queries, equal on {n - wins - losses} and worse on {losses}."
    return svg(360, bottom + 32, f"{run} minus {baseline}, {measure} by query", told, parts)


def seconds_plot(report: Report) -> str:
    """The main measure against seconds a query on a logarithmic axis; empty unless two runs have a time above 0."""
    timed = [
        (row.name, row.seconds, row.evaluation.mean(report.main)) for row in report.rows if row.seconds is not None
    ]
    return cost_plot(timed, str(report.main), "seconds per query", " s", report.baseline)


def _outline(values: np.ndarray, left: float, width: float, middle: float, y: Scale, kind: str) -> str:
    """All bars of one sign as one filled outline."""
    side = np.maximum(values, 0) if kind == "better" else np.minimum(values, 0)
    chosen = np.flatnonzero(side)
    if not len(chosen):
        return ""
    start, stop = int(chosen[0]), int(chosen[-1])
    points = [f"M{left + start * width:.2f} {middle:.2f}"]
    points += [f"L{left + (i + 0.5) * width:.2f} {y(float(side[i])):.2f}" for i in range(start, stop + 1)]
    return f'<path class="{kind}" d="{" ".join(points)} L{left + (stop + 1) * width:.2f} {middle:.2f}Z"/>'


def _vertical_grid(levels: list[float], x: Scale, top: float, bottom: float) -> list[str]:
    parts = []
    for tick in levels:
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(text(x(tick), bottom + 18, f"{tick:.3g}", "middle", "number"))
    return parts
