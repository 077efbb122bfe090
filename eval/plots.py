"""The report page's plots as inline SVG: no script, no image file, colours from the page's style sheet.

Each has a title and a description for screen readers; better and worse differ by place and colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

import numpy as np

from .report import Report

#: Width of a plot over the whole page.
_WIDE = 790.0
_Scale = Callable[[float], float]
_BARS = 400  # beyond so many queries single bars are thinner than a pixel, and one outline is drawn


def means_plot(report: Report) -> str:
    """Each run's mean by the main measure with its interval, best on top."""
    rows = sorted(report.rows, key=lambda row: -row.evaluation.mean(report.main))
    intervals = [row.intervals[str(report.main)] for row in rows]
    ticks = _ticks(min(0.0, *(i.low for i in intervals)), max(i.high for i in intervals))
    left, right, top, step = 210, 690, 8, 30
    bottom = top + step * len(rows)

    def x(value: float) -> float:
        return left + (right - left) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    parts = _vertical_grid(ticks, x, top, bottom)
    for i, (row, interval) in enumerate(zip(rows, intervals, strict=True)):
        y, mean = top + step * (i + 0.5), row.evaluation.mean(report.main)
        kind = "base" if row.name == report.baseline else "run"
        parts += [
            _text(left - 12, y + 4, _short(row.name, 26), "end", full=row.name),
            f'<line class="whisker {kind}" x1="{x(interval.low):.1f}" x2="{x(interval.high):.1f}" y1="{y}" y2="{y}"/>',
            f'<circle class="{kind}" cx="{x(mean):.1f}" cy="{y}" r="5"><title>{escape(row.name)}: {mean:.4f}</title></circle>',
            _text(right + 12, y + 4, f"{mean:.4f}", "start", "number"),
        ]
    title = f"{report.main} of each run"
    told = "; ".join(f"{row.name} {row.evaluation.mean(report.main):.4f}" for row in rows)
    return _svg(760, bottom + 26, title, told, parts)


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
        parts.append(_text(left - 6, y(tick) + 4, f"{tick:+.2f}" if tick else "0", "end", "number"))
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
        _text((left + right) / 2, bottom + 22, f"{wins} better · {n - wins - losses} equal · {losses} worse", "middle")
    )
    told = f"{run} is better than {baseline} on {wins} queries, equal on {n - wins - losses} and worse on {losses}."
    return _svg(360, bottom + 32, f"{run} minus {baseline}, {measure} by query", told, parts)


def seconds_plot(report: Report) -> str:
    """The main measure against seconds a query on a logarithmic axis; empty unless two runs have a time above 0."""
    timed = [(row, row.seconds) for row in report.rows if row.seconds is not None and row.seconds > 0]
    if len(timed) < 2:
        return ""
    means = [row.evaluation.mean(report.main) for row, _ in timed]
    low, high = math.floor(math.log10(min(s for _, s in timed))), math.ceil(math.log10(max(s for _, s in timed)))
    high = max(high, low + 1)
    ticks = _ticks(min(means) - 0.02, max(means) + 0.02)
    left, right, top, bottom = 60, 600, 14, 290

    def x(seconds: float) -> float:
        return left + (right - left) * (math.log10(seconds) - low) / (high - low)

    def y(value: float) -> float:
        return bottom - (bottom - top) * (value - ticks[0]) / (ticks[-1] - ticks[0])

    parts = []
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(_text(left - 8, y(tick) + 4, f"{tick:.3g}", "end", "number"))
    for power in range(low, high + 1):
        at = x(10.0**power)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(_text(at, bottom + 18, f"{10.0**power:g} s", "middle", "number"))
    points = [(x(seconds), y(mean)) for (_, seconds), mean in zip(timed, means, strict=True)]
    taken = [(at - 8, height - 8, at + 8, height + 8) for at, height in points]
    for (row, seconds), mean, (at, height) in zip(timed, means, points, strict=True):
        kind = "base" if row.name == report.baseline else "run"
        told = f"{row.name}: {mean:.4f}, {seconds:.4g} s a query"
        parts.append(
            f'<circle class="{kind}" cx="{at:.1f}" cy="{height:.1f}" r="6"><title>{escape(told)}</title></circle>'
        )
        parts.append(_label(at, height, row.name, taken))
    parts.append(_text((left + right) / 2, bottom + 40, "seconds per query (logarithmic)", "middle"))
    told = "; ".join(f"{row.name}: {mean:.4f} at {s:.4g} s" for (row, s), mean in zip(timed, means, strict=True))
    return _svg(_WIDE, bottom + 50, f"{report.main} against seconds per query", told, parts)


def _label(x: float, y: float, name: str, taken: list[tuple[float, float, float, float]]) -> str:
    """A point's name where it covers nothing: right, left, above or below it, else further down. Grows `taken`."""
    shown = _short(name, 24)
    width = 7.0 * len(shown)
    places = [(x + 11, y + 4, "start"), (x - 11, y + 4, "end"), (x, y - 12, "middle"), (x, y + 21, "middle")]
    places += [(x + 11, y + 4 + 14 * step, "start") for step in range(1, 20)]
    box = (0.0, 0.0, 0.0, 0.0)
    for at, base, anchor in places:
        start = at - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        box = (start, base - 11, start + width, base + 3)
        free = all(box[2] < b[0] or b[2] < box[0] or box[3] < b[1] or b[3] < box[1] for b in taken)
        if free and start > 66 and start + width < _WIDE:
            break
    taken.append(box)
    return _text(at, base, shown, anchor, full=name)


def _outline(values: np.ndarray, left: float, width: float, middle: float, y: _Scale, kind: str) -> str:
    """All bars of one sign as one filled outline."""
    side = np.maximum(values, 0) if kind == "better" else np.minimum(values, 0)
    chosen = np.flatnonzero(side)
    if not len(chosen):
        return ""
    start, stop = int(chosen[0]), int(chosen[-1])
    points = [f"M{left + start * width:.2f} {middle:.2f}"]
    points += [f"L{left + (i + 0.5) * width:.2f} {y(float(side[i])):.2f}" for i in range(start, stop + 1)]
    return f'<path class="{kind}" d="{" ".join(points)} L{left + (stop + 1) * width:.2f} {middle:.2f}Z"/>'


def _vertical_grid(ticks: list[float], x: _Scale, top: float, bottom: float) -> list[str]:
    parts = []
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(_text(x(tick), bottom + 18, f"{tick:.3g}", "middle", "number"))
    return parts


def _ticks(low: float, high: float) -> list[float]:
    """About five round values that enclose low..high."""
    span = max(high - low, 1e-6)
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if span / (step * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _text(x: float, y: float, text: str, anchor: str, style: str = "", full: str = "") -> str:
    title = f"<title>{escape(full)}</title>" if full and full != text else ""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{title}{escape(text)}</text>'


def _svg(width: float, height: float, title: str, told: str, parts: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title><desc>{escape(told)}</desc>{''.join(parts)}</svg>"
    )
