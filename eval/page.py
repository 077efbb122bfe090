"""A report as one HTML page that needs nothing else: styles and plots are inside, nothing is loaded."""

from __future__ import annotations

from html import escape

import numpy as np

from .explorer_page import explorer_parts
from .page_parts import asset, bullets, document, facts, table
from .plots import differences_plot, means_plot, seconds_plot
from .rendering import TEST_HEADER, mark, seconds_text, test_notes, tests_table
from .report import Report, Row

_LEFT = ' class="text"'


def to_html(report: Report) -> str:
    """The page as text. Every name, note and query goes through `escape`."""
    several = len(report.rows) > 1
    parts = [
        f"<h1>{escape(report.title)}</h1>",
        f'<p class="summary">{escape(report.summary())}</p>',
        _warnings(report),
        "<h2>Scores</h2>",
        _scores(report),
        bullets([*report.notes(), *test_notes(report)]),
    ]
    if several:
        parts += [f"<h2>{escape(str(report.main))} with intervals</h2>", means_plot(report)]
    if report.comparison.differences:
        parts += [f"<h2>Against {escape(report.baseline or '')}</h2>", _tests(report)]
        parts += [f"<h2>{escape(str(report.main))} by query, against {escape(report.baseline or '')}</h2>"]
        parts += [_differences(report)]
    timing = seconds_plot(report)
    if timing:
        parts += [f"<h2>{escape(str(report.main))} against seconds</h2>", timing]
    parts += ["<h2>What the numbers are over</h2>", _account(report)]
    scripts = []
    if report.explorer is not None:
        parts += explorer_parts(report.explorer, report.baseline)
        scripts.append(asset("explorer.js"))
    parts += ["<h2>Hardest queries</h2>", _hardest(report), facts(report.facts)]
    return document(report.title, parts, *scripts)


def _account(report: Report) -> str:
    header, rows = report.account()
    body = [
        f'<tr><th scope="row">{escape(row.name)}</th>{"".join(f"<td>{count:,}</td>" for count in counts)}</tr>'
        for row, counts in zip(report.rows, rows, strict=True)
    ]
    return table(["run", *header], body, "Queries that count, and what was left out, cut or repaired on the way")


def _scores(report: Report) -> str:
    names = [str(measure) for measure in report.measures]
    timed = any(row.seconds is not None for row in report.rows)
    header = ["run", *names, "queries", "missing", *(["s/query"] if timed else [])]
    best = {str(measure): report.best(measure) for measure in report.measures}
    body = []
    for row in report.rows:
        counts = row.evaluation.counts
        tag = '<span class="tag">baseline</span>' if row.name == report.baseline and len(report.rows) > 1 else ""
        cells = [f'<th scope="row">{escape(row.name)}{tag}</th>']
        cells += [_score(report, row, name, row.name in best[name]) for name in names]
        cells += [f"<td>{counts['evaluated']}</td><td>{counts['missing']}</td>"]
        cells += [f"<td>{seconds_text(row.seconds)}</td>"] if timed else []
        body.append(f"<tr>{''.join(cells)}</tr>")
    level = f"{report.comparison.confidence:.0%} intervals beneath the means"
    marks = "; ▲ ▼ differs from the baseline, corrected p < 0.05" if report.comparison.differences else ""
    return table(header, body, level + marks)


def _score(report: Report, row: Row, name: str, best: bool) -> str:
    mean = row.evaluation.mean(name)
    if next(m for m in report.measures if str(m) == name).aggregate == "sum":
        return f"<td>{mean:.0f}</td>"
    low, high = row.intervals[name]
    sign = mark(report, row, name)
    told = {"▲": "significantly better", "▼": "significantly worse"}
    shown = (
        f' <span class="{"up" if sign == "▲" else "down"}" title="{told[sign]} than the baseline" role="img" '
        f'aria-label="{told[sign]} than the baseline">{sign}</span>'
        if sign
        else ""
    )
    return (
        f'<td><span class="{"best" if best else ""}">{mean:.4f}</span>{shown}'
        f'<span class="interval">{low:.3f} – {high:.3f}</span></td>'
    )


def _tests(report: Report) -> str:
    body = [
        f'<tr><th scope="row">{escape(row[0])}</th><td{_LEFT}>{escape(row[1])}</td>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[2:])
        + "</tr>"
        for row in tests_table(report)
    ]
    return table(TEST_HEADER, body, f"{report.comparison.family}. p: paired randomisation; p t: paired t.")


def _differences(report: Report) -> str:
    baseline = next(row for row in report.rows if row.name == report.baseline)
    others = [row for row in report.rows if row is not baseline]
    gaps = [row.evaluation[report.main] - baseline.evaluation[report.main] for row in others]
    largest = max(float(np.abs(gap).max()) for gap in gaps)
    figures = []
    for row, gap in zip(others, gaps, strict=True):
        queries = row.evaluation.query_ids
        plot = differences_plot(row.name, baseline.name, str(report.main), queries, gap, largest)
        figures.append(f"<figure><figcaption>{escape(row.name)}</figcaption>{plot}</figure>")
    return f'<div class="grid-of-plots">{"".join(figures)}</div>'


def _hardest(report: Report) -> str:
    several, texts = len(report.rows) > 1, report.query_texts
    header = ["query", *(["text"] if texts else []), *(["mean of runs", "best run"] if several else [str(report.main)])]
    body = []
    for query_id, mean, best in report.hardest():
        text = f'<td class="text">{escape(texts.get(query_id, ""))}</td>' if texts else ""
        values = f"<td>{mean:.4f}</td>" + (f"<td>{best:.4f}</td>" if several else "")
        body.append(f'<tr><th scope="row">{escape(query_id)}</th>{text}{values}</tr>')
    return table(header, body, f"Lowest {report.main}, among queries with a relevant document")


def _warnings(report: Report) -> str:
    if not report.warnings:
        return ""
    lines = "".join(f"<li>{escape(line)}</li>" for line in report.warnings)
    return f'<div class="warnings" role="note"><strong>Warnings</strong><ul>{lines}</ul></div>'
