"""A report as text: for the terminal, Markdown, LaTeX and JSON. The HTML page is in `page.py`."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..errors import UsageError, suggest
from .markdown import markdown_cell, markdown_table
from .report import Report, Row, p_text

if TYPE_CHECKING:
    from rich.console import RenderableType

TEST_HEADER = ["run", "measure", "difference", "interval", "p (Holm)", "p", "p t (Holm)", "d_z", "win/tie/loss"]


def render(report: Report, form: str) -> str:
    """The report in one of `FORMATS`."""
    if form not in FORMATS:
        raise UsageError(f"a report has no form {form!r}: {suggest(form, FORMATS)}")
    return FORMATS[form](report)


def mean_text(report: Report, row: Row, measure: str, between: str = " ") -> str:
    """Mean, mark and interval; counts, which are sums, without one."""
    mean = row.evaluation.mean(measure)
    if next(m for m in report.measures if str(m) == measure).aggregate == "sum":
        return f"{mean:.0f}"
    low, high = row.intervals[measure]
    sign = mark(report, row, measure)
    return f"{mean:.4f}{' ' if sign else ''}{sign}{between}[{low:.3f}, {high:.3f}]"


def mark(report: Report, row: Row, measure: str) -> str:
    """▲ or ▼ where the run differs from the baseline with a corrected p below 0.05."""
    wanted = next((m for m in report.comparison.measures if str(m) == measure), None)
    difference = report.difference(row.name, wanted) if wanted is not None else None
    if difference is None or difference.holm_randomisation >= 0.05 or difference.mean == 0:
        return ""
    return "▲" if difference.mean > 0 else "▼"


def seconds_text(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"


def main_table(report: Report, between: str = " ") -> tuple[list[str], list[list[str]]]:
    """Header and cells: run, each measure with its interval, queries, missing queries, seconds a query."""
    names = [str(measure) for measure in report.measures]
    timed = any(row.seconds is not None for row in report.rows)
    header = ["run", *names, "queries", "missing", *(["s/query"] if timed else [])]
    rows = []
    for row in report.rows:
        cells = [mean_text(report, row, name, between) for name in names]
        counts = row.evaluation.counts
        name = f"{row.name} (baseline)" if row.name == report.baseline and len(report.rows) > 1 else row.name
        timing = [seconds_text(row.seconds)] if timed else []
        rows.append([name, *cells, str(counts["evaluated"]), str(counts["missing"]), *timing])
    return header, rows


def tests_table(report: Report) -> list[list[str]]:
    """Cells below `TEST_HEADER`, one row a test; empty with a single run."""
    rows = []
    for d in report.comparison.differences:
        rows.append(
            [
                d.run,
                d.measure,
                f"{d.mean:+.4f}",
                f"[{d.interval.low:+.4f}, {d.interval.high:+.4f}]",
                p_text(d.holm_randomisation).removeprefix("= "),
                p_text(d.p_randomisation).removeprefix("= "),
                p_text(d.holm_t).removeprefix("= "),
                "—" if d.effect is None else f"{d.effect:+.2f}",
                f"{d.wins}/{d.ties}/{d.losses}",
            ]
        )
    return rows


def test_notes(report: Report) -> list[str]:
    """What could not be tested, and why."""
    measures: dict[tuple[str, str], list[str]] = {}
    for d in report.comparison.differences:
        if d.note:
            measures.setdefault((d.run, d.note), []).append(d.measure)
    return [f"{run}, {', '.join(names)}: {note}." for (run, note), names in measures.items()]


def renderables(report: Report) -> list[RenderableType]:
    """Rich tables and texts for a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def table(title: str, header: Iterable[str], rows: list[list[str]]) -> Table:
        shown = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
        for i, name in enumerate(header):
            shown.add_column(Text(name), justify="left" if i == 0 else "right", overflow="fold")
        for row in rows:
            shown.add_row(*(Text(cell) for cell in row))
        return shown

    parts: list[RenderableType] = [table(report.title, *main_table(report, between="\n"))]
    tests = tests_table(report)
    if tests:
        parts.append(table(f"Against {report.baseline}", TEST_HEADER, tests))
    lines = [report.summary(), *report.notes(), *test_notes(report)]
    parts.extend(Text(line) for line in lines)
    parts.extend(Text(f"warning: {line}", style="yellow") for line in report.warnings)
    return parts


