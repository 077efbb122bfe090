"""`sample:stdlib`: the documentation of the standard library of the Python that runs, and questions about it.

A document is the docstring of one public module, class, function, method or property; its id is the qualified name
(`json.loads`, `pathlib.Path.read_text`, and `str.split` for what needs no import). The questions and their judgements
were written for cribble and lie in `stdlib_queries.json`: 2 answers the question, 1 helps, 0 looks alike and does not.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from functools import cache
from pathlib import Path

from ..errors import SetupError, UsageError
from ..records import Document, Qrels, Query
from .dataset import Dataset

logger = logging.getLogger("cribble")


def load_sample(name: str) -> Dataset:
    """The built-in sample by name; `stdlib` is the only one."""
    if name != "stdlib":
        raise UsageError(f"sample:{name} is unknown: the only sample is sample:stdlib")
    documents = stdlib_documents()
    queries, qrels = _judged_questions({document.id for document in documents})
    by_id = {document.id: document for document in documents}
    return Dataset(
        "sample:stdlib",
        queries,
        qrels,
        open_documents=lambda: iter(documents),
        lookup=lambda ids: {i: by_id[i] for i in ids if i in by_id},
        num_documents=len(documents),
        description="documentation of this Python's standard library",
        version=sys.version,
    )


def _judged_questions(known: set[str]) -> tuple[list[Query], Qrels]:
    """The questions, with the judgements of documents that this interpreter has; the others are counted."""
    table = json.loads((Path(__file__).parent / "stdlib_queries.json").read_text(encoding="utf-8"))["questions"]
    queries, labels, absent = [], {}, []
    for row in table:
        judged = {doc_id: label for doc_id, label in row["judgements"].items() if doc_id in known}
        absent += [doc_id for doc_id in row["judgements"] if doc_id not in known]
        if any(label > 0 for label in judged.values()):
            queries.append(Query(row["id"], row["text"]))
            labels[row["id"]] = judged
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if absent:
        logger.info("sample:stdlib: %d judged names are not in Python %s: %s", len(absent), version, ", ".join(absent))
    if len(queries) < len(table):
        logger.warning(
            "sample:stdlib: %d questions have no answer in Python %s and are left out",
            len(table) - len(queries),
            version,
        )
    return queries, Qrels.from_dict(labels, name="sample:stdlib")


@cache
def stdlib_documents() -> tuple[Document, ...]:
    """All documents in order of their ids, read once a process from a clean interpreter (see stdlib_docstrings.py)."""
    script = Path(__file__).with_name("stdlib_docstrings.py")
    # Isolated and without site-packages: what is installed, imported or patched around us must not change the corpus.
    command = [sys.executable, "-I", "-S", str(script)]
    done = subprocess.run(command, capture_output=True, cwd=script.parent, stdin=subprocess.DEVNULL)
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise SetupError(f"sample:stdlib: {sys.executable} could not read its own docstrings ({reason})")
    texts = json.loads(done.stdout)
    return tuple(Document(name, texts[name], name) for name in sorted(texts))
