"""What the report's and the leaderboard's pages share: style, tables, and a small script. Nothing is loaded from outside."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path

_LEFT = ' class="text"'


@cache
def asset(name: str) -> str:
    """A style sheet or script of `page_assets/`."""
    return (Path(__file__).parent / "page_assets" / name).read_text(encoding="utf-8")


def document(title: str, parts: Sequence[str], *scripts: str) -> str:
    """The whole page; `parts` and `scripts` go in as they are."""
    script = f"<script>{''.join(scripts)}</script>" if scripts else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{asset('style.css')}</style></head>\n"
        f"<body><main>\n{chr(10).join(part for part in parts if part)}\n</main>{script}</body></html>\n"
    )


def table(
    header: Sequence[str], body: Sequence[str], caption: str, *, left: Sequence[str] = (), sortable: bool = False
) -> str:
    """A table that scrolls by itself; `body` are rows in HTML, `left` the columns of text."""

    def head(name: str) -> str:
        shown = f'<button type="button" class="sort">{escape(name)}</button>' if sortable else escape(name)
        return f'<th scope="col"{_LEFT if name in left else ""}>{shown}</th>'

    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table{' class=sortable' if sortable else ''}><caption>{escape(caption)}</caption>"
        f"<thead><tr>{''.join(map(head, header))}</tr></thead><tbody>{''.join(body)}</tbody></table></div>"
    )


def bullets(lines: Sequence[str]) -> str:
    return f'<ul class="notes">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>' if lines else ""


def facts(pairs: dict[str, str]) -> str:
    """How it was made, as a list of names and values."""
    if not pairs:
        return ""
    lines = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in pairs.items())
    return f"<h2>How it was made</h2><dl>{lines}</dl>"