def to_text(report: Report, width: int = 140) -> str:
    """The terminal's view as plain text."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, color_system=None)
    for part in renderables(report):
        console.print(part)
    written = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in str(written).splitlines()) + "\n"


def to_json(report: Report) -> str:
    return json.dumps(report.to_dict(), ensure_ascii=False, indent=2) + "\n"


def to_markdown(report: Report) -> str:
    """GitHub's Markdown tables."""

    clean = markdown_cell

    header, rows = main_table(report)
    parts = [
        f"# {clean(report.title)}",
        clean(report.summary()),
        markdown_table([clean(name) for name in header], [[clean(cell) for cell in row] for row in rows]),
    ]
    tests = tests_table(report)
    if tests:
        head = [clean(name) for name in TEST_HEADER]
        parts += [
            f"## Against {clean(report.baseline or '')}",
            markdown_table(head, [[clean(c) for c in row] for row in tests]),
        ]
    notes = [*report.notes(), *test_notes(report), *(f"Warning: {line}" for line in report.warnings)]
    parts.append("\n".join(f"- {clean(line)}" for line in notes))
    counts, numbers = report.account()
    rows = [[clean(row.name), *map(str, line)] for row, line in zip(report.rows, numbers, strict=True)]
    parts += ["## What the numbers are over", markdown_table(["run", *map(clean, counts)], rows)]
    if report.facts:
        parts.append("\n".join(f"- {clean(key)}: {clean(value)}" for key, value in report.facts.items()))
    return "\n\n".join(parts) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "▲": r"$^{\blacktriangle}$",
    "▼": r"$^{\blacktriangledown}$",
    "—": "--",
    "–": "--",
    "…": r"\dots{}",
    "×": r"$\times$",
    "≥": r"$\geq$",
}


def to_latex(report: Report) -> str:
    """Two tables for booktabs (and amssymb for the marks); the best mean of each measure is bold."""

    def clean(text: str) -> str:
        return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))

    def table(header: list[str], rows: list[list[str]], caption: str) -> str:
        # After \\ a star or a bracket would be read as its option; the empty group keeps it a letter.
        body = [("{}" if row[0][:1] in ("[", "*") else "") + " & ".join(row) + r" \\" for row in rows]
        return "\n".join(
            [
                r"\begin{table}",
                rf"\caption{{{caption}}}",
                rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
                r"\toprule",
                " & ".join(clean(name) for name in header) + r" \\",
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
            ]
        )

    header, rows = main_table(report)
    cells = [[clean(cell) for cell in row] for row in rows]
    for column, measure in enumerate(report.measures, 1):
        best = report.best(measure)
        for i, row in enumerate(report.rows):
            if row.name in best:
                mean, space, rest = cells[i][column].partition(" ")
                cells[i][column] = rf"\textbf{{{mean}}}{space}{rest}"
    notes = " ".join(clean(note) for note in report.notes())
    parts = [table(header, cells, f"{clean(report.title)}. {notes}")]
    tests = tests_table(report)
    if tests:
        body = [[clean(cell) for cell in row] for row in tests]
        told = " ".join(clean(note) for note in [f"Differences from {report.baseline}.", *test_notes(report)])
        parts.append(table(TEST_HEADER, body, told))
    return "% needs \\usepackage{booktabs,amssymb}\n" + "\n\n".join(parts) + "\n"


def to_html(report: Report) -> str:
    from .page import to_html

    return to_html(report)


FORMATS: dict[str, Callable[[Report], str]] = {
    "html": to_html,
    "md": to_markdown,
    "tex": to_latex,
    "json": to_json,
    "txt": to_text,
}
