"""The report page's explorer of queries: controls and an empty table that `page_assets/explorer.js` fills from the data beside it."""

from __future__ import annotations

import json
from html import escape

from .explorer import Explorer


def explorer_parts(explorer: Explorer, baseline: str | None = None) -> list[str]:
    """Heading, controls, table and data as HTML; at first the baseline stands beside the first of the others."""
    several = len(explorer.runs) > 1
    left = explorer.runs.index(baseline) if baseline in explorer.runs else 0
    right = (1 if left == 0 else 0) if several else left
    shown = f"{explorer.measure} by query; a query opens to its best documents"
    if explorer.left_out:
        shown += f"; {explorer.left_out} more queries, on which the runs differ least, are not on this page"
    if explained := {query for own in explorer.matched.values() for query in own.documents}:
        shown += (
            f"; of {len(explained)} queries the words are coloured that late interaction matched in the best documents "
            "(arrow keys go from word to word)"
        )
    columns = [("query", "query"), ("first", explorer.runs[left])]
    columns += [("second", explorer.runs[right]), ("difference", "difference")] if several else []
    head = "".join(
        f'<th scope="col" data-key="{key}"><button type="button" class="sort">{escape(name)}</button></th>'
        for key, name in columns
    )
    # What closes a script in HTML is escaped in a way that JSON reads back.
    data = json.dumps(explorer.to_json(), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return [
        "<h2>Query by query</h2>",
        f'<div class="controls">{_controls(explorer, left, right)}</div>',
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(shown)}"><table id="explorer">'
        f'<caption>{escape(shown)}. <span id="explorer-count" aria-live="polite"></span></caption>'
        f"<thead><tr>{head}</tr></thead><tbody></tbody></table></div>",
        f'<script type="application/json" id="explorer-data">{data}</script>',
    ]


def _controls(explorer: Explorer, left: int, right: int) -> str:
    several = left != right

    def choice(name: str, label: str, chosen: int) -> str:
        options = "".join(
            f'<option value="{i}"{" selected" if i == chosen else ""}>{escape(run)}</option>'
            for i, run in enumerate(explorer.runs)
        )
        hidden = "" if several else " hidden"
        return f'<label{hidden}>{label}<select id="explorer-{name}">{options}</select></label>'

    find = '<label>find in queries<input type="search" id="explorer-find" autocomplete="off"></label>'
    only = (
        '<label class="check"><input type="checkbox" id="explorer-only"> only where they differ</label>'
        if several
        else ""
    )
    return (
        choice("first", "baseline" if several else "run", left) + choice("second", "compared run", right) + find + only
    )
