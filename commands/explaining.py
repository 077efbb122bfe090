"""`cribble search --explain`: hits with the words that matched, coloured on a terminal, and a table of the query's tokens."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..excerpt import excerpt
from ..explanation import Explanation, match_rows
from ..progress import progress
from ..stage import Hit, Stage

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

#: Styles of words by their strength, from this on; black on light colours reads on dark and light terminals.
_STYLES = ((0.75, "black on #ff9f43"), (0.5, "black on #ffc46b"), (0.25, "black on #ffe2a6"), (0.0, "underline"))


def explaining_stage(pipeline: Stage) -> Stage:
    """The pipeline's last stage that scores by late interaction; raises `UsageError` where there is none."""
    stages = [stage for stage in pipeline.walk() if stage.explains]
    if not stages:
        raise UsageError(
            f"--explain shows which token vectors matched, and {pipeline.label} has none: it takes an index of the late "
            "retriever (cribble index DATASET --retriever late --out DIR), or a config with late, colberter or maxsim in its pipeline"
        )
    return stages[-1]


def explained(stage: Stage, text: str, hits: Sequence[Hit]) -> list[Explanation | None]:
    """What `text` matched in each hit; None for a picture."""
    from ..models.image_documents import image_of

    found = []
    with progress("explaining", len(hits), "documents") as advance:
        for hit in hits:
            found.append(None if image_of(hit.document) else stage.explain_match(text, hit.document))
            advance()
    return found


def hit_lines(hits: Sequence[Hit], explanations: Sequence[Explanation | None]) -> list[str]:
    """What is printed: a block a hit. With colours where stdout is a terminal that has them and NO_COLOR is not set; else
    contributions stand in brackets after the words."""
    from rich.console import Console
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    coloured = console.is_terminal and console.color_system is not None and not console.no_color
    # What is said of every hit, as of the index, stands once at the end.
    told = [explanation.notes for explanation in explanations if explanation is not None]
    common = [note for note in told[0] if all(note in notes for notes in told)] if len(told) > 1 else []
    with console.capture() as printed:
        for hit, explanation in zip(hits, explanations, strict=True):
            console.print(Text(f"{hit.rank}  {hit.score:.4f}  {hit.document.id}", style="bold"))
            if explanation is None:
                console.print("   (a picture: only matches in texts can be shown)")
            else:
                _print_matches(console, hit, explanation, coloured, common)
            console.print()
        for note in common:
            console.print(Text(f"({note})"))
    return [line.rstrip() for line in printed.get().rstrip().splitlines()]


def _print_matches(
    console: Console, hit: Hit, explanation: Explanation, coloured: bool, told_later: Collection[str]
) -> None:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console.print(Padding(_marked(explanation, coloured), (0, 0, 0, 3)))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("query token")
    table.add_column("adds", justify="right")
    table.add_column("best match in the document", overflow="fold")
    for row in match_rows(explanation.matches):
        table.add_row(*(Text(cell) for cell in row))
    console.print(Padding(table, (0, 0, 0, 3)))
    # The hit's score is another where a later stage, a weight or a fusion made it.
    as_is = not explanation.differs and explanation.near(hit.score)
    told = [] if as_is else [explanation.heading()]
    told += [note for note in explanation.notes if note not in told_later]
    for note in told:
        console.print(Padding(Text(f"({note})"), (0, 0, 0, 3)))


def _marked(explanation: Explanation, coloured: bool) -> Text:
    """The excerpt with its matched words."""
    from rich.text import Text

    text = Text()
    for piece, share in excerpt(explanation):
        if share is None:
            text.append(piece)
        elif coloured:
            text.append(piece, style=next(style for least, style in _STYLES if share.strength >= least))
        else:
            text.append(f"{piece}[{share.contribution:.2f}]")
    return text
