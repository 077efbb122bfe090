"""A leaderboard as Markdown and JSON, and the cells that all its forms share. The HTML page is in `leaderboard_page.py`."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import UsageError, suggest
from ..files import write_whole
from .leaderboard import COSTS, BoardRow, Leaderboard
from .markdown import markdown_cell, markdown_table

MARKS = {"win": "▲", "loss": "▼", "tie": "", "": ""}


def header(board: Leaderboard) -> list[str]:
    """Column names: system, labelled means, data sets, win/tie/loss against the baseline, costs."""
    tested = ["win/tie/loss"] if any(board.tested(row) for row in board.rows) else []
    return ["system", *board.shown_labels, *board.datasets, *tested, *(COSTS[name] for name in costs(board))]


def costs(board: Leaderboard) -> list[str]:
    return [name for name in COSTS if any(row.cost.get(name) for row in board.rows)]


def cell_text(board: Leaderboard, row: BoardRow, dataset: str) -> str:
    cell = row.cells.get(dataset)
    if cell is None:
        return "—"
    mark = MARKS[cell.verdict]
    return f"{cell.score:.4f}{' ' + mark if mark else ''}"


def mean_text(value: float | None) -> str:
    return "—" if value is None else f"{value:.4f}"


def record_text(board: Leaderboard, row: BoardRow) -> str:
    return "/".join(map(str, row.record())) if board.tested(row) else ""


def cost_text(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name != "index_bytes":
        return f"{value:.3g}" if value < 100 else f"{value:,.0f}"
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} GB"


def row_name(board: Leaderboard, row: BoardRow) -> str:
    """A system's name with what it is: the baseline, or published."""
    tag = " (published)" if row.published else " (baseline)" if row.system == board.baseline else ""
    return row.system + tag


def to_markdown(board: Leaderboard) -> str:
    """GitHub's Markdown: the table, notes, and where the published numbers are from."""
    head = header(board)
    rows = []
    for row in board.rows:
        cells = [row_name(board, row)]
        cells += [mean_text(row.means[label]) for label in board.shown_labels]
        for dataset in board.datasets:
            shown = markdown_cell(cell_text(board, row, dataset))
            best = (
                dataset in row.cells and not row.published and row.cells[dataset].score >= board.best(dataset) - 1e-12
            )
            cells.append(f"**{shown}**" if best and len(board.local) > 1 else shown)
        cells += [record_text(board, row)] if "win/tie/loss" in head else []
        cells += [cost_text(name, row.cost.get(name)) for name in costs(board)]
        rows.append([markdown_cell(cells[0]), *cells[1:]])
    marks = "▲ and ▼ differ from the baseline after correction. " if any(map(board.tested, board.rows)) else ""
    parts = [
        f"# {markdown_cell(board.title)}",
        f"{board.measure}, best local score of each data set in bold. {marks}".strip(),
        markdown_table([markdown_cell(name) for name in head], rows),
        "\n".join(f"- {markdown_cell(note)}" for note in board.notes),
        "\n".join(f"- {markdown_cell(line)}" for line in sources(board)),
        "\n".join(f"- {markdown_cell(name)}: {markdown_cell(value)}" for name, value in board.facts.items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def sources(board: Leaderboard) -> list[str]:
    return [f"{row.system}: {row.source}; {row.setting}." for row in board.rows if row.published]


def write_leaderboard(board: Leaderboard, path: Path) -> None:
    """Write `.md`, `.html` or `.json` by the path's ending, whole or not at all."""
    from .leaderboard_page import to_html

    forms = {
        ".md": to_markdown,
        ".html": to_html,
        ".json": lambda board: json.dumps(board.to_dict(), ensure_ascii=False, indent=1) + "\n",
    }
    if path.suffix not in forms:
        raise UsageError(f"{path}: a leaderboard is written as {suggest(path.suffix, forms)}")
    with write_whole(path) as stream:
        stream.write(forms[path.suffix](board).encode())
