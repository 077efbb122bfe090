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
from .index.plaid_options import centroid_count
from .models.checkpoint import is_at_hand

if TYPE_CHECKING:
    from .records import Document

#: Retrievers whose builds are tried.
ENCODED = ("late", "sparse", "colberter")

#: Documents of the smaller sample, and of the larger one at most, which has as many as are built in so many seconds.
_LEAST, _MOST, _SECONDS = 8, 1024, 8.0

#: The sample is spread over so many first documents.
_SPREAD = 10_000

#: Documents of a first build, which loads and compiles what later ones find ready; the only one where it takes so many seconds.
_FIRST, _TOO_SLOW = 2, 40.0

#: Files of a PLAID index with a row a centroid, of which there are by the root of the tokens.
_OF_CENTROIDS = ("centroids.npy", "centroid_scales.npy", "posting_offsets.npy", "cluster_sizes.npy")


def build_estimate(data: Dataset, cls: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Of a build of the retriever `cls` over all documents: `seconds`, `bytes` (texts included), tokens or postings, and
    `sampled`, the documents that were built into indexes to tell them. Where nobody knows how many documents there are, all that is
    of the sample, which a `note` says; where the model is not on this machine there is only a `note`.

    Two sizes are built, and the larger less the smaller is taken for what their difference in documents costs, so that
    what every index has does not count as often as there are documents.
    """
    for model in (options.get(name) for name in ("model", "query_model", "expand")):
        if not is_at_hand(model):
            return {"note": f"{model} is not on this machine: seconds and bytes are told once it is"}
    if not data.has_documents or not (first := _documents(data, _FIRST)):
        return {}
    if hasattr(cls, "encoder_of"):  # models are shared by those that use them, and gone with the last
        keeping = cls.encoder_of(dict(options))
        _ = keeping.spec
    manifest, seconds = _built(data, cls, first, options)
    if seconds > _TOO_SLOW:  # pages by a large model on a CPU
        return _told(data, [(manifest, seconds, len(first))])
    few = _documents(data, _LEAST)
    built = [(*_built(data, cls, few, options), len(few))]
    if len(few) == _LEAST:
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
    total = data.num_documents or documents

    def scaled(value: float, less: float) -> float:
        return value + (value - less) * (total - documents) / (documents - (fewer[0][2] if fewer else 0))

    before = fewer[0][0] if fewer else None
    told: dict[str, Any] = {
        "sampled": documents,
        "seconds": round(max(0.0, scaled(seconds, fewer[0][1] if fewer else 0.0)), 1),
        "bytes": scaled(_linear_bytes(manifest), _linear_bytes(before) if before else 0),
    }
    for name in ("tokens", "postings", "word_vectors"):
        if name in manifest.counts:
            told[name] = round(scaled(manifest.counts[name], before.counts[name] if before else 0))
    told["bytes"] = round(told["bytes"] + _centroid_bytes(manifest, told.get("tokens", 0)))
    if data.num_documents is None:
        told["note"] = f"{data.id} does not say how many documents it has: told of the {documents} that were sampled"
    return told


def _linear_bytes(manifest: Manifest) -> int:
    """What grows with the documents."""
    return manifest.bytes - sum(_centroid_files(manifest).values())


def _centroid_bytes(manifest: Manifest, tokens: int) -> float:
    """What the centroids of an index of so many tokens take, by those of a smaller one; 0 where there are none."""
    files = _centroid_files(manifest)
    if not files:
        return 0
    there = files["centroid_scales.npy"] / 4  # float32, and a header
    return sum(files.values()) * (manifest.options.get("centroids") or centroid_count(tokens)) / there


def _centroid_files(manifest: Manifest) -> dict[str, int]:
    """Bytes of the files with a row a centroid, by name."""
    if manifest.kind != "plaid":
        return {}
    sizes = {Path(path).name: int(entry["bytes"]) for path, entry in manifest.files.items()}
    return {name: sizes[name] for name in _OF_CENTROIDS}
