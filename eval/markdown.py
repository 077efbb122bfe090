"""GitHub's Markdown: cells whose text means nothing else, and tables."""

from __future__ import annotations

import re
from collections.abc import Sequence


def markdown_cell(text: str) -> str:
    """The text on one line, with all that Markdown would read as its own escaped."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", " ".join(text.split()))


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of cells that are Markdown already; the first column is of text, the others of numbers."""
    lines = [list(header), ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)
