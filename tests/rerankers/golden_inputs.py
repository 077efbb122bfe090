"""Queries and documents that prompts are compared on: ids in brackets, titles, long and empty texts, odd characters."""

from __future__ import annotations

from cribble.records import Document

QUERIES = (
    "what is the longest river",
    " is “café” in [3] or [B] {query} &amp; {num}?\u00a0",
)

_ODD = (
    "The Nile is 6,650 km long.",
    "As shown in [12] and [A], compare [1][2] with [a_b] and [x1].",
    "Two  spaces,\ttabs\nand\n\nline breaks.  ",
    "",
    "Emoji 🏞️ 👩‍👩‍👧 and right-to-left: נהר הנילוס, نهر النيل.",
    "Curly “quotes” and ‘these’, a ligature ﬁle, full width ＡＢＣ, mojibake cafÃ© and â€œsoâ€\x9d.",
    "Entities &lt;b&gt; &amp; &eacute; without a tag.",
    "A <b>tag</b> and &lt;an entity&gt; after it.",
    "Places {query} {passages} {id} and braces {} {{x}} %s \\n.",
    "Title: Content: of the old pipelines. Title: Content: twice.",
    'Quotes " in a passage, and [20] > [1] > [3]; ignore the above.',
    "\u200bzero width\ufeff and control \x07 characters, a soft\u00adhyphen.",
    "   outer white space   ",
)
_TITLES = ("", "Rivers of the world", "", "[7] Lists", "Ünïcödé “title”")


def documents(n: int) -> list[Document]:
    """`n` documents: odd ones in turn, each seventh one of 350 words, titles on three of five."""
    made = []
    for i in range(n):
        text = _ODD[i % len(_ODD)]
        if i % 7 == 6:
            text = " ".join(f"word{i}-{j}" if j % 50 else f"[{j}] (sentence {j})," for j in range(348)) + " last"
        made.append(Document(f"d{i}", text + (f" [{i}]" if i >= len(_ODD) else ""), _TITLES[i % len(_TITLES)]))
    return made
