"""Pieces of inline SVG plots: axes, texts, labels that cover nothing, points on a logarithmic axis. No script, no image file."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from html import escape

#: Width of a plot over the whole page.
WIDE = 790.0
Scale = Callable[[float], float]


def cost_plot(
    points: Sequence[tuple[str, float, float]],
    measure: str,
    cost: str,
    unit: str = "",
    baseline: str | None = None,
    front: Collection[str] = (),
) -> str:
    """Scores against a cost on a logarithmic axis: (name, cost, score) each. The points of `front` are joined by a line:
    no other is both cheaper and better. Empty unless two points have a cost above 0.
    """
    points = [point for point in points if point[1] > 0]
    if len(points) < 2:
        return ""
    costs, scores = [point[1] for point in points], [point[2] for point in points]
    low, high = math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs)))
    high = max(high, low + 1)
    levels = ticks(min(scores) - 0.02, max(scores) + 0.02)
    left, right, top, bottom = 60, 600, 14, 290

    def x(value: float) -> float:
        return left + (right - left) * (math.log10(value) - low) / (high - low)

    def y(value: float) -> float:
        return bottom - (bottom - top) * (value - levels[0]) / (levels[-1] - levels[0])

    parts = []
    for level in levels:
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y(level):.1f}" y2="{y(level):.1f}"/>')
        parts.append(text(left - 8, y(level) + 4, f"{level:.3g}", "end", "number"))
    for power in range(low, high + 1):
        at = x(10.0**power)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{bottom}"/>')
        parts.append(text(at, bottom + 18, f"{_power(power)}{unit}", "middle", "number"))
    on_front = sorted((x(c), y(s)) for name, c, s in points if name in front)
    if len(on_front) > 1:
        parts.append(f'<polyline class="front" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in on_front)}"/>')
    taken = [(x(c) - 8, y(s) - 8, x(c) + 8, y(s) + 8) for _, c, s in points]
    for name, value, score in points:
        kind = "base" if name == baseline else "run"
        told = f"{name}: {score:.4f}, {value:.4g}{unit}"
        parts.append(
            f'<circle class="{kind}" cx="{x(value):.1f}" cy="{y(score):.1f}" r="6"><title>{escape(told)}</title></circle>'
        )
        parts.append(_label(x(value), y(score), name, taken))
    parts.append(text((left + right) / 2, bottom + 40, f"{cost} (logarithmic)", "middle"))
    told = "; ".join(f"{name}: {score:.4f} at {value:.4g}{unit}" for name, value, score in points)
    return svg(WIDE, bottom + 50, f"{measure} against {cost}", told, parts)


def _power(power: int) -> str:
    """A power of ten as one reads it on an axis."""
    for step, letter in ((9, "G"), (6, "M"), (3, "k")):
        if power >= step:
            return f"{10 ** (power - step):g}{letter}"
    return f"{10.0**power:g}"


def _label(x: float, y: float, name: str, taken: list[tuple[float, float, float, float]]) -> str:
    """A point's name where it covers nothing: right, left, above or below it, else further down. Grows `taken`."""
    shown = short(name, 24)
    width = 7.0 * len(shown)
    places = [(x + 11, y + 4, "start"), (x - 11, y + 4, "end"), (x, y - 12, "middle"), (x, y + 21, "middle")]
    places += [(x + 11, y + 4 + 14 * step, "start") for step in range(1, 20)]
    box = (0.0, 0.0, 0.0, 0.0)
    for at, base, anchor in places:
        start = at - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        box = (start, base - 11, start + width, base + 3)
        free = all(box[2] < b[0] or b[2] < box[0] or box[3] < b[1] or b[3] < box[1] for b in taken)
        if free and start > 66 and start + width < WIDE:
            break
    taken.append(box)
    return text(at, base, shown, anchor, full=name)


def ticks(low: float, high: float) -> list[float]:
    """About five round values that enclose low..high."""
    span = max(high - low, 1e-6)
    step = 10.0 ** math.floor(math.log10(span / 4))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if span / (step * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def text(x: float, y: float, text: str, anchor: str, style: str = "", full: str = "") -> str:
    title = f"<title>{escape(full)}</title>" if full and full != text else ""
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{title}{escape(text)}</text>'


def svg(width: float, height: float, title: str, told: str, parts: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title><desc>{escape(told)}</desc>{''.join(parts)}</svg>"
    )
