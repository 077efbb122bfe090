"""A leaderboard's plots: radar charts of gains over the baseline, and scores against costs with their Pareto fronts."""

from __future__ import annotations

import math
from html import escape

from .leaderboard import COSTS, BoardRow, Leaderboard, pareto_front
from .svg import cost_plot, short, svg, text, ticks

_CENTRE, _RADIUS = (190.0, 150.0), 100.0


def radar_plots(board: Leaderboard) -> list[tuple[str, str]]:
    """(system, plot) of each local system that has the baseline's data sets, as gains and losses over it, one axis a data set.
    All share a scale. None with fewer than three data sets.
    """
    if board.baseline is None:
        return []
    base = board.row(board.baseline)
    axes = [name for name in board.datasets if name in base.cells]
    others = [row for row in board.local if row is not base and all(name in row.cells for name in axes)]
    if len(axes) < 3 or not others:
        return []
    gains = {row.system: [row.cells[name].score - base.cells[name].score for name in axes] for row in others}
    flat = [gain for row in gains.values() for gain in row]
    levels = ticks(min(*flat, -0.01), max(*flat, 0.01))
    return [(row.system, _radar(row, board, axes, gains[row.system], levels)) for row in others]


def _radar(row: BoardRow, board: Leaderboard, axes: list[str], gains: list[float], levels: list[float]) -> str:
    def point(i: int, gain: float, beyond: float = 0.0) -> tuple[float, float]:
        share = (gain - levels[0]) / (levels[-1] - levels[0])
        radius = _RADIUS * (0.12 + 0.88 * share) + beyond  # the lowest level is no point, so that its shape is seen
        angle = 2 * math.pi * i / len(axes) - math.pi / 2
        return _CENTRE[0] + radius * math.cos(angle), _CENTRE[1] + radius * math.sin(angle)

    def ring(values: list[float], kind: str) -> str:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in (point(i, value) for i, value in enumerate(values)))
        return f'<polygon class="{kind}" points="{points}"/>'

    parts = [ring([level] * len(axes), "ring base" if level == 0 else "ring") for level in levels]
    for i, name in enumerate(axes):
        x, y = point(i, levels[-1])
        parts.append(f'<line class="spoke" x1="{_CENTRE[0]}" y1="{_CENTRE[1]}" x2="{x:.1f}" y2="{y:.1f}"/>')
        x, y = point(i, levels[-1], beyond=14)
        anchor = "middle" if abs(x - _CENTRE[0]) < 20 else "start" if x > _CENTRE[0] else "end"
        parts.append(text(x, y + 4, short(name.rpartition("/")[2], 15), anchor, full=name))
    for level in levels:
        x, y = point(0, level)
        parts.append(text(x + 4, y + 11, f"{level:+.3g}" if level else "0", "start", "number"))
    parts.append(ring(gains, "area"))
    for i, (name, gain) in enumerate(zip(axes, gains, strict=True)):
        x, y = point(i, gain)
        kind = "better" if gain >= 0 else "worse"
        parts.append(
            f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{escape(name)}: {gain:+.4f}</title></circle>'
        )
    told = "; ".join(f"{name} {gain:+.4f}" for name, gain in zip(axes, gains, strict=True))
    return svg(380, 300, f"{row.system} against {board.baseline}, {board.measure} by data set", told, parts)


def pareto_plots(board: Leaderboard) -> list[tuple[str, str]]:
    """(heading, plot) for each cost that two systems know."""
    plots = []
    for cost, told in COSTS.items():
        points = [(name, value, score) for name, value, score in board.points(cost)]
        plot = cost_plot(points, board.measure, told, "", board.baseline, pareto_front(points))
        if plot:
            plots.append((f"{board.measure} against {told}", plot))
    return plots
