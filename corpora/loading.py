"""One string names a dataset: `scheme:rest`."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError, suggest
from .dataset import Dataset
from .facts import beir_sets

#: Scheme → what follows it, for messages and `list_datasets`.
SCHEMES = {
    "beir": "PATH_OR_NAME[@SPLIT]: a BEIR folder, or a set of BEIR, downloaded once",
    "bright": "FOLDER@SPLIT[/long][+VARIANT]: BRIGHT's Parquet files, with a variant's reasoning to search with",
    "images": "PATH: a folder of pictures, or JSON lines with id and image",
    "ir_datasets": "ID: a dataset of the ir_datasets library",
    "jsonl": "PATH: requests with texts, or documents without queries",
    "sample": "stdlib: the documentation of this Python's standard library, with 80 judged questions",
    "trec": "DIR: documents, topics and qrels in TREC's formats",
}


def load_dataset(spec: str | Path) -> Dataset:
    """The dataset that `spec` names: `beir:PATH_OR_NAME[@SPLIT]`, `ir_datasets:ID`, `trec:DIR`, `jsonl:PATH`, `bright:FOLDER@SPLIT`,
    `images:PATH` or `sample:stdlib`. The path of a BEIR folder may stand alone. `UsageError` for anything else, with the nearest spelling.

    Queries and judgements are read now, documents only when asked for.
    """
    spec = str(spec)
    scheme, colon, rest = spec.partition(":")
    if not colon or scheme not in SCHEMES:
        return _load_path(spec)
    if not rest:
        raise UsageError(f"dataset {spec!r} names nothing after the colon: {scheme}:{SCHEMES[scheme]}")
    if rest.startswith("~"):  # no shell expands it behind a colon
        rest = str(Path(rest).expanduser())
    if scheme == "beir":
        from .beir import load_beir

        return load_beir(rest)
    if scheme == "bright":
        from .bright import load_bright

        return load_bright(rest)
    if scheme == "sample":
        from .sample import load_sample

        return load_sample(rest)
    if scheme == "trec":
        from .trec import load_trec

        return load_trec(Path(rest))
    if scheme == "jsonl":
        from .jsonl import load_jsonl

        return load_jsonl(Path(rest))
    if scheme == "images":
        from .images import load_images

        return load_images(Path(rest))
    from .from_ir_datasets import load_ir_datasets

    return load_ir_datasets(rest)


def _load_path(spec: str) -> Dataset:
    from .beir import is_beir_folder, load_beir

    path = Path(spec if Path(spec).exists() else spec.rpartition("@")[0] or spec)
    if spec and path.is_dir() and is_beir_folder(path):
        return load_beir(spec)
    if path.is_file() and path.name.removesuffix(".gz").endswith(".jsonl"):
        raise UsageError(f"dataset {spec!r} is a file: write jsonl:{spec}")
    if spec and path.is_dir():
        raise UsageError(f"dataset {spec!r} is a folder without queries.jsonl: for TREC's formats write trec:{spec}")
    scheme, colon, _ = spec.partition(":")
    if colon:
        raise UsageError(f"dataset {spec!r}: the scheme {scheme!r} is unknown: {suggest(scheme, SCHEMES)}")
    if spec in beir_sets():
        raise UsageError(f"dataset {spec!r}: did you mean 'beir:{spec}'?")
    forms = "; ".join(f"{scheme}:{form}" for scheme, form in SCHEMES.items())
    raise UsageError(f"dataset {spec!r} is neither a folder nor of the form scheme:rest ({forms})")


def list_datasets() -> list[tuple[str, str]]:
    """(name, one line about it): the sample, the sets of BEIR, and the forms for own data."""
    rows = [("sample:stdlib", "documentation of this Python's standard library, with 80 judged questions")]
    for name, facts in beir_sets().items():
        size = f", {facts.documents:,} documents" if facts.documents else ""
        parts = f", {len(facts.parts)} parts" if facts.parts else ""
        private = ", no download (licence)" if facts.private else ""
        rows.append((f"beir:{name}", f"{facts.description}{size}{parts}{private}"))
    rows += [
        (f"{scheme}:{form.split(':')[0]}", form.split(": ", 1)[1])
        for scheme, form in SCHEMES.items()
        if scheme != "sample"
    ]
    return rows
