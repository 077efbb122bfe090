"""A report as one HTML page that needs nothing else: styles and plots are inside, nothing is loaded."""

from __future__ import annotations

from html import escape

import numpy as np

from .plots import differences_plot, means_plot, seconds_plot
from .rendering import TEST_HEADER, mark, seconds_text, test_notes, tests_table
from .report import Report, Row

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #59636e; --line: #d6dbe1; --band: #f5f7f9;
  --better: #1a6fb5; --worse: #b8560f; --warn: #fff6e0; --warn-line: #d9a300; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e4e8ec; --soft: #9aa5b1; --line: #323a43;
  --band: #1b2127; --better: #6cb2f0; --worse: #f0a05c; --warn: #2d2613; --warn-line: #b88a00; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 2.5rem 1.5rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem; }
.summary { font-size: 1.08rem; max-width: 60rem; margin: 0 0 1.6rem; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .94rem; }
caption { text-align: left; color: var(--soft); padding: .6rem .8rem; }
th, td { padding: .5rem .8rem; text-align: right; vertical-align: top; border-top: 1px solid var(--line);
  white-space: nowrap; }
thead th { border-top: 0; background: var(--band); font-weight: 600; color: var(--soft); }
th:first-child, td:first-child, .text { text-align: left; }
tbody th { font-weight: 600; white-space: normal; overflow-wrap: anywhere; min-width: 9rem; }
td.text { white-space: normal; overflow-wrap: anywhere; }
tbody tr:hover { background: var(--band); }
.interval { display: block; color: var(--soft); font-size: .84rem; }
.best { font-weight: 700; }
.up { color: var(--better); } .down { color: var(--worse); }
.tag { font-weight: 400; color: var(--soft); font-size: .84rem; display: block; }
.notes { color: var(--soft); font-size: .92rem; padding-left: 1.2rem; max-width: 62rem; overflow-wrap: anywhere; }
.warnings { background: var(--warn); border-left: 4px solid var(--warn-line); border-radius: 4px; padding: .7rem 1rem;
  overflow-wrap: anywhere; }
.warnings ul { margin: .3rem 0 0; padding-left: 1.2rem; }
.grid-of-plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.4rem; }
figure { margin: 0; min-width: 0; } figcaption { font-size: .92rem; font-weight: 600; overflow-wrap: anywhere; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--ink); font-size: 12px; } svg text.number { fill: var(--soft); font-variant-numeric: tabular-nums; }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); }
svg .better, svg .run { fill: var(--better); } svg .worse { fill: var(--worse); } svg .base { fill: var(--soft); }
svg .whisker { stroke: var(--better); stroke-width: 3; stroke-linecap: round; opacity: .45; }
svg .whisker.base { stroke: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; font-size: .92rem; color: var(--soft); }
dt { font-weight: 600; } dd { margin: 0; overflow-wrap: anywhere; }
@media print { body { max-width: none; padding: 0; } .scroll { overflow: visible; } }
"""


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
        _list([*report.notes(), *test_notes(report)]),
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
    parts += ["<h2>Hardest queries</h2>", _hardest(report), _facts(report)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main>\n{chr(10).join(part for part in parts if part)}\n</main></body></html>\n"
    )


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
    return _table(header, body, level + marks)


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
    return _table(TEST_HEADER, body, f"{report.comparison.family}. p: paired randomisation; p t: paired t.")


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
    return _table(header, body, f"Lowest {report.main}, among queries with a relevant document")


def _table(header: list[str], body: list[str], caption: str) -> str:
    left = {"text", "measure"}
    head = "".join(f'<th scope="col"{_LEFT if name in left else ""}>{escape(name)}</th>' for name in header)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def _list(lines: list[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>'


def _warnings(report: Report) -> str:
    if not report.warnings:
        return ""
    lines = "".join(f"<li>{escape(line)}</li>" for line in report.warnings)
    return f'<div class="warnings" role="note"><strong>Warnings</strong><ul>{lines}</ul></div>'


def _facts(report: Report) -> str:
    if not report.facts:
        return ""
    lines = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in report.facts.items())
    return f"<h2>How it was made</h2><dl>{lines}</dl>"
