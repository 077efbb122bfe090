"""BEIR folders: `corpus.jsonl`, `queries.jsonl`, `qrels/<split>.tsv`, each perhaps with `.gz`; and BEIR's sets by name."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from ..errors import InputError, SetupError, UsageError, suggest
from ..files import open_existing
from ..records import Qrels
from ..run_files import read_qrels
from .dataset import Dataset, PartedDataset
from .download import download_beir
from .facts import SetFacts, beir_sets, facts_of
from .json_lines import JsonLines, read_queries
from .judged import judged_only

logger = logging.getLogger("cribble")

#: Files up to this size are counted at load, so that progress bars know their end.
_COUNTED_BYTES = 32_000_000


def load_beir(where: str) -> Dataset:
    """`PATH_OR_NAME[@SPLIT]`: a BEIR folder, or a set's name, which is downloaded once. The split is `test` unless the set's
    facts say otherwise (msmarco: dev). CQADupStack has twelve parts; `cqadupstack/android` is one of them.
    """
    if not where:
        raise UsageError(f"beir: needs a folder or a name; {suggest('', beir_sets())}")
    name, _, split = where, "", ""
    if "@" in where and not Path(where).exists():
        name, _, split = where.rpartition("@")
        if not name or not split:
            raise UsageError(
                f"beir:{where}: expected a folder or name before the @ and a split after it, e.g. beir:scifact@test"
            )
    if Path(name).is_dir():
        return load_folder(Path(name), split=split, spec=f"beir:{name}")
    return _load_named(name, split)


def is_beir_folder(path: Path) -> bool:
    """Whether the folder has queries, which all BEIR folders have, or parts that do."""
    return _packed_or_not(path / "queries.jsonl") is not None or bool(_folders_in(path))


def _load_named(name: str, split: str) -> Dataset:
    set_name, _, part = name.partition("/")
    if set_name not in beir_sets():
        if Path(name).is_file():
            raise UsageError(f"beir:{name} is a file, expected a folder with corpus.jsonl, queries.jsonl and qrels/")
        raise UsageError(f"beir:{name}: no such folder, and no set of BEIR: {suggest(set_name, beir_sets())}")
    facts = beir_sets()[set_name]
    if part and part not in facts.parts:
        raise UsageError(f"beir:{name}: {set_name} has no part {part!r}: {suggest(part, facts.parts)}")
    folder = download_beir(set_name, facts)
    if part:
        folder = folder / part
        facts = replace(facts, parts={}, documents=facts.parts[part])
    return load_folder(folder, split=split, spec=f"beir:{name}", facts=facts)


def load_folder(path: Path, *, split: str = "", spec: str = "", facts: SetFacts | None = None) -> Dataset:
    """A BEIR folder as a dataset. Only the queries judged in `split` are kept, as BEIR does; the others are counted.

    Without a `qrels` folder all queries are kept and `qrels` is None; without a corpus `has_documents` is false.
    """
    spec = spec or f"beir:{path}"
    facts = facts or facts_of(path.resolve().name)
    queries_file = _packed_or_not(path / "queries.jsonl")
    if queries_file is None:
        return _load_parts(path, split, spec, facts)
    split, qrels = _judgements(path, split, spec, facts)
    queries = judged_only(read_queries(queries_file), qrels, queries_file, split)
    name = f"{spec}@{split}" if split else spec
    corpus_file = _packed_or_not(path / "corpus.jsonl")
    if corpus_file is None:
        logger.warning("%s has no corpus.jsonl: its queries and judgements can be used, documents can't", path)
        return Dataset(
            name,
            queries,
            qrels,
            measures=facts.measures,
            drop_self=facts.drop_self,
            description=facts.description,
        )
    corpus = JsonLines(corpus_file)
    next(iter(corpus))  # an empty or foreign file is better told now than after a model was loaded
    return Dataset(
        name,
        queries,
        qrels,
        open_documents=corpus.__iter__,
        lookup=corpus.get_many if corpus.seekable else None,
        num_documents=_count(corpus_file) or facts.documents,
        version=corpus.version,
        measures=facts.measures,
        drop_self=facts.drop_self,
        description=facts.description,
    )


def _judgements(path: Path, split: str, spec: str, facts: SetFacts) -> tuple[str, Qrels | None]:
    found = {
        file.name.removesuffix(".gz").removesuffix(".tsv"): file for file in sorted((path / "qrels").glob("*.tsv*"))
    }
    wanted = split or facts.default_split
    if not found:
        if split:
            raise UsageError(
                f"{spec}@{split}: {path / 'qrels'} holds no judgements (<split>.tsv), so there is no split to choose"
            )
        return "", None
    if wanted not in found:
        remedy = f"use {spec}@{next(iter(found))}" if len(found) == 1 else suggest(wanted, found)
        raise UsageError(f"{spec}: no split {wanted!r} in {path / 'qrels'} (there: {', '.join(found)}): {remedy}")
    return wanted, read_qrels(found[wanted], name=f"{spec}@{wanted}")


def _load_parts(path: Path, split: str, spec: str, facts: SetFacts) -> Dataset:
    folders = _folders_in(path)
    if not folders:
        inside = ", ".join(sorted(entry.name for entry in path.iterdir())[:12]) or "nothing"
        raise InputError(
            f"{path}: no BEIR folder: expected queries.jsonl[.gz], corpus.jsonl[.gz] and qrels/, found {inside}"
        )
    forums = beir_sets()["cqadupstack"].parts
    strangers = [name for name in folders if name not in forums]
    if strangers:
        choices = ", ".join(f"{spec}/{name}" for name in folders)
        raise UsageError(f"{spec} holds {len(folders)} BEIR folders: name one ({choices})")
    if len(folders) < len(forums):
        logger.warning(
            "%s: %d of CQADupStack's 12 forums are here; their mean is not BEIR's figure", path, len(folders)
        )
    facts = replace(beir_sets()["cqadupstack"], parts={})
    parts = {
        name: load_folder(folder, split=split, spec=f"{spec}/{name}", facts=replace(facts, documents=forums[name]))
        for name, folder in folders.items()
    }
    return PartedDataset(f"{spec}@{split or facts.default_split}", parts, facts.measures, facts.description)


def _folders_in(path: Path) -> dict[str, Path]:
    if not path.is_dir():
        return {}
    return {p.name: p for p in sorted(path.iterdir()) if p.is_dir() and _packed_or_not(p / "queries.jsonl")}


def _packed_or_not(path: Path) -> Path | None:
    """The file or its `.gz`; both at once are refused, as they may differ."""
    packed = path.with_name(path.name + ".gz")
    if path.is_file() and packed.is_file():
        raise SetupError(f"{path} and {packed.name} are both there: remove one")
    return next((p for p in (path, packed) if p.is_file()), None)


def _count(path: Path) -> int | None:
    """Number of lines of a small file: exact unless it has blank ones."""
    if path.stat().st_size > _COUNTED_BYTES:
        return None
    try:
        with open_existing(path) as stream:
            return sum(1 for line in stream if line.strip())
    except (OSError, EOFError):
        return None  # the pass over the documents says what is wrong, and where
