"""A leaderboard as one HTML page that opens offline: a table that sorts, radar charts, Pareto plots, sources."""

from __future__ import annotations

from html import escape

from .leaderboard import BoardRow, Leaderboard
from .leaderboard_plots import pareto_plots, radar_plots
from .leaderboard_text import MARKS, cost_text, costs, header, mean_text, record_text, sources
from .page_parts import asset, bullets, document, facts, table

_TOLD = {"win": "significantly better than the baseline", "loss": "significantly worse than the baseline"}


def to_html(board: Leaderboard) -> str:
    """The page as text. Every name goes through `escape`."""
    radars, paretos = radar_plots(board), pareto_plots(board)
    parts = [f"<h1>{escape(board.title)}</h1>", f'<p class="summary">{escape(_summary(board))}</p>', _switch(board)]
    parts += [_scores(board), bullets(board.notes)]
    if radars:
        figures = [f"<figure><figcaption>{escape(name)}</figcaption>{plot}</figure>" for name, plot in radars]
        parts.append(f"<h2>{escape(board.measure)} by data set, against {escape(board.baseline or '')}</h2>")
        parts.append(f'<div class="grid-of-plots">{"".join(figures)}</div>')
    for heading, plot in paretos:
        parts += [f"<h2>{escape(heading)}</h2>", plot]
    if paretos:
        parts.append(bullets(["On the dashed line no other system is both cheaper and better."]))
    if sources(board):
        parts += ["<h2>Published numbers</h2>", bullets(sources(board))]
    parts.append(facts(board.facts))
    return document(board.title, parts, asset("sorting.js"), asset("leaderboard.js"))


def _summary(board: Leaderboard) -> str:
    label = board.labels[0]
    ranked = [row for row in board.local if row.means[label] is not None]
    count = f"{len(board.local)} system{'s' if len(board.local) != 1 else ''} on {len(board.datasets)} data sets"
    if not ranked or len(board.local) < 2:
        return f"{count}, by {board.measure}."
    best = ranked[0]
    text = f"{count}: {best.system} is best by {board.measure}, {label} {best.means[label]:.4f}"
    if board.tested(best):
        wins, ties, losses = best.record()
        text += f"; against {board.baseline} it wins {wins}, ties {ties} and loses {losses}"
    return text + "."


def _switch(board: Leaderboard) -> str:
    if not any(row.published for row in board.rows):
        return ""
    return (
        '<div class="controls"><label class="check"><input type="checkbox" id="published" checked> '
        "show published numbers</label></div>"
    )


def _scores(board: Leaderboard) -> str:
    head = header(board)
    body = []
    for row in board.rows:
        tag = "published" if row.published else "baseline" if row.system == board.baseline else ""
        tagged = f'<span class="tag">{tag}</span>' if tag else ""
        cells = [f'<th scope="row" title="{escape(row.setting)}">{escape(row.system)}{tagged}</th>']
        cells += [f"<td>{mean_text(row.means[label])}</td>" for label in board.shown_labels]
        cells += [_cell(board, row, dataset) for dataset in board.datasets]
        cells += [f"<td>{record_text(board, row)}</td>"] if "win/tie/loss" in head else []
        for name in costs(board):
            value = row.cost.get(name)
            cells.append(f'<td data-value="{"" if value is None else value!r}">{cost_text(name, value)}</td>')
        body.append(f"<tr{' class=published' if row.published else ''}>{''.join(cells)}</tr>")
    marks = "; ▲ ▼ differs from the baseline, corrected p < 0.05" if any(map(board.tested, board.rows)) else ""
    return table(head, body, f"{board.measure}{marks}", left=["system"], sortable=True)


def _cell(board: Leaderboard, row: BoardRow, dataset: str) -> str:
    cell = row.cells.get(dataset)
    if cell is None:
        return '<td data-value="">—</td>'
    best = len(board.local) > 1 and not row.published and cell.score >= board.best(dataset) - 1e-12
    sign = MARKS[cell.verdict]
    shown = ""
    if sign:
        told = f"{_TOLD[cell.verdict]}, p {cell.holm:.2g}"
        shown = f' <span class="{cell.verdict}" role="img" aria-label="{told}" title="{told}">{sign}</span>'
    return f'<td data-value="{cell.score!r}"><span class="{"best" if best else ""}">{cell.score:.4f}</span>{shown}</td>'
