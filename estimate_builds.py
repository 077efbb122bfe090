"""What building an index by an encoder would take, from indexes of a few of its documents, built and thrown away.

Rates of encoders differ a hundredfold, and so do the bytes of indexes: nothing that was measured elsewhere tells them.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .corpora.dataset import Dataset
from .index.manifest import Manifest, read_manifest
from .models.checkpoint import is_at_hand

if TYPE_CHECKING:
    from .records import Document

#: Retrievers whose builds are tried.
ENCODED = ("late", "sparse")

#: Documents of the smaller sample, and of the larger one at most, which has as many as are built in so many seconds.
_LEAST, _MOST, _SECONDS = 8, 128, 10.0

#: The sample is spread over so many first documents.
_SPREAD = 10_000

#: Documents of a first build, which loads and compiles what later ones find ready; the only one where it takes so many seconds.
_FIRST, _TOO_SLOW = 2, 40.0


def build_estimate(data: Dataset, cls: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Of a build of the retriever `cls` over all documents: `seconds`, `bytes` (texts included), tokens or postings, and
    `sampled`, the documents that were built into indexes to tell them. Only a `note` where the model is not on this machine.

    Two sizes are built, and the larger less the smaller is taken for what their difference in documents costs, so that
    what every index has does not count as often as there are documents.
    """
    for model in (options.get(name) for name in ("model", "query_model", "expand")):
        if not is_at_hand(model):
            return {"note": f"{model} is not on this machine: seconds and bytes are told once it is"}
    if not data.num_documents or not data.has_documents:
        return {}
    keeping = cls.encoder_of(dict(options))  # models are shared by those that use them, and gone with the last
    _ = keeping.spec
    first = _documents(data, _FIRST)
    manifest, seconds = _built(data, cls, first, options)
    if seconds > _TOO_SLOW:  # pages by a large model on a CPU
        return _told(data, [(manifest, seconds, len(first))])
    few = _documents(data, _LEAST)
    built = [(*_built(data, cls, few, options), len(few))]
    if len(few) == _LEAST < (data.num_documents or 0):
        sample = _documents(data, max(2 * _LEAST, min(_MOST, int(_SECONDS * _LEAST / built[0][1]))))
        if len(sample) > len(few):
            built.append((*_built(data, cls, sample, options), len(sample)))
    return _told(data, built)


def _documents(data: Dataset, wanted: int) -> list[Document]:
    """`wanted` documents, evenly among the first ones."""
    step = max(1, min(data.num_documents or 0, _SPREAD) // wanted)
    return list(itertools.islice(data.documents(), 0, wanted * step, step))


def _built(data: Dataset, cls: Any, documents: list[Document], options: dict[str, Any]) -> tuple[Manifest, float]:
    """The manifest of an index of `documents`, and the seconds that building it took."""
    part = Dataset(data.id, [], open_documents=lambda: iter(documents), num_documents=len(documents))
    with tempfile.TemporaryDirectory(prefix="cribble-estimate-") as place:
        start = time.perf_counter()
        cls.build_index(part, Path(place) / "index", overwrite=False, options=dict(options))
        seconds = time.perf_counter() - start
        return read_manifest(Path(place) / "index"), seconds


def _told(data: Dataset, built: list[tuple[Manifest, float, int]]) -> dict[str, Any]:
    """What all documents would take, by one or two builds."""
    *fewer, (manifest, seconds, documents) = built
    total = data.num_documents or 0

    def scaled(value: float, less: float) -> float:
        return value + (value - less) * (total - documents) / (documents - (fewer[0][2] if fewer else 0))

    before = fewer[0][0] if fewer else None
    told: dict[str, Any] = {
        "sampled": documents,
        "seconds": round(max(0.0, scaled(seconds, fewer[0][1] if fewer else 0.0)), 1),
        "bytes": round(scaled(manifest.bytes, before.bytes if before else 0)),
    }
    for name in ("tokens", "postings"):
        if name in manifest.counts:
            told[name] = round(scaled(manifest.counts[name], before.counts[name] if before else 0))
    return told
